//lint:file-ignore SA1019 log messages and sampling are deprecated, and in use.

package streamable_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/session/multiplex"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
)

// children are the servers that the test binary is when it is started again.
var children = map[string]func(){
	"both":   func() { sdkServer(false) },
	"legacy": func() { sdkServer(true) },
}

func TestMain(m *testing.M) {
	mcptest.RunChild(children)
	goleak.VerifyTestMain(m)
}

type echoIn struct {
	Text  string `json:"text"`
	Times int    `json:"times,omitempty"`
}

// sdkServer is a server of the official SDK over stdio, with state. The SDK speaks both eras; one that is to be legacy refuses
// server/discover as older servers do.
func sdkServer(legacy bool) {
	var mu sync.Mutex
	count := 0
	server := sdk.NewServer(&sdk.Implementation{Name: "child", Version: "1"}, &sdk.ServerOptions{
		SubscribeHandler:   func(context.Context, *sdk.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
	})
	server.AddResource(&sdk.Resource{URI: "memo://one", Name: "one"}, func(_ context.Context, r *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: r.Params.URI, Text: "one"}}}, nil
	})
	text := func(format string, args ...any) *sdk.CallToolResult {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprintf(format, args...)}}}
	}
	sdk.AddTool(server, &sdk.Tool{Name: "echo"}, func(_ context.Context, r *sdk.CallToolRequest, in echoIn) (*sdk.CallToolResult, any, error) {
		return text("%s", in.Text), nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "count"}, func(context.Context, *sdk.CallToolRequest, echoIn) (*sdk.CallToolResult, any, error) {
		mu.Lock()
		defer mu.Unlock()
		count++
		return text("%d", count), nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "progress"}, func(ctx context.Context, r *sdk.CallToolRequest, in echoIn) (*sdk.CallToolResult, any, error) {
		for i := range in.Times {
			err := r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Message: in.Text})
			if err != nil {
				return nil, nil, err
			}
		}
		return text("%s", in.Text), nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "log"}, func(ctx context.Context, r *sdk.CallToolRequest, in echoIn) (*sdk.CallToolResult, any, error) {
		err := r.Session.Log(ctx, &sdk.LoggingMessageParams{Level: "info", Data: in.Text})
		return text("%s", in.Text), nil, err
	})
	sdk.AddTool(server, &sdk.Tool{Name: "sample"}, func(ctx context.Context, r *sdk.CallToolRequest, in echoIn) (*sdk.CallToolResult, any, error) {
		res, err := r.Session.CreateMessage(ctx, &sdk.CreateMessageParams{
			MaxTokens: 1, Messages: []*sdk.SamplingMessage{{Role: "user", Content: &sdk.TextContent{Text: in.Text}}},
		})
		if err != nil {
			return nil, nil, err
		}
		return text("%s", res.Content.(*sdk.TextContent).Text), nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "die"}, func(context.Context, *sdk.CallToolRequest, echoIn) (*sdk.CallToolResult, any, error) {
		os.Exit(3)
		return nil, nil, nil
	})
	if legacy {
		server.AddReceivingMiddleware(func(next sdk.MethodHandler) sdk.MethodHandler {
			return func(ctx context.Context, method string, r sdk.Request) (sdk.Result, error) {
				if method == "server/discover" {
					return nil, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "no such method"}
				}
				return next(ctx, method, r)
			}
		})
	}
	if err := server.Run(context.Background(), &sdk.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// rig is a stdio server behind the daemon's handler, over HTTP.
type rig struct {
	pool  *stdio.Pool
	store *streamable.Store
	front *streamable.Front
	up    *stdio.Upstream
	url   string
}

// options change what a rig is made of.
type options struct {
	child string
	start stdio.Start
	pool  func(*stdio.PoolOptions)
	front func(*streamable.Options)
	store *streamable.Store
	path  string // of the sessions' file; the Store is not closed: it is killed
	log   *slog.Logger

	replicas int // of the process that the sessions share; 0: each has its own
}

func newRig(t testing.TB, o options) *rig {
	t.Helper()
	r := &rig{store: o.store}
	if r.store == nil {
		r.store = streamable.NewStore(streamable.StoreOptions{Path: o.path, Log: o.log})
	}
	if o.path == "" {
		t.Cleanup(r.store.Close)
	}
	po := stdio.PoolOptions{Name: "child", Start: o.start, Log: o.log}
	if o.start == nil {
		po.Start = starting(o.child)
	}
	if o.pool != nil {
		o.pool(&po)
	}
	r.pool = stdio.NewPool(po)
	t.Cleanup(r.pool.Close)
	fo := streamable.Options{Upstream: "child", Store: r.store, Open: opener(r.pool)}
	if o.replicas > 0 {
		x := multiplex.New(multiplex.Options{Upstream: "child", Version: "test", Replicas: o.replicas, Start: shareOpener(r.pool), Log: o.log})
		t.Cleanup(x.Close)
		fo.Open = shared(x)
	}
	if o.front != nil {
		o.front(&fo)
	}
	r.front = streamable.New(fo)
	t.Cleanup(r.front.Close)
	r.up = stdio.New(stdio.Options{Pool: r.pool, Legacy: r.front})
	return r
}

// starting starts the test binary as a child.
func starting(child string) stdio.Start {
	return func(context.Context) (stdio.Process, func(), error) {
		c, err := mcptest.StartChild(child)
		if err != nil {
			return nil, nil, err
		}
		return c, nil, nil
	}
}

// opener is the pool as a Front knows it: neither package imports the other.
func opener(p *stdio.Pool) func(context.Context, []byte, *mcp.Message, func([]byte, *mcp.Message)) (streamable.Server, []byte, *mcp.Failure) {
	return func(ctx context.Context, body []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (streamable.Server, []byte, *mcp.Failure) {
		l, answer, f := p.Open(ctx, body, m, other)
		if f != nil {
			return nil, nil, f
		}
		return l, answer, nil
	}
}

// shareOpener is the pool as a Multiplexer knows it.
func shareOpener(p *stdio.Pool) func(context.Context, []byte, *mcp.Message, func([]byte, *mcp.Message)) (multiplex.Process, []byte, *mcp.Failure) {
	return func(ctx context.Context, body []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (multiplex.Process, []byte, *mcp.Failure) {
		l, answer, f := p.Open(ctx, body, m, other)
		if f != nil {
			return nil, nil, f
		}
		return l, answer, nil
	}
}

// shared is the Multiplexer as a Front knows it.
func shared(x *multiplex.Multiplexer) func(context.Context, []byte, *mcp.Message, func([]byte, *mcp.Message)) (streamable.Server, []byte, *mcp.Failure) {
	return func(ctx context.Context, body []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (streamable.Server, []byte, *mcp.Failure) {
		s, answer, f := x.Open(ctx, body, m, other)
		if f != nil {
			return nil, nil, f
		}
		return s, answer, nil
	}
}

// unbounded lets every call through.
type unbounded struct{}

func (unbounded) Enter(context.Context, *mcp.Call) (func(), time.Duration, *mcp.Failure) {
	return nil, 0, nil
}
func (unbounded) Stats() (inFlight, queued int) { return 0, 0 }

// serve puts the daemon's handler before the upstream, with dispatch between them as in the daemon.
func (r *rig) serve(t testing.TB) string {
	t.Helper()
	d := dispatch.New(dispatch.Options{
		Upstream: "child", Endpoints: []dispatch.Endpoint{{Caller: r.up}}, Admission: unbounded{}, Repeatable: (*mcp.Call).Repeatable,
	})
	arrays := rpc.New(rpc.Options{Upstream: "child", Version: "test", Next: d, Timeout: time.Minute, Partition: func(*mcp.Call) [32]byte { return [32]byte{} }})
	t.Cleanup(arrays.Close)
	h, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Route{{Name: "child", Caller: d, Array: arrays, URL: &url.URL{Scheme: "http", Host: "stdio.invalid"}}}, BodyLimit: 16 << 20, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	r.url = server.URL + "/mcp/child"
	return r.url
}

// connect is a session of the official client.
func connect(t testing.TB, url string, o *sdk.ClientOptions) *sdk.ClientSession {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, o)
	s, err := c.Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: transport}}, nil)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return s
}

// tool calls a tool and returns its text.
func tool(t testing.TB, s *sdk.ClientSession, name string, in echoIn) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), mcptest.WaitTimeout)
	defer cancel()
	res, err := s.CallTool(ctx, &sdk.CallToolParams{Name: name, Arguments: in})
	if err != nil {
		return "", err
	}
	if res.IsError || len(res.Content) != 1 {
		b, _ := json.Marshal(res)
		return "", fmt.Errorf("a tool error: %s", b)
	}
	return res.Content[0].(*sdk.TextContent).Text, nil
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(mcptest.WaitTimeout); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}
