package session_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// fakeServer is a server with sessions, as far as healing can tell. What it forgets on restart is everything.
type fakeServer struct {
	mu       sync.Mutex
	sessions map[string]*serverSession
	minted   int
	same     bool // mints the same id each time

	version, name, capabilities string
	framed                      bool                                                    // answers as events
	ids                         bool                                                    // with event ids, so that a client can resume
	loss                        func() *mcp.Result                                      // what an unknown session gets; nil: 404 in text
	unknown                     func(c *mcp.Call) *mcp.Result                           // the same, by what the call is
	before                      func(c *mcp.Call) (*mcp.Result, error)                  // may answer instead
	after                       func(c *mcp.Call, res *mcp.Result) (*mcp.Result, error) // may lose the answer
	slow                        time.Duration                                           // each initialize takes so long
	hangs                       bool                                                    // a GET gets no answer
	noStreams                   int                                                     // the status of a GET; 0: accepted

	calls []mcp.Call     // that came, in order
	ran   map[string]int // by method and id of the request
}

// serverSession is a session on the server.
type serverSession struct {
	initialized bool
	level       string
	uris        map[string]bool
	streams     []*serverStream
}

// serverStream is a GET stream.
type serverStream struct {
	ctx    context.Context
	events chan mcp.Event
	end    chan error
}

func (f *serverStream) Next() (mcp.Event, error) {
	select {
	case ev := <-f.events:
		return ev, nil
	case err := <-f.end:
		return mcp.Event{}, err
	case <-f.ctx.Done():
		return mcp.Event{}, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: f.ctx.Err()}
	}
}

func (f *serverStream) Close() error { return nil }

func newFakeServer() *fakeServer {
	return &fakeServer{
		sessions: make(map[string]*serverSession), ran: make(map[string]int),
		version: "2025-06-18", name: "world", capabilities: `{"tools":{"listChanged":true},"resources":{"subscribe":true}}`,
	}
}

// restart loses all sessions and breaks all streams off.
func (w *fakeServer) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, l := range w.sessions {
		for _, f := range l.streams {
			f.end <- errBroke
		}
		delete(w.sessions, id)
	}
}

// forget loses all sessions and leaves their streams open.
func (w *fakeServer) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.sessions)
}

func (w *fakeServer) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, *c)
	if w.hangs && c.Lane == mcp.LaneStream {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Cause: ctx.Err()}
	}
	if w.before != nil {
		if res, err := w.before(c); res != nil || err != nil {
			return res, err
		}
	}
	res, err := w.serve(ctx, c)
	if w.after != nil && err == nil {
		return w.after(c, res)
	}
	return res, err
}

func (w *fakeServer) serve(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	id := c.Header.Get("Mcp-Session-Id")
	if c.Method() == mcp.MethodInitialize {
		return w.initialize(ctx, c)
	}
	l := w.sessions[id]
	if l == nil && c.Lane == mcp.LaneStream && w.noStreams != 0 {
		return text(w.noStreams, "no such route"), nil
	}
	if l == nil {
		if w.unknown != nil {
			return w.unknown(c), nil
		}
		if w.loss != nil {
			return w.loss(), nil
		}
		return text(404, "session not found\n"), nil
	}
	switch c.Lane {
	case mcp.LaneStream:
		if w.noStreams != 0 {
			return text(w.noStreams, "no such route"), nil
		}
		f := &serverStream{ctx: ctx, events: make(chan mcp.Event), end: make(chan error, 1)}
		l.streams = append(l.streams, f)
		return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Mcp-Session-Id": {id}}), Events: f}, nil
	case mcp.LaneEnd:
		delete(w.sessions, id)
		return &mcp.Result{Status: 204, Header: header.List{}}, nil
	case mcp.LaneNotification:
		l.initialized = l.initialized || c.Method() == mcp.MethodInitialized
		return &mcp.Result{Status: 202, Header: header.Of(http.Header{"Mcp-Session-Id": {id}})}, nil
	case mcp.LaneResponse, mcp.LaneOpaque:
		return &mcp.Result{Status: 202, Header: header.List{}}, nil
	}
	w.ran[c.Method().String()+" "+string(c.ID())]++
	return w.result(c, id, l.handle(c)), nil
}

func (l *serverSession) handle(c *mcp.Call) string {
	switch c.Method() {
	case mcp.MethodLoggingSetLevel:
		l.level = string(c.Message.Params.Of(c.Body))
	case mcp.MethodResourcesSubscribe:
		if l.uris == nil {
			l.uris = make(map[string]bool)
		}
		l.uris[string(c.Message.URI.Of(c.Body))] = true
	case mcp.MethodResourcesUnsubscribe:
		delete(l.uris, string(c.Message.URI.Of(c.Body)))
	}
	return `{}`
}

func (w *fakeServer) initialize(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if w.slow > 0 {
		w.mu.Unlock()
		select {
		case <-time.After(w.slow):
		case <-ctx.Done():
		}
		w.mu.Lock()
	}
	if ctx.Err() != nil {
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: ctx.Err()}
	}
	w.minted++
	id := fmt.Sprintf("s%d", w.minted)
	if w.same {
		id = "same"
	}
	w.sessions[id] = &serverSession{}
	return w.result(c, id, fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":%q,"version":"%d"}}`,
		w.version, w.capabilities, w.name, w.minted)), nil
}

func text(status int, body string) *mcp.Result { return whole(status, "text/plain", body) }

func jsonBody(status int, body string) *mcp.Result { return whole(status, "application/json", body) }

// oneEvent is an answer whose body is one SSE event, with an error's status.
func oneEvent(status int, data string) *mcp.Result {
	res := whole(status, "text/event-stream", "event: message\ndata: "+data+"\n\n")
	res.Data = []byte(data)
	return scanned(res)
}

// whole is an answer as the upstream hands it on: held, and scanned if it is JSON-RPC.
func whole(status int, contentType, body string) *mcp.Result {
	return scanned(&mcp.Result{Status: status, Header: header.Of(http.Header{"Content-Type": {contentType}}), Body: []byte(body)})
}

func scanned(res *mcp.Result) *mcp.Result {
	if mcp.Scan(res.Scanned(), &res.Message) != nil {
		res.Message = mcp.Message{}
	}
	return res
}

func (w *fakeServer) result(c *mcp.Call, id, result string) *mcp.Result {
	body := []byte(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, c.ID(), result))
	if w.framed {
		evs := []mcp.Event{answerTo(body)}
		if w.ids {
			evs = []mcp.Event{numbered("e" + string(c.ID())), evs[0]}
			evs[0].Data = nil
		}
		return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Mcp-Session-Id": {id}}), Events: &events{list: evs, end: io.EOF}}
	}
	res := jsonBody(200, string(body))
	res.Header.Set("Mcp-Session-Id", id)
	res.Checked = true
	return res
}

func answerTo(body []byte) mcp.Event {
	ev := mcp.Event{Raw: []byte("data: x\n\n"), Data: body}
	must(mcp.Scan(body, &ev.Message))
	ev.Answer = ev.Message.Kind == mcp.KindResult || ev.Message.Kind == mcp.KindError
	return ev
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// count is how many calls of a method, or of a lane where it is MethodNone, came.
func (w *fakeServer) count(lane mcp.Lane, m mcp.Method) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c.Lane == lane && c.Method() == m {
			n++
		}
	}
	return n
}

// live is how many sessions the server has.
func (w *fakeServer) live() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sessions)
}

// wait lets false time pass.
func wait(d time.Duration) { <-time.After(d) }

// agent is an agent in front of a stage.
type agent struct {
	t     *testing.T
	stage *session.Stage
	w     *fakeServer
	id    string
	token string
	n     int
	reg   *prometheus.Registry
	log   *bytes.Buffer
}

// secrets are session ids, credentials and uris, which are in no log.
var secrets = regexp.MustCompile(`\bs\d+\b|\b(one|two)\b|test:`)

func credential(c *mcp.Call) [32]byte {
	return sha256.Sum256([]byte(c.Header.Get("Authorization") + c.Query))
}

func newAgent(t *testing.T, w *fakeServer, heal session.Heal) *agent {
	t.Helper()
	a := &agent{t: t, w: w, token: "one", reg: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	a.stage = session.New(session.Options{
		Upstream: "s", Next: w, Reopen: time.Minute, Heal: heal, Credential: credential, Base: t.Context(),
		Metrics: session.NewMetrics(a.reg), Log: slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	t.Cleanup(func() {
		a.stage.Close()
		if secret := secrets.FindString(a.log.String()); secret != "" {
			t.Errorf("the log tells %q", secret)
		}
	})
	return a
}

// begin opens the session.
func (a *agent) begin() {
	a.t.Helper()
	a.initialize()
	a.wantStatus(202, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

func (a *agent) initialize() {
	a.t.Helper()
	res, err := a.post(context.Background(), `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"roots":{}},"clientInfo":{"name":"a","version":"1"}}}`)
	if err != nil || res.Status != 200 {
		a.t.Fatalf("initialize: %v, %v", res, err)
	}
	a.id = res.Header.Get("Mcp-Session-Id")
	body(a.t, res)
}

func (a *agent) call(lane mcp.Lane, text string) *mcp.Call {
	c := &mcp.Call{Upstream: "s", Lane: lane, Header: header.Of(http.Header{"Authorization": {a.token}}), Conn: "c"}
	if a.id != "" {
		c.Header.Set("Mcp-Session-Id", a.id)
		c.Header.Set("Mcp-Protocol-Version", "2025-06-18")
		c.Version = "2025-06-18"
	}
	if text == "" {
		return c
	}
	c.Body = []byte(text)
	must(mcp.Scan(c.Body, &c.Message))
	switch c.Message.Kind {
	case mcp.KindNotification:
		c.Lane = mcp.LaneNotification
	case mcp.KindResult, mcp.KindError:
		c.Lane = mcp.LaneResponse
	case mcp.KindBatch:
		c.Lane, c.Message = mcp.LaneOpaque, mcp.Message{Kind: mcp.KindBatch, Method: mcp.MethodOther}
	}
	return c
}

func (a *agent) post(ctx context.Context, text string) (*mcp.Result, error) {
	return a.stage.Call(ctx, a.call(mcp.LaneRequest, text))
}

// body reads a result to its end.
func body(t *testing.T, res *mcp.Result) string {
	t.Helper()
	var out strings.Builder
	if res.Events == nil {
		out.Write(res.Body)
	} else {
		for {
			ev, err := res.Events.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Errorf("the stream ended with %v", err)
				break
			}
			out.Write(ev.Data)
		}
	}
	if err := res.Close(); err != nil {
		t.Error(err)
	}
	return out.String()
}

// wantStatus posts, and wants an answer with that status, under the agent's own session id.
func (a *agent) wantStatus(status int, message string) string {
	a.t.Helper()
	res, err := a.post(context.Background(), message)
	if err != nil {
		a.t.Fatalf("%s: %v", message, err)
	}
	if res.Status != status {
		a.t.Fatalf("%s: status %d, want %d", message, res.Status, status)
	}
	if id := res.Header.Get("Mcp-Session-Id"); id != "" && a.id != "" && id != a.id {
		a.t.Errorf("%s: the agent sees the session id %q", message, id)
	}
	if status == 404 && !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		a.t.Errorf("%s: a loss is passed on as %v", message, res.Header)
	}
	return body(a.t, res)
}

func (a *agent) request(method, params string) string {
	a.n++
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, a.n, method, params)
}

// works sends a request and wants its result.
func (a *agent) works(method, params string) {
	a.t.Helper()
	got := a.wantStatus(200, a.request(method, params))
	if want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{}}`, a.n); got != want {
		a.t.Errorf("%s: got %s, want %s", method, got, want)
	}
}

func (a *agent) list() { a.t.Helper(); a.works("tools/list", `{}`) }
func (a *agent) tool() { a.t.Helper(); a.works("tools/call", `{"name":"t"}`) }

// restarted sends a tools/call and wants the 1410.
func (a *agent) restarted() {
	a.t.Helper()
	_, err := a.post(context.Background(), a.request("tools/call", `{"name":"t"}`))
	wantRestarted(a.t, err)
}

func wantRestarted(t *testing.T, err error) {
	t.Helper()
	var f *mcp.Failure
	if !errors.As(err, &f) || f.Code != 1410 || f.Reason != mcp.ReasonSessionRestarted || f.Sent != mcp.SentNo {
		t.Errorf("got %v, want a 1410", err)
	}
}

// wantHeals checks the counter: pairs of result and number, and nothing else.
func (a *agent) wantHeals(want map[string]float64) {
	a.t.Helper()
	got := map[string]float64{}
	families, err := a.reg.Gather()
	must(err)
	for _, f := range families {
		if f.GetName() != "fluentd_perf_session_heals_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" {
					got[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	g, err := json.Marshal(got)
	must(err)
	w, err := json.Marshal(want)
	must(err)
	if !bytes.Equal(g, w) {
		a.t.Errorf("heals are %s, want %s", g, w)
	}
}
