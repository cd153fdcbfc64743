package listener

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// server is a server on false time: it notes what it is asked, and answers as its scripts say. The zero one announces
// everything and gives a silent stream to whoever asks for one.
type server struct {
	capabilities string                                         // of server/discover; "" for all
	discover     func(ctx context.Context) (*mcp.Result, error) // nil: a JSON answer with the capabilities
	listen       script
	start        time.Time

	mu      sync.Mutex // guards the following, and the scripts when they change
	asked   []asked
	streams []*fakeStream // that were opened
}

// script answers a request for a stream; nil: with one.
type script func(s *fakeStream) (*mcp.Result, error)

func newServer(listen script) *server { return &server{listen: listen} }

// change changes what the server does from now on.
func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

type asked struct {
	at   time.Duration
	call *mcp.Call
	what string // server/discover or listen
}

const allCapabilities = `{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true}}`

func (s *server) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	asked := asked{time.Since(s.start), c, "something else"}
	switch {
	case c.Lane == mcp.LaneRequest && c.Method() == mcp.MethodServerDiscover:
		asked.what = "server/discover"
	case c.Lane == mcp.LaneListen && c.Method() == mcp.MethodSubscriptionsListen:
		asked.what = "listen"
	}
	s.mu.Lock()
	s.asked = append(s.asked, asked)
	discover, script := s.discover, s.listen
	body := `{"jsonrpc":"2.0","id":1,"result":` + s.discovered() + `}`
	s.mu.Unlock()
	switch {
	case asked.what == "server/discover" && discover != nil:
		return discover(ctx)
	case asked.what == "server/discover":
		return jsonAnswer(200, body), nil
	}
	st := &fakeStream{server: s, ctx: ctx, call: c, what: asked.what, feed: make(chan mcp.Event), over: make(chan error, 1)}
	if script != nil {
		return script(st)
	}
	return st.open(), nil
}

func (s *server) discovered() string {
	capabilities := s.capabilities
	if capabilities == "" {
		capabilities = allCapabilities
	}
	return `{"resultType":"complete","ttlMs":0,"cacheScope":"private","supportedVersions":["2026-07-28"],"capabilities":` + capabilities + `}`
}

// log returns what was asked and when, as "0s server/discover, 0s listen".
func (s *server) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, a := range s.asked {
		all = append(all, fmt.Sprint(a.at, " ", a.what))
	}
	return strings.Join(all, ", ")
}

// times returns when that was asked for.
func (s *server) times(what string) (all []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if a.what == what {
			all = append(all, a.at)
		}
	}
	return all
}

// last returns the latest stream of the kind that was opened.
func (s *server) last(tb testing.TB, what string) *fakeStream {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range slices.Backward(s.streams) {
		if st.what == what {
			return st
		}
	}
	tb.Fatalf("no stream of %s was opened", what)
	return nil
}

// lastCall returns the latest call of the kind.
func (s *server) lastCall(tb testing.TB, what string) *mcp.Call {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range slices.Backward(s.asked) {
		if a.what == what {
			return a.call
		}
	}
	tb.Fatalf("%s was not asked for", what)
	return nil
}

// open returns how many streams are open.
func (s *server) open() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		if !st.closed {
			n++
		}
	}
	return n
}

// fakeStream is a stream of an server.
type fakeStream struct {
	server *server
	ctx    context.Context
	call   *mcp.Call
	what   string
	feed   chan mcp.Event
	over   chan error

	closed bool // guarded by server.mu
}

// open returns the stream as a Result.
func (s *fakeStream) open() *mcp.Result {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.streams = append(s.server.streams, s)
	return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}}), Events: s}
}

func (s *fakeStream) Next() (mcp.Event, error) {
	select {
	case ev := <-s.feed:
		return ev, nil
	case err := <-s.over:
		return mcp.Event{}, err
	case <-s.ctx.Done():
		return mcp.Event{}, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: context.Cause(s.ctx)}
	}
}

func (s *fakeStream) Close() error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.closed {
		panic("a stream was closed twice")
	}
	s.closed = true
	return nil
}

// say sends an event with that data, not scanned, and waits until all is quiet.
func (s *fakeStream) say(data string) {
	s.feed <- mcp.Event{Data: []byte(data)}
	synctest.Wait()
}

// end ends the stream and waits until all is quiet. io.EOF is a clean end.
func (s *fakeStream) end(err error) {
	s.over <- err
	synctest.Wait()
}

// jsonAnswer is a whole answer, checked as the upstream does.
func jsonAnswer(status int, body string) *mcp.Result {
	res := &mcp.Result{Status: status, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte(body)}
	res.Checked = status == 200 && mcp.Scan(res.Body, &res.Message) == nil
	return res
}

var errBroke = &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
