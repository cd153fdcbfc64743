package multiplex_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/session/multiplex"
	"fluentd-perf/internal/upstream/stdio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// capabilities are those of the scripted server.
const capabilities = `{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{},"tasks":{"list":{}}}`

// world is a scripted server whose process is shared, within false time.
type world struct {
	t    *testing.T
	x    *multiplex.Multiplexer
	pool *stdio.Pool
	log  bytes.Buffer
	on   func(s *mcptest.Stdio, r mcptest.StdioRequest) bool // answers a request, and reports whether it did; nil: it does not

	joined []time.Duration
	held   chan struct{} // what the next request or notification waits for before it is sent; nil: nothing

	mu    sync.Mutex // guards the following
	all   []*mcptest.Stdio
	lines []string // that came, of all
}

// options change what a world is made of.
type options struct {
	pool  func(*stdio.PoolOptions)
	mux   func(*multiplex.Options)
	start stdio.Start
	on    func(s *mcptest.Stdio, r mcptest.StdioRequest) bool
}

func run(t *testing.T, o options, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, on: o.on}
		po := stdio.PoolOptions{Name: "child", Start: w.start}
		if o.start != nil {
			po.Start = o.start
		}
		if o.pool != nil {
			o.pool(&po)
		}
		w.pool = stdio.NewPool(po)
		mo := multiplex.Options{
			Upstream: "child", Version: "test", Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Mask:   func(text string) string { return strings.ReplaceAll(text, "secret", "***") },
			Joined: func(took time.Duration) { w.joined = append(w.joined, took) },
			Start: func(ctx context.Context, body []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (multiplex.Process, []byte, *mcp.Failure) {
				l, answer, f := w.pool.Open(ctx, body, m, other)
				if f != nil {
					return nil, nil, f
				}
				return &process{l, w}, answer, nil
			},
		}
		if o.mux != nil {
			o.mux(&mo)
		}
		w.x = multiplex.New(mo)
		defer w.pool.Close()
		defer w.x.Close()
		f(t, w)
	})
}

// process is one whose messages can be held back.
type process struct {
	*stdio.Lease
	w *world
}

func (p *process) hold() {
	p.w.mu.Lock()
	held := p.w.held
	p.w.held = nil
	p.w.mu.Unlock()
	if held != nil {
		<-held
	}
}

func (p *process) Request(ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	p.hold()
	return p.Lease.Request(ctx, body, m, take)
}

func (p *process) Send(ctx context.Context, body []byte, m *mcp.Message) *mcp.Failure {
	p.hold()
	return p.Lease.Send(ctx, body, m)
}

func (w *world) start(context.Context) (stdio.Process, func(), error) {
	s := mcptest.NewStdio(w.serve)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
	return s, nil, nil
}

func (w *world) last() *mcptest.Stdio {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[len(w.all)-1]
}

func (w *world) started() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// serve is one process.
func (w *world) serve(s *mcptest.Stdio) {
	for {
		r, ok := s.Next()
		if !ok {
			return
		}
		w.mu.Lock()
		w.lines = append(w.lines, r.Line)
		w.mu.Unlock()
		switch {
		case w.on != nil && w.on(s, r):
		case r.ID == nil || r.Method == "":
		case r.Method == "initialize":
			s.Result(r, `{"protocolVersion":"2025-11-25","capabilities":`+capabilities+`,"serverInfo":{"name":"scripted","version":"1"}}`)
		default:
			s.Result(r, "{}")
		}
	}
}

// ownID is an id or token of the daemon's own.
var ownID = regexp.MustCompile(`\b\d{16}\b`)

// got returns what came since the last call of it, ids of the daemon's own as N.
func (w *world) got() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, line := range w.lines {
		var m struct {
			Method        string
			ID            json.RawMessage
			Params        json.RawMessage
			Result, Error json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			w.t.Error(err)
		}
		text := m.Method + string(m.Params) + string(m.Result) + string(m.Error)
		all = append(all, ownID.ReplaceAllString(text, "N"))
	}
	w.lines = nil
	return strings.Join(all, " ")
}

// wants holds what came since the last look.
func (w *world) wants(what, want string) {
	w.t.Helper()
	if got := w.got(); got != want {
		w.t.Errorf("%s: the server got\n%s\nwant\n%s", what, got, want)
	}
}

// writes has the last process write a line.
func (w *world) writes(format string, args ...any) {
	w.last().Write(format+"\n", args...)
	synctest.Wait()
}

// logs holds that the log has a text, and forgets the log.
func (w *world) logs(text string, want bool) {
	w.t.Helper()
	synctest.Wait()
	if got := w.log.String(); strings.Contains(got, text) != want {
		w.t.Errorf("the log has %q: %v, want %v:\n%s", text, !want, want, got)
	}
	w.log.Reset()
}

// agent is a session.
type agent struct {
	w *world
	*multiplex.Session
	answer string // to initialize

	mu     sync.Mutex // guards the following
	others []string   // that came
}

func initialize(id, version string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{"roots":{},"sampling":{}},"clientInfo":{"name":"agent","version":"1"}}}`, id, version)
}

func scan(t *testing.T, body []byte) *mcp.Message {
	t.Helper()
	var m mcp.Message
	if err := mcp.Scan(body, &m); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return &m
}

// open begins a session.
func (w *world) open(version string) *agent {
	w.t.Helper()
	a, f := w.tryOpen(w.t.Context(), initialize("7", version))
	if f != nil {
		w.t.Fatal(f)
	}
	a.Leave()
	return a
}

func (w *world) tryOpen(ctx context.Context, body []byte) (*agent, *mcp.Failure) {
	a := &agent{w: w}
	s, answer, f := w.x.Open(ctx, body, scan(w.t, body), a.other)
	a.Session, a.answer = s, string(answer)
	return a, f
}

func (a *agent) other(data []byte, m *mcp.Message) {
	if again := scan(a.w.t, data); *again != *m {
		a.w.t.Errorf("%s: the scan is another", data)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.others = append(a.others, string(data))
	clear(data) // which is its own
}

// received returns what came and was not asked for, since the last call of it.
func (a *agent) received() string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	text := strings.Join(a.others, " ")
	a.others = nil
	return text
}

// gets holds what came that was not asked for.
func (a *agent) gets(what, want string) {
	a.w.t.Helper()
	if got := a.received(); got != want {
		a.w.t.Errorf("%s: the session got\n%s\nwant\n%s", what, got, want)
	}
}

func request(id, method, params string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, id, method, params)
}

// reply is what a request is answered: all that names it, or the failure.
type reply struct {
	id       []byte // of the daemon's own
	messages []string
	failure  *mcp.Failure
}

// begin sends a request with the id 1. The reply comes on the channel.
func (a *agent) begin(ctx context.Context, method, params string) <-chan reply {
	done := make(chan reply, 1)
	go func() {
		var r reply
		answered := make(chan struct{})
		body := request("1", method, params)
		if !a.Enter() {
			done <- reply{failure: &mcp.Failure{Message: "not entered"}}
			return
		}
		defer a.Leave()
		r.id, r.failure = a.Request(ctx, body, scan(a.w.t, body), func(data []byte, m *mcp.Message) {
			if again := scan(a.w.t, data); *again != *m {
				a.w.t.Errorf("%s: the scan is another", data)
			}
			r.messages = append(r.messages, string(data))
			if m.Kind.IsAnswer() {
				close(answered)
			}
		})
		if f := r.failure; f == nil || f.Sent != mcp.SentNo { // it may have gone: the answer or the end of the process says what came of it
			r.failure = nil
			select {
			case <-answered:
			case <-a.Ended():
				select {
				case <-answered: // before that
				default:
					r.failure = a.Failure()
				}
			case <-ctx.Done():
				a.Forget(r.id)
			}
		}
		done <- r
	}()
	return done
}

// ask sends a request and returns the answer without its envelope.
func (a *agent) ask(method, params string) string {
	a.w.t.Helper()
	r := <-a.begin(a.w.t.Context(), method, params)
	if r.failure != nil {
		a.w.t.Fatalf("%s%s: %v", method, params, r.failure)
	}
	return strings.TrimSuffix(strings.TrimPrefix(r.messages[len(r.messages)-1], `{"jsonrpc":"2.0","id":1,`), "}")
}

// answers holds the answer to a request.
func (a *agent) answers(method, params, want string) {
	a.w.t.Helper()
	if got := a.ask(method, params); got != want {
		a.w.t.Errorf("%s%s: %s, want %s", method, params, got, want)
	}
}

// sends sends a notification, or an answer.
func (a *agent) sends(body string) {
	a.w.t.Helper()
	if f := a.Send(a.w.t.Context(), []byte(body), scan(a.w.t, []byte(body))); f != nil {
		a.w.t.Error(body, f)
	}
	synctest.Wait()
}

const (
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	ok          = `"result":{}`
)
