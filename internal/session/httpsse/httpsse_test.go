package httpsse_test

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/httpsse"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRefused = &mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "refused"}
	errBroke   = &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "broke off"}
)

// server is an HTTP+SSE server: its stream is fed by the test, its POSTs are recorded.
type server struct {
	endpoint string
	feed     chan mcp.Event
	end      chan error
	closed   chan struct{}
	status   int   // of POSTs
	postErr  error // instead
	onPost   func(*mcp.Call)

	mu    sync.Mutex
	posts []mcp.Call
}

func newServer(endpoint string) *server {
	return &server{endpoint: endpoint, feed: make(chan mcp.Event), end: make(chan error, 1), closed: make(chan struct{}), status: 202}
}

func (s *server) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.Lane == mcp.LaneStream {
		return &mcp.Result{Status: 200, Header: header.List{}, Events: &serverEvents{s: s, ctx: ctx}}, nil
	}
	s.mu.Lock()
	s.posts = append(s.posts, *c)
	s.mu.Unlock()
	if s.onPost != nil {
		s.onPost(c)
	}
	if s.postErr != nil {
		return nil, s.postErr
	}
	return &mcp.Result{Status: s.status, Header: header.List{}}, nil
}

type serverEvents struct {
	s     *server
	ctx   context.Context
	named bool
}

func (e *serverEvents) Next() (mcp.Event, error) {
	if !e.named {
		e.named = true
		if e.s.endpoint != "" {
			return mcp.Event{Name: []byte("endpoint"), Data: []byte(e.s.endpoint)}, nil
		}
	}
	select {
	case ev := <-e.s.feed:
		return ev, nil
	case err := <-e.s.end:
		return mcp.Event{}, err
	case <-e.ctx.Done():
		return mcp.Event{}, &mcp.Failure{Reason: mcp.ReasonCanceled, Cause: e.ctx.Err()}
	}
}

func (e *serverEvents) Close() error { close(e.s.closed); return nil }

func answerEvent(body string) mcp.Event {
	return mcp.Event{Raw: []byte("event: message\ndata: " + body + "\n\n"), Name: []byte("message"), Data: []byte(body)}
}

func newStage(t *testing.T, s mcp.Caller) *httpsse.Stage {
	t.Helper()
	u, err := url.Parse("http://server.test/base/sse")
	if err != nil {
		t.Fatal(err)
	}
	return httpsse.New(httpsse.Options{
		Upstream: "old", Next: s, URL: u, Handshake: time.Second, FirstByte: time.Minute, Call: time.Hour,
	})
}

// agent is an agent with an open stream.
type agent struct {
	t     *testing.T
	s     *server
	stage *httpsse.Stage
	res   *mcp.Result
	id    string // of the stream, in the path of its messages
}

// withStream runs a test in false time with a stream of a server whose messages go to /m. Its end closes the stream.
func withStream(t *testing.T, f func(a *agent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		a := open(t, t.Context(), s, newStage(t, s))
		f(a)
		a.close()
	})
}

func open(t *testing.T, ctx context.Context, s *server, stage *httpsse.Stage) *agent {
	t.Helper()
	res, err := stage.Call(ctx, get())
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, s: s, stage: stage, res: res}
	ev := a.next()
	id, ok := strings.CutPrefix(string(ev.Data), "/mcp/old/message/")
	if !ok || !strings.HasPrefix(string(ev.Raw), "event: endpoint\ndata: /mcp/old/message/") {
		t.Fatalf("the endpoint event is %q", ev.Raw)
	}
	a.id = id
	return a
}

// next returns the next event, which must come.
func (a *agent) next() mcp.Event {
	a.t.Helper()
	ev, err := a.res.Events.Next()
	if err != nil {
		a.t.Fatal(err)
	}
	return ev
}

// wantFailure reads the event that fails a call, which the server is to have seen, after that time since the start.
func (a *agent) wantFailure(id string, code int, reason mcp.Reason, start time.Time, after time.Duration) {
	a.t.Helper()
	ev := a.next()
	if ev.Failure == nil {
		a.t.Fatalf("got %q, want a failure", ev.Raw)
	}
	if ev.Failure.Code != code || ev.Failure.Reason != reason || string(ev.FailedID) != id || ev.Failure.Sent != mcp.SentYes || len(ev.Raw) > 0 || time.Since(start) != after {
		a.t.Errorf("%s failed with %+v after %v", ev.FailedID, ev.Failure, time.Since(start))
	}
}

// wantEnd reads the stream's end.
func (a *agent) wantEnd(is error) {
	a.t.Helper()
	if ev, err := a.res.Events.Next(); !errors.Is(err, is) {
		a.t.Errorf("got %+v, %v, want the end %v", ev, err, is)
	}
}

// call sends a message.
func (a *agent) call(body string) (*mcp.Result, error) {
	a.t.Helper()
	return a.stage.Call(a.t.Context(), message(a.t, a.id, body))
}

// send sends a message that the server is to accept.
func (a *agent) send(body string) {
	a.t.Helper()
	if res, err := a.call(body); err != nil || res.Status != 202 {
		a.t.Fatalf("%v %v", res, err)
	}
}

// wantRefused sends a message that the stage is to refuse for a reason.
func (a *agent) wantRefused(body string, reason mcp.Reason) {
	a.t.Helper()
	_, err := a.call(body)
	wantReason(a.t, err, reason)
}

func (a *agent) close() {
	a.t.Helper()
	if err := a.res.Close(); err != nil {
		a.t.Error(err)
	}
}

func wantReason(t *testing.T, err error, reason mcp.Reason) {
	t.Helper()
	var f *mcp.Failure
	if !errors.As(err, &f) || f.Reason != reason {
		t.Errorf("got %v, want %s", err, reason)
	}
}

func get() *mcp.Call { return &mcp.Call{Upstream: "old", Lane: mcp.LaneStream, Header: header.List{}} }

func message(t *testing.T, endpoint, body string) *mcp.Call {
	t.Helper()
	c := &mcp.Call{Upstream: "old", Lane: mcp.LaneMessage, Endpoint: endpoint, Header: header.List{}, Body: []byte(body)}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEndpoint(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://server.test/message?s=1": "http://server.test/message?s=1",
		"/message?s=1":                   "http://server.test/message?s=1",
		"message?s=1":                    "http://server.test/base/message?s=1",
		"?s=1":                           "http://server.test/base/sse?s=1",
		"http://server.test:80/x":        "http://server.test:80/x",
		"http://evil.test/message":       "",
		"https://server.test/message":    "",
		"//evil.test/x":                  "",
		"http://server.test:81/x":        "",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(endpoint)
			stage := newStage(t, s)
			if want == "" {
				_, err := stage.Call(t.Context(), get())
				var f *mcp.Failure
				if !errors.As(err, &f) || f.Code != 1502 || f.Reason != mcp.ReasonBadAnswer {
					t.Errorf("%s: %v", endpoint, err)
				}
				<-s.closed
				return
			}
			a := open(t, t.Context(), s, stage)
			a.send(`{"jsonrpc":"2.0","method":"x"}`)
			if got := s.posts[0].Target.String(); got != want {
				t.Errorf("%s went to %s, want %s", endpoint, got, want)
			}
			a.close()
			if res, err := a.call(`{"jsonrpc":"2.0","method":"x"}`); err != nil || res.Status != 404 {
				t.Errorf("a message after the end: %v, %v", res, err)
			}
		})
	}
}

func TestNoEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("")
		start := time.Now()
		_, err := newStage(t, s).Call(t.Context(), get())
		var f *mcp.Failure
		if !errors.As(err, &f) || f.Code != 1504 || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		<-s.closed
	})
}

func TestPOSTWithoutSession(t *testing.T) {
	res, err := newStage(t, newServer("/m")).Call(t.Context(), message(t, "", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`))
	if err != nil || res.Status != 405 {
		t.Errorf("%v %v", res, err)
	}
}

const (
	quick = `{"jsonrpc":"2.0","id":"q","method":"tools/list"}`
	slow  = `{"jsonrpc":"2.0","id":2,"method":"tools/call"}`
)

// TestLate holds that a call that is not answered in time gets an error on the stream, and that the server is told.
func TestLate(t *testing.T) {
	withStream(t, func(a *agent) {
		a.send(quick)
		a.send(slow)
		start := time.Now()
		a.wantFailure(`"q"`, 1504, mcp.ReasonFirstByte, start, time.Minute)
		a.wantFailure(`2`, 1504, mcp.ReasonCallTimeout, start, time.Hour)
		synctest.Wait()
		if got := string(a.s.posts[2].Body); got != `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q","reason":"timed out"}}` {
			t.Errorf("told the server %s", got)
		}
	})
}

// TestLateHandshake holds the time of methods that are known to be quick.
func TestLateHandshake(t *testing.T) {
	for _, method := range []string{"initialize", "ping"} {
		t.Run("late "+method, func(t *testing.T) {
			withStream(t, func(a *agent) {
				a.send(`{"jsonrpc":"2.0","id":"h","method":"` + method + `"}`)
				a.wantFailure(`"h"`, 1504, mcp.ReasonFirstByte, time.Now(), time.Second)
			})
		})
	}
}

// TestAnswered holds that an answer passes, and that nothing follows it: whether it comes in time, or before the server has
// accepted the message.
func TestAnswered(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":"q","result":{}}`
	t.Run("in time", func(t *testing.T) {
		withStream(t, func(a *agent) {
			a.send(quick)
			go func() { a.s.feed <- answerEvent(answer); a.s.end <- io.EOF }()
			if ev := a.next(); string(ev.Raw) != "event: message\ndata: "+answer+"\n\n" {
				t.Errorf("%q", ev.Raw)
			}
			a.wantEnd(io.EOF)
		})
	})
	t.Run("before the 202", func(t *testing.T) {
		withStream(t, func(a *agent) {
			a.s.onPost = func(*mcp.Call) { a.s.feed <- answerEvent(answer); synctest.Wait() }
			c := message(t, a.id, quick)
			go func() {
				if res, err := a.stage.Call(t.Context(), c); err != nil || res.Status != 202 {
					t.Errorf("%v %v", res, err)
				}
			}()
			a.next()
			time.AfterFunc(2*time.Hour, func() { a.s.end <- io.EOF })
			a.wantEnd(io.EOF)
		})
	})
}

// TestBroken holds that the calls that the server accepted get an error when its stream breaks off, in the order of asking.
func TestBroken(t *testing.T) {
	withStream(t, func(a *agent) {
		a.send(slow)
		a.send(quick)
		a.s.end <- errBroke
		for _, id := range []string{`2`, `"q"`} {
			a.wantFailure(id, 1502, mcp.ReasonBrokeOff, time.Now(), 0)
		}
		a.wantEnd(io.EOF)
		a.wantRefused(quick, mcp.ReasonBrokeOff) // no answer can come
	})
}

// TestNotAccepted holds that a call which the server did not accept gets no error on the stream.
func TestNotAccepted(t *testing.T) {
	withStream(t, func(a *agent) {
		a.s.status = 400
		if r, err := a.call(quick); err != nil || r.Status != 400 {
			t.Errorf("%v %v", r, err)
		}
		a.s.postErr = errRefused
		if _, err := a.call(quick); !errors.Is(err, errRefused) {
			t.Error(err)
		}
		a.s.end <- errBroke
		a.wantEnd(io.EOF)
	})
}

// TestDrain holds that a stream ends only when the calls on it have been answered, those that came meanwhile included.
func TestDrain(t *testing.T) {
	withStream(t, func(a *agent) {
		a.send(slow)
		a.res.Events.(mcp.Drainer).Drain()
		a.send(strings.Replace(slow, "2,", "3,", 1)) // the stream is there for another call
		go func() {
			a.s.feed <- answerEvent(`{"jsonrpc":"2.0","id":2,"result":{}}`)
			a.s.feed <- answerEvent(`{"jsonrpc":"2.0","id":3,"result":{}}`)
		}()
		a.next()
		a.next()
		_, err := a.res.Events.Next()
		wantReason(t, err, mcp.ReasonDraining)
		a.wantRefused(quick, mcp.ReasonDraining)
	})
}

// TestDrainDeadline holds that calls get the error of the drain when its time is over.
func TestDrainDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		ctx, cancel := context.WithCancelCause(t.Context())
		a := open(t, ctx, s, newStage(t, s))
		a.send(slow)
		cancel(&mcp.Failure{Code: 1503, Reason: mcp.ReasonDraining})
		a.wantFailure(`2`, 1503, mcp.ReasonDraining, time.Now(), 0)
		a.close()
	})
}

// TestTooMany holds the bound on the calls that wait.
func TestTooMany(t *testing.T) {
	withStream(t, func(a *agent) {
		call := func(i int) string {
			return strings.Replace(slow, "2,", strings.Repeat("1", 1+i%9)+strings.Repeat("2", i/9)+",", 1)
		}
		for i := range 1000 {
			a.send(call(i))
		}
		a.wantRefused(call(1000), mcp.ReasonTooManyCalls)
	})
}
