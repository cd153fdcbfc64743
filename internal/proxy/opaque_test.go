package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// oddBody is a body that the daemon does not understand, or not wholly.
type oddBody struct {
	name, body string
	header     []string
}

// opaqueBodies are those of which it cannot be known what they are.
func opaqueBodies(t *testing.T) []oddBody {
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	version := func(v string) []string { return []string{"Mcp-Protocol-Version", v} }
	return []oddBody{
		{"empty", ``, nil},
		{"no JSON", `{"jsonrpc":`, nil},
		{"a form", `method=ping&id=1`, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a string", `"x"`, nil},
		{"something after the end", ping + ping, nil},
		{"lines", ping + "\n" + ping + "\n", []string{"Content-Type", "application/x-ndjson"}},
		{"a name twice", `{"jsonrpc":"2.0","id":7,"method":"a","method":"b"}`, nil},
		{"an escaped name twice", `{"jsonrpc":"2.0","id":7,"method":"a","\u006dethod":"b"}`, nil},
		{"an id twice", `{"jsonrpc":"2.0","id":7,"id":8,"method":"a"}`, nil},
		{"an object as id", `{"jsonrpc":"2.0","id":{},"method":"a"}`, nil},
		{"JSON-RPC 1.0", `{"id":1,"method":"a","params":[]}`, nil},
		{"deep", `{"jsonrpc":"2.0","id":7,"method":"a","params":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, nil},
		{"an array", `[` + ping + `]`, version("2025-06-18")},
		{"an array of old", `[` + ping + `]`, version("2025-03-26")},
		{"an array of new", `[` + ping + `]`, version("2026-07-28")},
		{"an array without a version", ` [` + ping + `, 7]`, nil},
		{"an empty array", `[]`, nil},
		{"gzip", gzipped(t, ping), []string{"Content-Encoding", "gzip"}},
		{"plain, said to be encoded", ping, []string{"Content-Encoding", "br"}},
		{"encoded twice", ping, []string{"Content-Encoding", "identity, gzip"}},
		{"UTF-16", "\xff\xfe{\x00}\x00", []string{"Content-Type", "application/json; charset=utf-16"}},
	}
}

// looseBodies are those of which it is clear what they are, with the lane and the method.
var looseBodies = []struct {
	oddBody
	lane   mcp.Lane
	method mcp.Method
	id     string
}{
	{oddBody{"half a pair", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arguments":{"t":"\ud83d"}}}`, nil}, mcp.LaneRequest, mcp.MethodToolsCall, `7`},
	{oddBody{"no UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\"}}", nil}, mcp.LaneRequest, mcp.MethodToolsCall, `"a"`},
	{oddBody{"a byte order mark", "\ufeff{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}", nil}, mcp.LaneRequest, mcp.MethodPing, `7`},
	{oddBody{"null params", `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":null}`, nil}, mcp.LaneRequest, mcp.MethodToolsList, `7`},
	{oddBody{"null params of a notification", `{"jsonrpc":"2.0","method":"notifications/initialized","params":null}`, nil}, mcp.LaneNotification, mcp.MethodInitialized, ""},
	{oddBody{"VS Code's answer to a ping", `{"jsonrpc":"2.0","id":1}`, nil}, mcp.LaneResponse, mcp.MethodNone, `1`},
	{oddBody{"a null error", `{"jsonrpc":"2.0","id":1,"result":{},"error":null}`, nil}, mcp.LaneResponse, mcp.MethodNone, `1`},
	{oddBody{"a null result", `{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"m"}}`, nil}, mcp.LaneResponse, mcp.MethodNone, `1`},
}

// observed is a handler whose log and metrics are looked at, in front of a server that takes everything.
type observed struct {
	base string
	reg  *prometheus.Registry
	log  strings.Builder
	got  mcp.Call
}

func observe(t *testing.T, answer func() (*mcp.Result, error), change func(*proxy.Options)) *observed {
	t.Helper()
	o := &observed{reg: prometheus.NewRegistry()}
	_, o.base = newHandler(t, func(_ context.Context, c *mcp.Call) (*mcp.Result, error) { o.got = *c; return answer() }, func(p *proxy.Options) {
		p.Metrics = proxy.NewMetrics(o.reg)
		p.Log = slog.New(slog.NewTextHandler(&o.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if change != nil {
			change(p)
		}
	})
	return o
}

func accepted() (*mcp.Result, error) { return &mcp.Result{Status: 202, Header: header.List{}}, nil }

// TestOpaque holds that what the daemon does not understand reaches the server as it came, with its header.
func TestOpaque(t *testing.T) {
	for _, c := range opaqueBodies(t) {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, old transport %v", c.name, old), func(t *testing.T) {
				o := observe(t, accepted, func(o *proxy.Options) { o.Upstreams[0].OldTransport = old })
				path, lane := "/mcp/s", mcp.LaneOpaque
				if old {
					path, lane = "/mcp/s/message/x", mcp.LaneMessage
				}
				a := do(t, "POST", o.base+path, c.body, append([]string{"X-Own", "1", "Mcp-Session-Id", "mine"}, c.header...)...)
				if a.status != 202 {
					t.Fatalf("got %d %s", a.status, a.body)
				}
				checkOpaque(t, c, o, lane)
			})
		}
	}
}

func checkOpaque(t *testing.T, c oddBody, o *observed, lane mcp.Lane) {
	t.Helper()
	got := o.got
	if string(got.Body) != c.body || got.Lane != lane || got.Method() != mcp.MethodOther || got.ID() != nil {
		t.Errorf("the server got %q on lane %d, method %v, id %s", got.Body, got.Lane, got.Method(), got.ID())
	}
	if array := strings.HasPrefix(strings.TrimSpace(c.body), "[{"); array != (got.Message.Kind == mcp.KindBatch) {
		t.Errorf("its kind is %d", got.Message.Kind)
	}
	want := append([]string{"X-Own", "1"}, c.header...)
	if got.Version != "2026-07-28" { // which has no sessions
		want = append(want, "Mcp-Session-Id", "mine")
	}
	for i := 0; i < len(want); i += 2 {
		if v := slices.Collect(got.Header.Values(want[i])); len(v) != 1 || v[0] != want[i+1] {
			t.Errorf("%s is %q, want %q", want[i], v, want[i+1])
		}
		if want[i] == "Mcp-Protocol-Version" && (got.Version != want[i+1] || got.Era != mcp.EraOf(want[i+1])) {
			t.Errorf("version %q, era %v", got.Version, got.Era)
		}
	}
	if n := requestsOf(t, o.reg, "other", "ok"); n != 1 {
		t.Errorf("%v requests are counted as other, want 1", n)
	}
	if line := o.log.String(); !strings.Contains(line, " method=other ") {
		t.Errorf("the access line is %s", line)
	}
}

// TestLoose holds that a message whose meaning is clear reaches the server as it came, as what it is.
func TestLoose(t *testing.T) {
	for _, c := range looseBodies {
		t.Run(c.name, func(t *testing.T) {
			o := observe(t, accepted, nil)
			if a := do(t, "POST", o.base+"/mcp/s", c.body, "X-Own", "1"); a.status != 202 {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			got := o.got
			if string(got.Body) != c.body || got.Lane != c.lane || got.Method() != c.method || string(got.ID()) != c.id || !got.Message.Loose {
				t.Errorf("the server got %q on lane %d, method %v, id %s, loose %v", got.Body, got.Lane, got.Method(), got.ID(), got.Message.Loose)
			}
			if got.Header.Get("X-Own") != "1" {
				t.Errorf("the header is %v", got.Header)
			}
		})
	}
}

// TestIdentity holds that a body that is said to be encoded in no way is understood.
func TestIdentity(t *testing.T) {
	o := observe(t, accepted, nil)
	do(t, "POST", o.base+"/mcp/s", listTools, "Content-Encoding", "identity")
	if o.got.Lane != mcp.LaneRequest || o.got.Method() != mcp.MethodToolsList || o.got.Header.Get("Content-Encoding") != "identity" {
		t.Errorf("lane %d, method %v, %v", o.got.Lane, o.got.Method(), o.got.Header)
	}
}

// TestOpaqueErrors holds the daemon's own errors for what it does not understand: by status and without an id, whatever
// `errors` says.
func TestOpaqueErrors(t *testing.T) {
	busy := mcp.Failure{Code: 1429, Reason: mcp.ReasonQueueFull, Sent: mcp.SentNo}
	restarted := mcp.Failure{Code: 1410, Reason: mcp.ReasonSessionRestarted, Sent: mcp.SentNo}
	late := mcp.Failure{Code: 1504, Reason: mcp.ReasonCallTimeout, Sent: mcp.SentYes}
	for _, c := range opaqueBodies(t) {
		for status, f := range map[int]mcp.Failure{410: restarted, 429: busy, 504: late} {
			for _, byStatus := range []bool{false, true} {
				_, base := newHandler(t, failing(f), func(o *proxy.Options) { o.ErrorsHTTP = byStatus })
				checkNoID(t, c, do(t, "POST", base+"/mcp/s", c.body, c.header...), status, f.Code)
			}
		}
		d, base := newHandler(t, answering("{}"), nil)
		d.Drain()
		d.Refuse()
		checkNoID(t, c, do(t, "POST", base+"/mcp/s", c.body, c.header...), 503, 1503)
	}
}

func checkNoID(t *testing.T, c oddBody, a answer, status, code int) {
	t.Helper()
	want := fmt.Sprintf(`{"jsonrpc":"2.0","error":{"code":%d,`, code)
	if a.status != status || !strings.HasPrefix(a.body, want) || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: got %d %v %s, want %d %s", c.name, a.status, a.header["Content-Type"], a.body, status, want)
	}
}

// TestLooseErrors holds that a loose request is answered with a failure under its own id, as any request.
func TestLooseErrors(t *testing.T) {
	_, base := newHandler(t, failing(mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo}), nil)
	for _, c := range looseBodies {
		a := do(t, "POST", base+"/mcp/s", c.body)
		status, want := 200, `{"jsonrpc":"2.0","id":`+c.id+`,"error":{"code":1502,`
		if c.lane != mcp.LaneRequest {
			status, want = 502, `{"jsonrpc":"2.0","error":{"code":1502,`
		}
		if a.status != status || !strings.HasPrefix(a.body, want) {
			t.Errorf("%s: got %d %s, want %d %s", c.name, a.status, a.body, status, want)
		}
	}
}

// TestRPCEncoded holds that /rpc says what is wrong with a body that it would have to take apart.
func TestRPCEncoded(t *testing.T) {
	for _, coding := range []string{"gzip", "GZIP", "br", "identity, zstd", "x-unknown"} {
		o := observe(t, accepted, arrays(answering(`[]`)))
		a := do(t, "POST", o.base+"/rpc/s", gzipped(t, arrayBody), "Content-Encoding", coding)
		if a.status != 415 || a.header.Get("Accept-Encoding") != "identity" || !strings.Contains(a.body, "Content-Encoding") {
			t.Errorf("%s: got %d %v %s", coding, a.status, a.header, a.body)
		}
		if n := requestsOf(t, o.reg, "rpc", "http_error"); n != 1 {
			t.Errorf("%s: %v requests are counted, want 1", coding, n)
		}
	}
	_, base := newHandler(t, answering("{}"), arrays(answering(`[]`)))
	if a := do(t, "POST", base+"/rpc/s", arrayBody, "Content-Encoding", "identity"); a.status != 200 {
		t.Errorf("identity: got %d %s", a.status, a.body)
	}
}

// scanned is a whole answer as the upstream hands it on.
func scanned(status int, body string) *mcp.Result {
	res := jsonResult(body)
	res.Status = status
	if mcp.Scan(res.Body, &res.Message) != nil {
		res.Message = mcp.Message{}
	}
	return res
}

// TestAnswerOutcomes holds what is counted for an answer, and that it reaches the agent byte for byte in one write.
func TestAnswerOutcomes(t *testing.T) {
	const (
		ok     = `{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`
		other  = `{"jsonrpc":"2.0","id":"1","result":{"t":"cut \ud83d"}}`
		failed = `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}`
		notify = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	)
	html := `<html>` + strings.Repeat("x", 60<<10)
	for _, c := range []struct {
		name, body string
		status     int
		answer     string
		method     string
		outcome    string
	}{
		{"a result", listTools, 200, ok, "tools/list", "ok"},
		{"a loose result with another id", listTools, 200, other, "tools/list", "ok"},
		{"an error", listTools, 200, failed, "tools/list", "rpc_error"},
		{"an error by status", listTools, 400, failed, "tools/list", "rpc_error"},
		{"a result by status", listTools, 500, ok, "tools/list", "ok"},
		{"a page", listTools, 200, html, "tools/list", "opaque"},
		{"a page by status", listTools, 502, html, "tools/list", "http_error"},
		{"an array of one", listTools, 200, `[` + ok + `]`, "tools/list", "opaque"},
		{"a notification as an answer", listTools, 200, notify, "tools/list", "opaque"},
		{"nothing", listTools, 202, ``, "tools/list", "ok"},
		{"an error for what is no JSON", `{`, 400, failed, "other", "rpc_error"},
		{"an array for an array", `[` + notify + `]`, 200, `[` + ok + `]`, "other", "opaque"},
		{"text for a notification", notify, 202, `Accepted`, "notifications/initialized", "ok"},
		{"text for a response", `{"jsonrpc":"2.0","id":1}`, 200, `ok`, "response", "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			d, err := proxy.New(proxy.Options{
				Upstreams: []proxy.Route{{Name: "s", URL: mustURL(t, "http://server.test/mcp"), Caller: mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
					return scanned(c.status, c.answer), nil
				})}},
				BodyLimit: 1 << 20, Metrics: proxy.NewMetrics(reg),
			})
			if err != nil {
				t.Fatal(err)
			}
			w := &writes{ResponseRecorder: httptest.NewRecorder()}
			d.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/mcp/s", strings.NewReader(c.body)))
			if got := w.Body.String(); w.Code != c.status || got != c.answer || w.n != min(1, len(c.answer)) {
				t.Errorf("got %d and %d bytes in %d writes, want %d and %d bytes", w.Code, len(got), w.n, c.status, len(c.answer))
			}
			if n := requestsOf(t, reg, c.method, c.outcome); n != 1 {
				t.Errorf("%v requests of %s are counted as %s, want 1", n, c.method, c.outcome)
			}
		})
	}
}

// TestOutcomesUnseen holds what is counted for an answer that passes without being looked into: its type says whether it
// can be one.
func TestOutcomesUnseen(t *testing.T) {
	of := func(fields ...string) (l header.List) {
		for i := 0; i < len(fields); i += 2 {
			l.Set(fields[i], fields[i+1])
		}
		return l
	}
	const notify = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	for _, c := range []struct {
		name, body string
		status     int
		header     header.List
		method     string
		outcome    string
	}{
		{"a page", listTools, 200, of("Content-Type", "text/html; charset=utf-8"), "tools/list", "opaque"},
		{"text", listTools, 200, of("Content-Type", "text/plain"), "tools/list", "opaque"},
		{"a page by status", listTools, 502, of("Content-Type", "text/html"), "tools/list", "http_error"},
		{"a large answer", listTools, 200, of("Content-Type", "Application/JSON ; charset=utf-8"), "tools/list", "ok"},
		{"an encoded answer", listTools, 200, of("Content-Type", "application/json", "Content-Encoding", "br"), "tools/list", "ok"},
		{"encoded events", listTools, 200, of("Content-Type", "text/event-stream", "Content-Encoding", "br"), "tools/list", "ok"},
		{"no type", listTools, 200, of(), "tools/list", "ok"},
		{"a page for a notification", notify, 200, of("Content-Type", "text/html"), "notifications/initialized", "ok"},
		{"a page for an array", `[]`, 200, of("Content-Type", "text/html"), "other", "opaque"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := observe(t, func() (*mcp.Result, error) {
				return &mcp.Result{Status: c.status, Header: c.header, Raw: io.NopCloser(strings.NewReader("<p>x"))}, nil
			}, nil)
			if a := do(t, "POST", o.base+"/mcp/s", c.body); a.status != c.status || a.body != "<p>x" {
				t.Errorf("got %d %q", a.status, a.body)
			}
			if n := requestsOf(t, o.reg, c.method, c.outcome); n != 1 {
				t.Errorf("%v requests of %s are counted as %s, want 1", n, c.method, c.outcome)
			}
		})
	}
}

// writes counts the writes of a body.
type writes struct {
	*httptest.ResponseRecorder
	n int
}

func (w *writes) Write(b []byte) (int, error) { w.n++; return w.ResponseRecorder.Write(b) }
