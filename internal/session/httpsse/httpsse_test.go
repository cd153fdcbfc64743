package httpsse_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

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
		return &mcp.Result{Status: 200, Header: http.Header{}, Events: &serverEvents{s: s, ctx: ctx}}, nil
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
	return &mcp.Result{Status: s.status, Header: http.Header{}}, nil
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

func newStage(t *testing.T, s *server) *httpsse.Stage { return newStageWith(t, s) }

func newStageWith(t *testing.T, s mcp.Caller) *httpsse.Stage {
	t.Helper()
	u, err := url.Parse("http://server.test/base/sse")
	if err != nil {
		t.Fatal(err)
	}
	return httpsse.New(httpsse.Options{
		Upstream: "old", Next: s, URL: u, Handshake: time.Second, FirstByte: time.Minute, Call: time.Hour,
	})
}

// open opens a session and returns its stream and the id in its path.
func open(t *testing.T, ctx context.Context, o *httpsse.Stage) (*mcp.Result, string) {
	t.Helper()
	res, err := o.Call(ctx, get())
	if err != nil {
		t.Fatal(err)
	}
	ev, err := res.Events.Next()
	if err != nil {
		t.Fatal(err)
	}
	id, ok := strings.CutPrefix(string(ev.Data), "/mcp/old/message/")
	if !ok || !strings.HasPrefix(string(ev.Raw), "event: endpoint\ndata: /mcp/old/message/") {
		t.Fatalf("the endpoint event is %q", ev.Raw)
	}
	return res, id
}

func get() *mcp.Call { return &mcp.Call{Upstream: "old", Lane: mcp.LaneStream, Header: http.Header{}} }

func message(t *testing.T, endpoint, body string) *mcp.Call {
	t.Helper()
	c := &mcp.Call{Upstream: "old", Lane: mcp.LaneMessage, Endpoint: endpoint, Header: http.Header{}, Body: []byte(body)}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		t.Fatal(err)
	}
	return c
}

func closeResult(t *testing.T, res *mcp.Result) {
	t.Helper()
	if err := res.Close(); err != nil {
		t.Error(err)
	}
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
			o := newStage(t, s)
			if want == "" {
				_, err := o.Call(t.Context(), get())
				var f *mcp.Failure
				if !errors.As(err, &f) || f.Code != 1502 || f.Reason != mcp.ReasonBadAnswer {
					t.Errorf("%s: %v", endpoint, err)
				}
				<-s.closed
				return
			}
			res, id := open(t, t.Context(), o)
			if _, err := o.Call(t.Context(), message(t, id, `{"jsonrpc":"2.0","method":"x"}`)); err != nil {
				t.Fatal(err)
			}
			if got := s.posts[0].Target.String(); got != want {
				t.Errorf("%s went to %s, want %s", endpoint, got, want)
			}
			closeResult(t, res)
			if res, err := o.Call(t.Context(), message(t, id, `{"jsonrpc":"2.0","method":"x"}`)); err != nil || res.Status != 404 {
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
	o := newStage(t, newServer("/m"))
	res, err := o.Call(t.Context(), message(t, "", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`))
	if err != nil || res.Status != 405 {
		t.Errorf("%v %v", res, err)
	}
}

const (
	quick = `{"jsonrpc":"2.0","id":"q","method":"tools/list"}`
	slow  = `{"jsonrpc":"2.0","id":2,"method":"tools/call"}`
)

func nextEvent(t *testing.T, res *mcp.Result) mcp.Event {
	t.Helper()
	ev, err := res.Events.Next()
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// send sends a message that the server is to accept.
func send(t *testing.T, o *httpsse.Stage, c *mcp.Call) {
	t.Helper()
	if res, err := o.Call(t.Context(), c); err != nil || res.Status != 202 {
		t.Fatalf("%v %v", res, err)
	}
}

// TestLate holds that a call that is not answered in time gets an error on the stream, and that the server is told.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		res, id := open(t, t.Context(), o)
		send(t, o, message(t, id, quick))
		send(t, o, message(t, id, slow))
		start := time.Now()
		if ev := nextEvent(t, res); ev.Failure.Code != 1504 || string(ev.FailedID) != `"q"` || ev.Failure.Sent != mcp.SentYes || time.Since(start) != time.Minute {
			t.Errorf("%+v after %v", ev.Failure, time.Since(start))
		}
		if ev := nextEvent(t, res); ev.Failure.Code != 1504 || string(ev.FailedID) != `2` || time.Since(start) != time.Hour {
			t.Errorf("%+v after %v", ev.Failure, time.Since(start))
		}
		synctest.Wait()
		if got := string(s.posts[2].Body); got != `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q","reason":"timed out"}}` {
			t.Errorf("told the server %s", got)
		}
		closeResult(t, res)
	})
}

// TestAnswered holds that an answer passes, and that nothing follows it.
func TestAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		res, id := open(t, t.Context(), o)
		send(t, o, message(t, id, quick))
		go func() { s.feed <- answerEvent(`{"jsonrpc":"2.0","id":"q","result":{}}`); s.end <- io.EOF }()
		if ev := nextEvent(t, res); string(ev.Raw) != "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":{}}\n\n" {
			t.Errorf("%q", ev.Raw)
		}
		if _, err := res.Events.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("ended with %v", err)
		}
		closeResult(t, res)
	})
}

// TestAnsweredBeforeThe202 holds that an answer which comes before the server has accepted the message is one.
func TestAnsweredBeforeThe202(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		res, id := open(t, t.Context(), o)
		s.onPost = func(*mcp.Call) { s.feed <- answerEvent(`{"jsonrpc":"2.0","id":"q","result":{}}`); synctest.Wait() }
		c := message(t, id, quick)
		go func() {
			if res, err := o.Call(t.Context(), c); err != nil || res.Status != 202 {
				t.Errorf("%v %v", res, err)
			}
		}()
		nextEvent(t, res)
		time.AfterFunc(2*time.Hour, func() { s.end <- io.EOF })
		if ev, err := res.Events.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%+v %v, want no more than the end", ev, err)
		}
		closeResult(t, res)
	})
}

// TestBroken holds that the calls that the server accepted get an error when its stream breaks off, in the order of asking.
func TestBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		res, id := open(t, t.Context(), o)
		send(t, o, message(t, id, slow))
		send(t, o, message(t, id, quick))
		s.end <- errBroke
		for _, want := range []string{`2`, `"q"`} {
			if ev := nextEvent(t, res); ev.Failure.Reason != mcp.ReasonBrokeOff || string(ev.FailedID) != want || ev.Failure.Sent != mcp.SentYes {
				t.Errorf("%+v %s", ev.Failure, ev.FailedID)
			}
		}
		if _, err := res.Events.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("ended with %v", err)
		}
		if _, err := o.Call(t.Context(), message(t, id, quick)); err == nil {
			t.Error("a call was accepted for which no answer can come")
		}
		closeResult(t, res)
	})
}

// TestNotAccepted holds that a call which the server did not accept gets no error on the stream.
func TestNotAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		res, id := open(t, t.Context(), o)
		s.status = 400
		if r, err := o.Call(t.Context(), message(t, id, quick)); err != nil || r.Status != 400 {
			t.Errorf("%v %v", r, err)
		}
		s.postErr = errRefused
		if _, err := o.Call(t.Context(), message(t, id, quick)); !errors.Is(err, errRefused) {
			t.Error(err)
		}
		s.end <- errBroke
		if ev, err := res.Events.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%+v %v: an error for a call that was not accepted", ev, err)
		}
		closeResult(t, res)
	})
}

// TestDrain holds that a stream ends only when the calls on it have been answered, those that came meanwhile included.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		res, id := open(t, t.Context(), o)
		send(t, o, message(t, id, slow))
		res.Events.(mcp.Drainer).Drain()
		send(t, o, message(t, id, strings.Replace(slow, "2,", "3,", 1))) // the stream is there for another call
		go func() {
			s.feed <- answerEvent(`{"jsonrpc":"2.0","id":2,"result":{}}`)
			s.feed <- answerEvent(`{"jsonrpc":"2.0","id":3,"result":{}}`)
		}()
		nextEvent(t, res)
		nextEvent(t, res)
		var f *mcp.Failure
		if _, err := res.Events.Next(); !errors.As(err, &f) || f.Reason != mcp.ReasonDraining {
			t.Errorf("ended with %v", err)
		}
		if _, err := o.Call(t.Context(), message(t, id, quick)); !errors.As(err, &f) || f.Reason != mcp.ReasonDraining {
			t.Errorf("a call while draining: %v", err)
		}
		closeResult(t, res)
	})
}

// TestDrainDeadline holds that calls get the error of the drain when its time is over.
func TestDrainDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		ctx, cancel := context.WithCancelCause(t.Context())
		res, id := open(t, ctx, o)
		send(t, o, message(t, id, slow))
		cancel(&mcp.Failure{Code: 1503, Reason: mcp.ReasonDraining})
		if ev := nextEvent(t, res); ev.Failure.Code != 1503 || ev.Failure.Sent != mcp.SentYes {
			t.Errorf("%+v", ev.Failure)
		}
		closeResult(t, res)
	})
}

// TestTooMany holds the bound on the calls that wait.
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newStage(t, newServer("/m"))
		res, id := open(t, t.Context(), o)
		var f *mcp.Failure
		for i := range 1001 {
			c := message(t, id, strings.Replace(slow, "2,", strings.Repeat("1", 1+i%9)+strings.Repeat("2", i/9)+",", 1))
			_, err := o.Call(t.Context(), c)
			if i < 1000 && err != nil || i == 1000 && (!errors.As(err, &f) || f.Reason != mcp.ReasonTooManyCalls) {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		closeResult(t, res)
	})
}

// TestLateHandshake holds the time of methods that are known to be quick.
func TestLateHandshake(t *testing.T) {
	for _, method := range []string{"initialize", "ping"} {
		t.Run("late "+method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newStage(t, newServer("/m"))
				res, id := open(t, t.Context(), o)
				send(t, o, message(t, id, `{"jsonrpc":"2.0","id":"h","method":"`+method+`"}`))
				start := time.Now()
				if ev := nextEvent(t, res); ev.Failure.Code != 1504 || string(ev.FailedID) != `"h"` || time.Since(start) != time.Second {
					t.Errorf("%+v after %v", ev.Failure, time.Since(start))
				}
				closeResult(t, res)
			})
		})
	}
}
