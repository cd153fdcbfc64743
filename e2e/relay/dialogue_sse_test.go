// The HTTP+SSE transport of 2024-11-05 passes, whatever its server calls its endpoint.

package relay

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// oldScenarios are those of the `everything` suite that need no Streamable HTTP.
var oldScenarios = []string{
	"initialize", "lists", "calls", "progress", "sampling", "elicitation", "roots", "logging", "subscriptions",
	"list changes", "completion", "prompts", "resources", "cancellation", "errors", "several clients",
}

// throughOld is through for a server of the old HTTP+SSE transport (2024-11-05).
func throughOld(t testing.TB, upstream string) string {
	t.Helper()
	return harness.ThroughWith(t, upstream, "transport: sse")
}

// TestOldTransport plays dialogues over HTTP+SSE: TypeScript's SSE clients with npm's server and with the Go SDK's.
func TestOldTransport(t *testing.T) {
	for _, client := range []string{"ts1-sse", "ts2-sse"} {
		t.Run("everything/"+client, func(t *testing.T) {
			t.Parallel()
			dialogue(t, client, "everything", harness.NPMServer("sse"), throughOld, oldScenarios...)
		})
		t.Run("greeter/"+client, func(t *testing.T) {
			t.Parallel()
			dialogue(t, client, "greeter", harness.GoGreeter, throughOld)
		})
	}
}

// TestOldTransportEndpoints plays the same dialogue with every way in which a server may say where it takes messages:
// the URI of the `endpoint` event is resolved against the stream's own URL.
func TestOldTransportEndpoints(t *testing.T) {
	for _, client := range []string{"ts1-sse", "ts2-sse"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			names, urls := endpointRoutes(t, nil)
			plays := harness.ParsePlays(t, harness.RunNode(t, harness.Script("dialogue"), client, "greeter", strings.Join(urls, ",")), urls...)
			for i, name := range names {
				t.Run(name, func(t *testing.T) { harness.ComparePlays(t, plays[2*i], plays[2*i+1]) })
			}
		})
	}
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		names, urls := endpointRoutes(t, map[string]harness.Server{"example": harness.GoGreeter})
		for i, name := range names {
			cast := greeterCast("greet")
			if name == "example" {
				cast = greeterCast("greet1")
			}
			t.Run(name, func(t *testing.T) {
				harness.ComparePlays(t, cast.play(t, urls[2*i], goGreet), cast.play(t, urls[2*i+1], goGreet))
			})
		}
	})
}

// endpointRoutes starts servers with all forms of endpoints, and others, and returns their names and for each the URL of one, and that of
// another one through a daemon that is before all of them.
func endpointRoutes(t *testing.T, others map[string]harness.Server) (names, urls []string) {
	t.Helper()
	starts := map[string]harness.Server{}
	maps.Copy(starts, others)
	for name, form := range endpointForms {
		starts[name] = endpointServer(form)
	}
	upstreams := map[string]string{}
	for name, start := range starts {
		upstreams[name] = start(t)
	}
	c := harness.AllUpstreams(upstreams, "transport: sse")
	c.Top, c.Args, c.Steady = "", []string{"--log-level", "warn"}, true
	d := harness.Start(t, c)
	names = slices.Sorted(maps.Keys(starts))
	for _, name := range names {
		urls = append(urls, starts[name](t), d.URL("/mcp/"+name))
	}
	return names, urls
}

// endpointForms make the URI of an `endpoint` event of the server's origin and the session's query.
var endpointForms = map[string]func(origin, query string) string{
	"absolute": func(origin, query string) string { return origin + "/old/greeter" + query },
	"path":     func(_, query string) string { return "/old/greeter" + query },
	"relative": func(_, query string) string { return "greeter" + query },
	"query":    func(_, query string) string { return query },
}

func greeterCast(tool string) goCast {
	return goCast{old: true, simple: harness.Call{Tool: tool, Arguments: map[string]any{"name": "Ada"}}}
}

var goGreet = []goScenario{{"greet", func(p *goPlay) {
	a := p.connect()
	if a == nil {
		return
	}
	a.step("tools", func(ctx context.Context) error { return entries(a.ListTools(ctx, nil)) })
	a.step("call", func(ctx context.Context) error { return a.tool(ctx, p.cast.simple) })
	a.fails("unknown tool", func(ctx context.Context) error { return a.tool(ctx, harness.Call{Tool: "none", Arguments: nil}) })
	a.step("ping", func(ctx context.Context) error { return a.Ping(ctx, nil) })
}}}

// endpointServer is the Go SDK's SSE handler with another form of its endpoint, which is `?sessionid=...` by itself.
func endpointServer(form func(origin, query string) string) harness.Server {
	return func(t testing.TB) string {
		t.Helper()
		greeter := mcp.NewServer(&mcp.Implementation{Name: "greeter", Version: "1"}, nil)
		mcp.AddTool(greeter, &mcp.Tool{Name: "greet", Description: "says hi"}, harness.Greet)
		handler := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return greeter }, nil)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(&endpointWriter{ResponseWriter: w, form: func(query string) string { return form("http://"+r.Host, query) }}, r)
		}))
		t.Cleanup(func() {
			srv.CloseClientConnections()
			srv.Close()
		})
		return srv.URL + "/old/greeter"
	}
}

// endpointWriter rewrites the data of the first event, which the handler writes in one piece.
type endpointWriter struct {
	http.ResponseWriter
	form    func(query string) string
	written bool
}

func (w *endpointWriter) Write(b []byte) (int, error) {
	before, query, found := strings.Cut(string(b), "?sessionid=")
	if w.written || !found {
		return w.ResponseWriter.Write(b)
	}
	w.written = true
	query, after, _ := strings.Cut(query, "\n")
	text := before[:strings.LastIndexByte(before, ' ')+1] + w.form("?sessionid="+query) + "\n" + after
	if _, err := w.ResponseWriter.Write([]byte(text)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Unwrap lets http.ResponseController flush.
func (w *endpointWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is for handlers that look for http.Flusher.
func (w *endpointWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }
