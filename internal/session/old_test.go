package session_test

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

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// oldServer is an HTTP+SSE server: its stream is fed by the test, its POSTs are recorded.
type oldServer struct {
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

func newOldServer(endpoint string) *oldServer {
	return &oldServer{endpoint: endpoint, feed: make(chan mcp.Event), end: make(chan error, 1), closed: make(chan struct{}), status: 202}
}

func (s *oldServer) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.Lane == mcp.LaneStream {
		return &mcp.Result{Status: 200, Header: http.Header{}, Events: &oldEvents{s: s, ctx: ctx}}, nil
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

type oldEvents struct {
	s     *oldServer
	ctx   context.Context
	named bool
}

func (e *oldEvents) Next() (mcp.Event, error) {
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

func (e *oldEvents) Close() error { close(e.s.closed); return nil }

func answerEvent(body string) mcp.Event {
	return mcp.Event{Raw: []byte("event: message\ndata: " + body + "\n\n"), Name: []byte("message"), Data: []byte(body)}
}

func newOld(t *testing.T, s *oldServer) *session.Old { return newOldWith(t, s) }

func newOldWith(t *testing.T, s mcp.Caller) *session.Old {
	t.Helper()
	u, err := url.Parse("http://server.test/base/sse")
	if err != nil {
		t.Fatal(err)
	}
	return session.NewOld(session.OldOptions{
		Options: session.Options{Upstream: "old", Next: s}, URL: u, Handshake: time.Second, FirstByte: time.Minute, Call: time.Hour,
	})
}

// openOld opens a session and returns its stream and the id in its path.
func openOld(t *testing.T, ctx context.Context, o *session.Old) (*mcp.Result, string) {
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

func TestOldEndpoint(t *testing.T) {
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
			s := newOldServer(endpoint)
			o := newOld(t, s)
			if want == "" {
				_, err := o.Call(t.Context(), get())
				var f *mcp.Failure
				if !errors.As(err, &f) || f.Code != 1502 || f.Reason != mcp.ReasonBadAnswer {
					t.Errorf("%s: %v", endpoint, err)
				}
				<-s.closed
				return
			}
			res, id := openOld(t, t.Context(), o)
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

func TestOldNoEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newOldServer("")
		start := time.Now()
		_, err := newOld(t, s).Call(t.Context(), get())
		var f *mcp.Failure
		if !errors.As(err, &f) || f.Code != 1504 || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		<-s.closed
	})
}

func TestOldPOSTWithoutSession(t *testing.T) {
	o := newOld(t, newOldServer("/m"))
	res, err := o.Call(t.Context(), message(t, "", `{"jsonrpc":"2.0","id":1,"method":"initialize"}`))
	if err != nil || res.Status != 405 {
		t.Errorf("%v %v", res, err)
	}
}

// TestOldFailures holds that a call that was accepted gets its answer or an error on the stream.
func TestOldFailures(t *testing.T) {
	const quick, slow = `{"jsonrpc":"2.0","id":"q","method":"tools/list"}`, `{"jsonrpc":"2.0","id":2,"method":"tools/call"}`
	next := func(t *testing.T, res *mcp.Result) mcp.Event {
		t.Helper()
		ev, err := res.Events.Next()
		if err != nil {
			t.Fatal(err)
		}
		return ev
	}
	send := func(t *testing.T, o *session.Old, c *mcp.Call) {
		t.Helper()
		if res, err := o.Call(t.Context(), c); err != nil || res.Status != 202 {
			t.Fatalf("%v %v", res, err)
		}
	}
	t.Run("late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newOldServer("/m")
			o := newOld(t, s)
			res, id := openOld(t, t.Context(), o)
			send(t, o, message(t, id, quick))
			send(t, o, message(t, id, slow))
			start := time.Now()
			if ev := next(t, res); ev.Failure.Code != 1504 || string(ev.FailedID) != `"q"` || ev.Failure.Sent != mcp.SentYes || time.Since(start) != time.Minute {
				t.Errorf("%+v after %v", ev.Failure, time.Since(start))
			}
			if ev := next(t, res); ev.Failure.Code != 1504 || string(ev.FailedID) != `2` || time.Since(start) != time.Hour {
				t.Errorf("%+v after %v", ev.Failure, time.Since(start))
			}
			synctest.Wait()
			if got := string(s.posts[2].Body); got != `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q","reason":"timed out"}}` {
				t.Errorf("told the server %s", got)
			}
			closeResult(t, res)
		})
	})
	for _, method := range []string{"initialize", "ping"} {
		t.Run("late "+method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOld(t, newOldServer("/m"))
				res, id := openOld(t, t.Context(), o)
				send(t, o, message(t, id, `{"jsonrpc":"2.0","id":"h","method":"`+method+`"}`))
				start := time.Now()
				if ev := next(t, res); ev.Failure.Code != 1504 || string(ev.FailedID) != `"h"` || time.Since(start) != time.Second {
					t.Errorf("%+v after %v", ev.Failure, time.Since(start))
				}
				closeResult(t, res)
			})
		})
	}
	t.Run("answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newOldServer("/m")
			o := newOld(t, s)
			res, id := openOld(t, t.Context(), o)
			send(t, o, message(t, id, quick))
			go func() { s.feed <- answerEvent(`{"jsonrpc":"2.0","id":"q","result":{}}`); s.end <- io.EOF }()
			if ev := next(t, res); string(ev.Raw) != "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":{}}\n\n" {
				t.Errorf("%q", ev.Raw)
			}
			if _, err := res.Events.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v", err)
			}
			closeResult(t, res)
		})
	})
	t.Run("answered before the 202", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newOldServer("/m")
			o := newOld(t, s)
			res, id := openOld(t, t.Context(), o)
			s.onPost = func(*mcp.Call) { s.feed <- answerEvent(`{"jsonrpc":"2.0","id":"q","result":{}}`); synctest.Wait() }
			c := message(t, id, quick)
			go func() {
				if res, err := o.Call(t.Context(), c); err != nil || res.Status != 202 {
					t.Errorf("%v %v", res, err)
				}
			}()
			next(t, res)
			time.AfterFunc(2*time.Hour, func() { s.end <- io.EOF })
			if ev, err := res.Events.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("%+v %v, want no more than the end", ev, err)
			}
			closeResult(t, res)
		})
	})
	t.Run("broken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newOldServer("/m")
			o := newOld(t, s)
			res, id := openOld(t, t.Context(), o)
			send(t, o, message(t, id, slow))
			send(t, o, message(t, id, quick))
			s.end <- errBroke
			for _, want := range []string{`2`, `"q"`} {
				if ev := next(t, res); ev.Failure.Reason != mcp.ReasonBrokeOff || string(ev.FailedID) != want || ev.Failure.Sent != mcp.SentYes {
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
	})
	t.Run("not accepted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newOldServer("/m")
			o := newOld(t, s)
			res, id := openOld(t, t.Context(), o)
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
	})
	t.Run("drain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newOldServer("/m")
			o := newOld(t, s)
			res, id := openOld(t, t.Context(), o)
			send(t, o, message(t, id, slow))
			res.Events.(mcp.Drainer).Drain()
			send(t, o, message(t, id, strings.Replace(slow, "2,", "3,", 1))) // the stream is there for another call
			go func() {
				s.feed <- answerEvent(`{"jsonrpc":"2.0","id":2,"result":{}}`)
				s.feed <- answerEvent(`{"jsonrpc":"2.0","id":3,"result":{}}`)
			}()
			next(t, res)
			next(t, res)
			var f *mcp.Failure
			if _, err := res.Events.Next(); !errors.As(err, &f) || f.Reason != mcp.ReasonDraining {
				t.Errorf("ended with %v", err)
			}
			if _, err := o.Call(t.Context(), message(t, id, quick)); !errors.As(err, &f) || f.Reason != mcp.ReasonDraining {
				t.Errorf("a call while draining: %v", err)
			}
			closeResult(t, res)
		})
	})
	t.Run("deadline of the drain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newOldServer("/m")
			o := newOld(t, s)
			ctx, cancel := context.WithCancelCause(t.Context())
			res, id := openOld(t, ctx, o)
			send(t, o, message(t, id, slow))
			cancel(&mcp.Failure{Code: 1503, Reason: mcp.ReasonDraining})
			if ev := next(t, res); ev.Failure.Code != 1503 || ev.Failure.Sent != mcp.SentYes {
				t.Errorf("%+v", ev.Failure)
			}
			closeResult(t, res)
		})
	})
	t.Run("too many", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOld(t, newOldServer("/m"))
			res, id := openOld(t, t.Context(), o)
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
	})
}
