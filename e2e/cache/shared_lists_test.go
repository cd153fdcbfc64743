// Sessions of one credential get lists that another one of them asked for, as the server gives them.

package cache

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// countingFront passes everything on to a server and counts the requests by method.
type countingFront struct {
	url string

	mu     sync.Mutex
	counts map[string]int
}

func countBefore(t *testing.T, endpoint string) *countingFront {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	f := &countingFront{counts: make(map[string]int)}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: to.Scheme, Host: to.Host}) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var message struct{ Method string }
		if json.Unmarshal(body, &message) == nil {
			f.mu.Lock()
			f.counts[message.Method]++
			f.mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	f.url = s.URL + to.Path
	return f
}

// take returns the counts since it was called last.
func (f *countingFront) take() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := f.counts
	f.counts = make(map[string]int)
	return counts
}

// listMethods are what a session of TestSessionsShareLists lists.
var listMethods = []string{"tools/list", "prompts/list", "resources/list"}

// TestSessionsShareLists: without configuration, of twenty sessions one after the other of one kind of client on a real server
// with sessions, all lists from the third one on come from here; they are what the server gives directly.
func TestSessionsShareLists(t *testing.T) {
	t.Parallel()
	const sessions = 20
	for name, s := range map[string]struct {
		start harness.Server
		tool  string
		early bool // says to a Go client, which has roots, that its tools have changed: before it is asked for them, or just after
	}{"everything": {harness.NPMServer("streamableHttp"), "echo", true}, "go": {harness.GoStateful, "test_simple_text", false}} {
		for kind, run := range map[string]func(t *testing.T, url, tool string, n int) []string{"ts": typeScriptSessions, "go": goSessions} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				front := countBefore(t, s.start(t))
				want := run(t, front.url, s.tool, 1)[0]
				direct := front.take()
				d := harness.Start(t, harness.OneUpstream(front.url, ""))
				for i, got := range run(t, d.URL("/mcp/s"), s.tool, sessions) {
					if got != want {
						t.Fatalf("session %d was given\n%s\ndirectly\n%s", i, got, want)
					}
				}
				counts := front.take()
				lists := 0
				for _, method := range listMethods {
					lists += counts[method]
					most := 2
					if s.early && kind == "go" && method == "tools/list" {
						most = 8 // those who were told, told again, and not told learn apart
					}
					if direct[method] != 1 || counts[method] > most {
						t.Errorf("the server had %d %s of %d sessions, %d of one directly", counts[method], method, sessions, direct[method])
					}
				}
				if counts["initialize"] != sessions || counts["tools/call"] != sessions {
					t.Errorf("the server had %v", counts)
				}
				if all := sessions * len(listMethods); lists > all/5 {
					t.Errorf("the server was asked for %d of %d lists, want a fifth at most", lists, all)
				}
				t.Logf("%d of %d lists were answered here", sessions*len(listMethods)-lists, sessions*len(listMethods))
			})
		}
	}
}

// typeScriptSessions runs node/sessions.mjs.
func typeScriptSessions(t *testing.T, url, tool string, n int) []string {
	t.Helper()
	p := harness.StartProcess(t, nil, harness.Node, harness.Script("sessions"), url, strconv.Itoa(n), tool)
	p.Announced(t, "(done)\n")
	var lists []string
	for line := range strings.Lines(p.Out.String()) {
		if text, ok := strings.CutPrefix(line, "lists "); ok {
			lists = append(lists, text)
		}
	}
	if len(lists) != n {
		t.Fatalf("%d of %d sessions came to their end:\n%s", len(lists), n, p.Out)
	}
	return lists
}

func goSessions(t *testing.T, url, tool string, n int) []string {
	t.Helper()
	var all []string
	for range n {
		transport := &http.Transport{}
		client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, nil)
		session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: transport}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		tools, err := session.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		prompts, err := session.ListPrompts(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resources, err := session.ListResources(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: map[string]any{"message": "x"}}); err != nil {
			t.Fatal(err)
		}
		if err := session.Close(); err != nil {
			t.Fatal(err)
		}
		transport.CloseIdleConnections()
		all = append(all, string(harness.RawJSON([]any{tools, prompts, resources})))
	}
	return all
}
