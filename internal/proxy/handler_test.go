package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const listTools = `{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/list"}`

// newHandler serves a handler with one upstream, s, that answers by call.
func newHandler(t *testing.T, call mcp.CallerFunc, change func(*proxy.Options)) (*proxy.Handler, string) {
	t.Helper()
	o := options(proxy.Route{Name: "s", URL: mustURL(t, "http://server.test/base/mcp"), Caller: call, RewriteOAuth: true})
	if change != nil {
		change(&o)
	}
	d, err := proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return d, srv.URL
}

// options are those that a handler in front of the upstreams cannot do without.
func options(upstreams ...proxy.Route) proxy.Options {
	return proxy.Options{Upstreams: upstreams, BodyLimit: 1 << 20, Metrics: proxy.NewMetrics(prometheus.NewRegistry())}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

type answer struct {
	status int
	header http.Header
	body   string
}

func do(t *testing.T, verb, target, body string, fields ...string) answer {
	t.Helper()
	req, err := http.NewRequest(verb, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "Host" {
			req.Host = fields[i+1]
			continue
		}
		req.Header.Add(fields[i], fields[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func jsonResult(body string) *mcp.Result {
	return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte(body)}
}

func answering(body string) mcp.CallerFunc {
	return func(context.Context, *mcp.Call) (*mcp.Result, error) { return jsonResult(body), nil }
}

func failing(f mcp.Failure) mcp.CallerFunc {
	return func(context.Context, *mcp.Call) (*mcp.Result, error) { own := f; return nil, &own }
}

// scripted is a stream of given events with a given end.
type scripted struct {
	events []mcp.Event
	end    error
	block  <-chan struct{} // Next waits for it before the end
	ctx    context.Context
	closed chan struct{}
}

func (s *scripted) Next() (mcp.Event, error) {
	if len(s.events) > 0 {
		ev := s.events[0]
		s.events = s.events[1:]
		return ev, nil
	}
	if s.block != nil {
		select {
		case <-s.block:
		case <-s.ctx.Done():
			return mcp.Event{}, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: s.ctx.Err()}
		}
	}
	return mcp.Event{}, s.end
}

func (s *scripted) Close() error {
	if s.closed != nil {
		close(s.closed)
	}
	return nil
}

func streaming(s *scripted) mcp.CallerFunc {
	return func(ctx context.Context, _ *mcp.Call) (*mcp.Result, error) {
		s.ctx = ctx
		return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}, "Cache-Control": {"no-cache"}}), Events: s}, nil
	}
}

func event(raw string) mcp.Event { return mcp.Event{Raw: []byte(raw)} }

// checkErrorBody holds what a failure's JSON-RPC error says; id "" means no id member.
func checkErrorBody(t *testing.T, body string, f mcp.Failure, id string) {
	t.Helper()
	var m struct {
		ID    json.RawMessage
		Error struct {
			Code int
			Data map[string]any
		}
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if string(m.ID) != id {
		t.Errorf("id %s, want %s in %s", m.ID, id, body)
	}
	d := m.Error.Data
	if m.Error.Code != f.Code || d["source"] != "fluentd-perf" || d["upstream"] != "s" ||
		d["reason"] != string(f.Reason) || d["sent"] != string(f.Sent) || d["requestId"] == "" {
		t.Errorf("error %s", body)
	}
	if f.RetryAfter > 0 && d["retryAfterMs"] != 1500.0 {
		t.Errorf("retryAfterMs %v", d["retryAfterMs"])
	}
}

// TestFailureShapes holds the table of docs/resilience.md.
func TestFailureShapes(t *testing.T) {
	const (
		request  = `{"jsonrpc":"2.0","id":"a<b","method":"tools/call","params":{"name":"x"}}`
		discover = `{"jsonrpc":"2.0","id":1,"method":"server/discover"}`
		notify   = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
		response = `{"jsonrpc":"2.0","id":1,"result":{}}`
		array    = `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`
	)
	refused := mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "cannot reach the server"}
	busy := mcp.Failure{Code: 1429, Reason: mcp.ReasonPoolWait, Sent: mcp.SentNo, RetryAfter: 1500 * time.Millisecond, Message: "busy"}
	late := mcp.Failure{Code: 1504, Reason: mcp.ReasonFirstByte, Sent: mcp.SentUnknown, Message: "late"}
	noJSON := mcp.Failure{Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo}
	invalid := mcp.Failure{Code: mcp.CodeInvalidRequest, Reason: mcp.ReasonInvalidMessage, Sent: mcp.SentNo}
	differs := mcp.Failure{Code: mcp.CodeHeaderMismatch, Reason: mcp.ReasonInvalidMessage, Sent: mcp.SentNo}
	gone := mcp.Failure{Code: 1503, Reason: mcp.ReasonDraining, Sent: mcp.SentNo, Message: "stopping"}
	for _, c := range []struct {
		name, body string
		failure    mcp.Failure
		http       bool
		status     int
		id         string // "" means no id member
	}{
		{"request", request, refused, false, 200, `"a<b"`},
		{"request, busy", request, busy, false, 200, `"a<b"`},
		{"request, late", request, late, false, 200, `"a<b"`},
		{"request, http", request, refused, true, 502, `"a<b"`},
		{"request, busy, http", request, busy, true, 429, `"a<b"`},
		{"request, late, http", request, late, true, 504, `"a<b"`},
		{"discover", discover, refused, false, 502, `1`},
		{"discover, busy", discover, busy, false, 503, `1`},
		{"discover, stopping", discover, gone, false, 503, `1`},
		{"notification", notify, refused, false, 502, ""},
		{"response", response, late, false, 504, ""},
		{"array", array, busy, false, 429, ""},
		{"array, refused", array, invalid, false, 400, "null"},
		{"no JSON", "nonsense", noJSON, false, 400, "null"},
		{"request, refused", request, invalid, false, 400, `"a<b"`},
		{"request, other headers", request, differs, false, 400, `"a<b"`},
		{"no JSON, other headers", "nonsense", differs, false, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, base := newHandler(t, failing(c.failure), func(o *proxy.Options) { o.ErrorsHTTP = c.http })
			a := do(t, "POST", base+"/mcp/s", c.body)
			if a.status != c.status {
				t.Errorf("status %d, want %d", a.status, c.status)
			}
			checkErrorBody(t, a.body, c.failure, c.id)
			if wants := c.status != 200 && c.failure.RetryAfter > 0; wants != (a.header.Get("Retry-After") == "2") {
				t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
			}
		})
	}
}

// TestStreamGET holds that a GET without a stream is answered in text, and that the drain refuses instead of answering.
func TestStreamGET(t *testing.T) {
	_, base := newHandler(t, failing(mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Message: "cannot reach the server"}), nil)
	a := do(t, "GET", base+"/mcp/s", "", "Accept", "text/event-stream")
	if a.status != 503 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %v", a.status, a.header)
	}
	d, base := newHandler(t, answering("{}"), nil)
	d.Drain()
	if resp, err := http.Get(base + "/mcp/s"); err == nil {
		resp.Body.Close()
		t.Errorf("a GET while draining got %d, want a closed connection", resp.StatusCode)
	}
	if a := do(t, "GET", base+"/readyz", ""); a.status != 503 {
		t.Errorf("readyz %d while draining", a.status)
	}
	if a := do(t, "POST", base+"/mcp/s", listTools); a.body != "{}" {
		t.Errorf("a call while draining got %s", a.body)
	}
	d.Refuse()
	if a := do(t, "POST", base+"/mcp/s", listTools); !strings.Contains(a.body, `"reason":"draining"`) {
		t.Errorf("a call shortly before the deadline got %s", a.body)
	}
}

// TestBodyTooLarge holds that a body over the limit is refused, whatever is in it.
func TestBodyTooLarge(t *testing.T) {
	_, base := newHandler(t, answering("{}"), func(o *proxy.Options) { o.BodyLimit = 20_000 })
	if a := do(t, "POST", base+"/mcp/s", strings.Repeat(" ", 30_000)); a.status != 413 || !strings.Contains(a.body, `"code":1413`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// TestStreamEnds holds how POST streams end (docs/design.md, "Streams to agents").
func TestStreamEnds(t *testing.T) {
	broke := &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "broke off"}
	bad := &mcp.Failure{Code: 1502, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes, Message: "bad"}
	progress := event("data: {}\n\n")
	withID := mcp.Event{Raw: []byte("id: 1\ndata: \n\n"), HasID: true, ID: []byte("1")}
	done := mcp.Event{Raw: []byte("data: done\n\n"), Answer: true, Message: mcp.Message{Kind: mcp.KindResult}}
	const legacy, modern = "2025-11-25", "2026-07-28"
	for _, c := range []struct {
		name, version string
		events        []mcp.Event
		end           error
		want          string // what follows the events
	}{
		{"answered", legacy, []mcp.Event{progress, done}, io.EOF, ""},
		{"answered, then broken", legacy, []mcp.Event{done}, broke, ""},
		{"legacy, no id, broken", legacy, []mcp.Event{progress}, broke, `"reason":"broke_off"`},
		{"legacy, no id, ended", legacy, []mcp.Event{progress}, io.EOF, `"reason":"broke_off"`},
		{"legacy, id, broken", legacy, []mcp.Event{withID}, broke, ""},
		{"legacy, id, ended", legacy, []mcp.Event{withID}, io.EOF, ""},
		{"legacy, id, rubbish", legacy, []mcp.Event{withID}, bad, `"reason":"bad_answer"`},
		{"modern, broken", modern, []mcp.Event{progress}, broke, `"reason":"broke_off"`},
		{"modern, id, broken", modern, []mcp.Event{withID}, broke, `"reason":"broke_off"`},
		{"modern, ended", modern, nil, io.EOF, `"reason":"broke_off"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, base := newHandler(t, streaming(&scripted{events: c.events, end: c.end}), nil)
			a := do(t, "POST", base+"/mcp/s", listTools, "MCP-Protocol-Version", c.version)
			var sent string
			for _, ev := range c.events {
				sent += string(ev.Raw)
			}
			rest, ok := strings.CutPrefix(a.body, sent)
			if !ok || c.want == "" && rest != "" || !strings.Contains(rest, c.want) {
				t.Errorf("got %q after the events, want %q", a.body, c.want)
			}
			if c.want != "" && !strings.HasPrefix(rest, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":9007199254740993,") {
				t.Errorf("the error has the wrong shape: %q", rest)
			}
			if a.header.Get("X-Accel-Buffering") != "no" || !strings.Contains(strings.Join(a.header["Cache-Control"], ","), "no-transform") {
				t.Errorf("stream headers %v", a.header)
			}
		})
	}
}

// leaving is a stream whose agent leaves after its first event and three quarters of a minute.
type leaving struct {
	scripted
	leave context.CancelFunc
}

func (l *leaving) Next() (mcp.Event, error) {
	if len(l.events) == 0 {
		time.AfterFunc(44*time.Second, l.leave)
	}
	return l.scripted.Next()
}

// TestQuietStream holds that a quiet stream carries a comment each 15 s, and that an agent that leaves ends the server's side.
func TestQuietStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, leave := context.WithCancel(t.Context())
		s := &leaving{scripted{ctx: ctx, events: []mcp.Event{event("data: 1\n\n")}, block: make(chan struct{}), closed: make(chan struct{})}, leave}
		h, err := proxy.New(options(named(t, "s", "server.test", func(context.Context, *mcp.Call) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Header: header.List{}, Events: s}, nil
		})))
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "http://localhost/mcp/s", nil))
		if got := w.Body.String(); got != "data: 1\n\n:\n\n:\n\n" {
			t.Errorf("got %q", got)
		}
		<-s.closed
	})
}

// TestDrainEndsStreams holds that the drain ends a GET stream cleanly.
func TestDrainEndsStreams(t *testing.T) {
	s := &scripted{events: []mcp.Event{event("data: 1\n\n")}, block: make(chan struct{})}
	d, base := newHandler(t, streaming(s), nil)
	resp, err := http.Get(base + "/mcp/s")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	d.Drain()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "data: 1\n\n" {
		t.Errorf("got %q, %v, want the event and a clean end", b, err)
	}
}

// TestStreamCap holds that streams above the limit are refused and calls are not.
func TestStreamCap(t *testing.T) {
	s := &scripted{events: []mcp.Event{event("data: 1\n\n")}, block: make(chan struct{})}
	_, base := newHandler(t, func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Lane.Long() {
			return streaming(s)(ctx, c)
		}
		return jsonResult(`{}`), nil
	}, func(o *proxy.Options) { o.MaxStreams = 1 })
	resp, err := http.Get(base + "/mcp/s")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if a := do(t, "GET", base+"/mcp/s", ""); a.status != 503 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("a GET over the limit got %d %s", a.status, a.body)
	}
	if a := do(t, "POST", base+"/mcp/s", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}`); a.status != 200 || !strings.Contains(a.body, `"code":1429`) {
		t.Errorf("a listen over the limit got %d %s", a.status, a.body)
	}
	if a := do(t, "POST", base+"/mcp/s", listTools); a.body != "{}" {
		t.Errorf("a call at the limit got %s", a.body)
	}
}

// TestRawBreak holds that a large answer that breaks off is not made whole by its end.
func TestRawBreak(t *testing.T) {
	raw := io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), errReader{&mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff}})
	_, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Raw: io.NopCloser(raw)}, nil
	}, nil)
	resp, err := http.Post(base+"/mcp/s", "application/json", strings.NewReader(listTools))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes and %v, want an unexpected EOF", len(b), err)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }
