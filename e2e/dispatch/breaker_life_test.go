// What opens a circuit breaker and what does not, of the ways in which servers that work say no.

package dispatch

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// discoverSpoils are the ways in which servers that do not know server/discover say so.
var discoverSpoils = map[string]mcptest.Script{
	"400": mcptest.Saying(400, "text/plain", "bad"), "404": mcptest.Saying(404, "text/html", "<p>no"), "405": mcptest.Saying(405, "", ""),
	"500": mcptest.Saying(500, "text/plain", "broken"), "501": mcptest.Saying(501, "text/plain", "what?"),
	"502": mcptest.Saying(502, "text/html", "<p>no"), "503": mcptest.Saying(503, "text/plain", "no"), "504": mcptest.Saying(504, "", ""),
	"a hang-up": mcptest.CloseBeforeHead, "a reset": mcptest.ResetBeforeHead, "HTML": mcptest.Saying(200, "text/html", "<p>hello"),
	"cut": mcptest.CutLength, "a stream without an answer": mcptest.EndBeforeAnswer,
	"not initialized": mcptest.Saying(400, harness.JSONType, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}`),
}

// TestDiscoverDoesNotOpenTheCircuit: however often an old server fails server/discover, its `initialize` and calls go through at
// once.
func TestDiscoverDoesNotOpenTheCircuit(t *testing.T) {
	t.Parallel()
	discover, fields := harness.Modern("5", "server/discover")
	for name, spoil := range discoverSpoils {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				if x.Method() == "server/discover" {
					spoil(x)
					return
				}
				mcptest.Minimal(x)
			})
			d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
			for i := range 5 {
				a := d.Agent(t)
				a.Post(discover, fields...)
				if r := a.Post(harness.InitializeRequest); !rpcOK(r) || r.Took > harness.Soon {
					t.Fatalf("agent %d's initialize: %d %s after %v", i, r.Status, r.Body, r.Took)
				}
				a.Works()
			}
			for range 25 {
				d.Agent(t).Post(discover, fields...)
			}
			if n := d.BreakerState("s"); n != 0 {
				t.Errorf("the breaker's state is %v", n)
			}
			d.Agent(t).Works()
		})
	}
}

// TestInitializeIsTheProbe: an open breaker lets an `initialize` through at once, one at a time and a second apart, and no
// server/discover.
func TestInitializeIsTheProbe(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.CloseBeforeHead)
	d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
	a := d.Agent(t)
	harness.Eventually(t, "open", func() bool { return isNotCalled(t, a) })
	<-time.After(3 * time.Second) // so that the next probes are more than a second apart
	isNotCalled(t, a)
	isNotCalled(t, a)
	s.Script(mcptest.Minimal)
	asked := s.Received()
	discover, fields := harness.Modern("5", "server/discover")
	a.Post(discover, fields...)
	if n := s.Received(); n != asked {
		t.Errorf("server/discover was the probe")
	}
	begun := time.Now()
	harness.Eventually(t, "answered", func() bool { return rpcOK(a.Post(harness.InitializeRequest)) })
	if took := time.Since(begun); took > time.Second+harness.Soon {
		t.Errorf("initialize got through after %v", took)
	}
	a.Works()
}

// TestGoClientConnects: the Go SDK's client connects through the daemon wherever it does so directly, and as soon.
func TestGoClientConnects(t *testing.T) {
	t.Parallel()
	for name, spoil := range discoverSpoils {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := spoiltDiscover(t, spoil)
			direct, err := goConnect(t, endpoint)
			if err != nil {
				t.Logf("directly: %v", err)
				if name != "HTML" && !strings.HasPrefix(name, "a ") && name != "cut" {
					t.Errorf("directly: %v", err)
				}
			}
			url := harness.Through(t, endpoint)
			fastest := harness.MaxWait
			for i := range 2 {
				took, through := goConnect(t, url)
				if through != nil {
					t.Errorf("agent %d: %v after %v", i, through, took)
				}
				fastest = min(fastest, took)
			}
			if err == nil && fastest > direct+5*time.Second {
				t.Errorf("the faster of two connected after %v, directly one did after %v", fastest, direct)
			}
		})
	}
}

// spoiltDiscover is a legacy server of the Go SDK's that answers server/discover in another way.
func spoiltDiscover(t *testing.T, spoil mcptest.Script) string {
	t.Helper()
	greeter := mcp.NewServer(&mcp.Implementation{Name: "greeter", Version: "1"}, nil)
	mcp.AddTool(greeter, &mcp.Tool{Name: "greet", Description: "says hi"}, harness.Greet)
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return greeter }, nil)
	s := mcptest.NewServer(t, spoil)
	to, err := url.Parse("http://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	spoilt := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: &http.Transport{DisableKeepAlives: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Method") == "server/discover" {
			spoilt.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		for session := range greeter.Sessions() {
			session.Close()
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL + "/mcp"
}

// goConnect connects, calls a tool and says how long the connecting took.
func goConnect(t *testing.T, endpoint string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(t.Context(), harness.MaxWait)
	defer cancel()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	begun := time.Now()
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: endpoint, HTTPClient: &http.Client{Transport: base}}, nil)
	took := time.Since(begun)
	if err != nil {
		return took, err
	}
	defer session.Close()
	_, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "greet", Arguments: harness.Greeting{Name: "Ada"}})
	return took, err
}

// TestAnswersKeepTheCircuitClosed: a server that answers in JSON-RPC is alive, at any status, however bad the news.
func TestAnswersKeepTheCircuitClosed(t *testing.T) {
	t.Parallel()
	says := func(status int, kind, body string) mcptest.Script {
		return func(x *mcptest.Exchange) { x.Say(status, kind, strings.ReplaceAll(body, "ID", x.ID())) }
	}
	const failed = `{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"broken"}}`
	for name, script := range map[string]mcptest.Script{
		"500":                  says(500, harness.JSONType, failed),
		"502":                  says(502, harness.JSONType, failed),
		"503":                  says(503, harness.JSONType, failed),
		"504":                  says(504, harness.JSONType, failed),
		"500, a result":        says(500, harness.JSONType, `{"jsonrpc":"2.0","id":ID,"result":{"isError":true,"content":[]}}`),
		"500 without an id":    says(500, harness.JSONType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"broken"}}`),
		"500, no id at all":    says(500, harness.JSONType, `{"jsonrpc":"2.0","error":{"code":-32603,"message":"broken"}}`),
		"500 as an event":      says(500, harness.SSEType, "event: message\ndata: "+failed+"\n\n"),
		"500 in Latin-1":       says(500, harness.JSONType, strings.Replace(failed, "broken", "cass\xe9", 1)),
		"500, a lone half":     says(500, harness.JSONType, strings.Replace(failed, "broken", `\ud83d`, 1)),
		"500, a null result":   says(500, harness.JSONType, strings.Replace(failed, `"error"`, `"result":null,"error"`, 1)),
		"400":                  says(400, harness.JSONType, failed),
		"200, another's id":    says(200, harness.JSONType, `{"jsonrpc":"2.0","id":"x","result":{}}`),
		"200, not JSON":        says(200, harness.JSONType, "rubbish"),
		"200, a page":          says(200, "text/html", "<p>hello"),
		"202":                  says(202, "", ""),
		"200, a rubbish event": says(200, harness.SSEType, "data: rubbish\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
			a, bob := d.Agent(t), d.Agent(t)
			for i := range 25 {
				method := []string{"tools/call", "tools/list"}[i%2]
				asked := s.Received()
				s.Once(script)
				a.Post(harness.Request(fmt.Sprint(i), method))
				if n := s.Received() - asked; n != 1 {
					t.Fatalf("%s was sent %d times", method, n)
				}
				if r := bob.Post(harness.Request("1", "tools/call")); !rpcOK(r) {
					t.Fatalf("after %d: a good call of another agent's got %d %s", i+1, r.Status, r.Body)
				}
			}
			s.Script(script)
			for range 25 {
				a.Post(harness.Request("1", "tools/call"))
			}
			if n := d.BreakerState("s"); n != 0 {
				t.Errorf("the breaker's state is %v", n)
			}
		})
	}
}

// TestARequestCountsOnce: a read with its two repeats is one failure of three, in both forms.
func TestARequestCountsOnce(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]mcptest.Script{
		"503":                 mcptest.Saying(503, "text/plain", "busy"),
		"502, a page":         mcptest.Saying(502, "text/html", "<p>bad gateway"),
		"503, another's id":   mcptest.Saying(503, harness.JSONType, `{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"m"}}`),
		"reset, nothing done": mcptest.ResetBeforeHead,
		"reset, answer lost":  mcptest.Executing(mcptest.CutLength),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, script)
			d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
			a := d.Agent(t)
			for i := range 2 {
				asked := s.Received()
				a.Post(harness.Request("1", "tools/list"))
				if n := s.Received() - asked; i == 0 && n != 3 {
					t.Errorf("the read was sent %d times, want 3", n)
				}
				if n := d.BreakerState("s"); n != 0 {
					t.Fatalf("the breaker's state is %v after %d reads", n, i+1)
				}
			}
			a.Post(harness.Request("1", "tools/list"))
			if n := d.BreakerState("s"); n == 0 {
				t.Error("three failed reads in a row did not open the breaker")
			}
		})
	}
}
