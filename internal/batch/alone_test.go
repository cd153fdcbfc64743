package batch_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch"
	"fluentd-perf/internal/mcp"
)

// TestUnshareable: the first caller gets the answer, the others go by themselves all at once, and for a while nobody
// waits for anybody under that key.
func TestUnshareable(t *testing.T) {
	for _, n := range []int{10, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
				return checked(c, "mine"), after(ctx, time.Second)
			})
			all := r.wave(n)
			if wantAnswers(t, all, "mine") != 0 {
				t.Error("an answer that may not be shared was")
			}
			for _, g := range all {
				if g.took > 2*time.Second {
					t.Fatalf("a caller waited %v: they went in a row", g.took)
				}
				if g.header.Get("Set-Cookie") == "" {
					t.Fatalf("its own answer came without its header: %v", g.header)
				}
			}
			wantCalls(t, r, int64(n))
			if most := r.stage.most.Load(); most != int64(n-1) {
				t.Errorf("%d calls at once, want %d", most, n-1)
			}

			for _, g := range r.wave(n) { // held: nobody waits at all
				if g.took != time.Second {
					t.Fatalf("took %v", g.took)
				}
			}
			wantCalls(t, r, int64(2*n))
			if got := r.coalesced(t); got != 0 {
				t.Errorf("coalesced_total is %d", got)
			}
		})
	}
}

// TestHoldEnds: after Hold a key is shared again, and other keys always were.
func TestHoldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			res := checked(c, "ok")
			res.Shareable = n > 1
			return res, after(ctx, time.Second)
		})
		r.call(context.Background(), list("1"))
		<-time.After(hold - 2*time.Second)
		wantAnswers(t, r.wave(10), "ok")
		wantCalls(t, r, 11)
		<-time.After(time.Second)
		wantAnswers(t, r.wave(10), "ok")
		wantCalls(t, r, 12)
	})
}

// TestHeldAgain: a key that was held once can be held again.
func TestHeldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return checked(c, "ok"), after(ctx, time.Second)
		})
		for range 3 {
			r.call(context.Background(), list("1"))
			for _, g := range r.wave(3) {
				if g.took != time.Second {
					t.Errorf("a call of a held key took %v", g.took)
				}
			}
			<-time.After(hold)
		}
	})
}

// TestHeldBounded: however many keys are held, the latest are, and they are forgotten in time.
func TestHeldBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) { return checked(c, "ok"), nil })
		key := func(i int) *mcp.Call {
			c := list("1")
			c.Flight = mcp.FlightKey{0, byte(i), byte(i >> 8), byte(i >> 16), 1} // all in one shard
			return c
		}
		held := func(i int) bool {
			r.stage.mu.Lock()
			r.stage.ids = r.stage.ids[:0]
			r.stage.mu.Unlock()
			r.call(context.Background(), key(i))
			return r.stage.ids[0] == "1" // it went by itself
		}
		const many = 3000
		for i := range many {
			r.call(context.Background(), key(i))
		}
		var remembered int
		for i := many - 1; i >= 0 && held(i); i-- {
			remembered++
		}
		if want := 10_000 / 16; remembered != want {
			t.Errorf("%d keys of one shard are held, want the last %d", remembered, want)
		}
		<-time.After(hold)
		if held(many - 1) {
			t.Error("a key is held for ever")
		}
	})
}

// TestStream: a stream goes to the leader alone, lives for as long as the leader wants it, and its answer is the leader's.
func TestStream(t *testing.T) {
	const before = ": hello\n\nid: 7\nretry: 100\ndata: \n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n"
	streams := map[string]struct{ answer, want string }{
		"plain":     {"data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n", "data: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}\n\n"},
		"crlf":      {"event: message\r\ndata:{\"id\":ID,\"jsonrpc\":\"2.0\",\"result\":{}}\r\nretry: 5\r\n\r\n", "event: message\r\ndata: {\"id\":0,\"jsonrpc\":\"2.0\",\"result\":{}}\nretry: 5\r\n\r\n"},
		"two lines": {"data: {\"jsonrpc\":\"2.0\",\"result\":{},\nx: y\ndata:\"id\":ID}\n\n", "data: {\"jsonrpc\":\"2.0\",\"result\":{},\ndata: \"id\":0}\nx: y\n\n"},
		"no id":     {"data: {\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"m\"}}\n\n", "data: {\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"m\"}}\n\n"},
	}
	for name, s := range streams {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var closed atomic.Int64
				r := newRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
					text := before + strings.ReplaceAll(s.answer, "ID", string(c.ID()))
					return stream(ctx, c, text, io.EOF, &closed), after(ctx, time.Second)
				})
				c := list("0")
				c.Era = mcp.EraModern
				g := r.call(context.Background(), c)
				if g.err != nil || g.body != before+s.want {
					t.Errorf("got %v\n%q, want\n%q", g.err, g.body, before+s.want)
				}
				if closed.Load() != 1 {
					t.Errorf("closed %d times", closed.Load())
				}
				r.Wait()
			})
		})
	}
}

// TestLegacyStream hides the event ids, with which a legacy client would ask for an answer under an id that it never sent.
func TestLegacyStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int64
		broken := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
		r := newRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return stream(ctx, c, "id: 7\ndata: \n\nid\nid:8\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n", broken, &closed), nil
		})
		c := list("0")
		c.Era = mcp.EraLegacy
		g := r.call(context.Background(), c)
		wantFailure(t, g.err, mcp.CodeBadGateway, mcp.ReasonBrokeOff)
		if want := "data: \n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n"; g.body != want {
			t.Errorf("got %q, want %q", g.body, want)
		}
	})
}

// TestStreamOutlivesFlight: the leader reads on for an hour while followers have their own, and its end ends the stream.
func TestStreamOutlivesFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed, open atomic.Int64
		r := newRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := after(ctx, time.Second); err != nil {
				return nil, err
			}
			if n > 1 {
				return checked(c, "mine"), nil
			}
			open.Add(1)
			context.AfterFunc(ctx, func() { open.Add(-1) })
			return stream(ctx, c, ":\n\n", nil, &closed), nil
		})
		cancel, answer := r.leader()
		wantAnswers(t, r.wave(10), "mine")
		<-time.After(time.Hour)
		if open.Load() != 1 || closed.Load() != 0 {
			t.Fatal("the leader's stream has ended")
		}
		cancel(nil)
		g := <-answer
		wantFailure(t, g.err, 0, mcp.ReasonCanceled)
		synctest.Wait()
		if open.Load() != 0 || closed.Load() != 1 || g.body != ":\n\n" {
			t.Errorf("open %d, closed %d, got %q", open.Load(), closed.Load(), g.body)
		}
		r.Wait()
	})
}

// TestClosedStream: the leader's Close ends the flight's context.
func TestClosedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed, released atomic.Int64
		ended := make(chan struct{})
		r := newRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			context.AfterFunc(ctx, func() { close(ended) })
			res := stream(ctx, c, ":\n\n", nil, &closed)
			res.Release = func() { released.Add(1) }
			return res, nil
		})
		res, err := r.Call(context.Background(), list("0"))
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		if closed.Load() != 1 || released.Load() != 1 {
			t.Errorf("closed %d times, released %d times", closed.Load(), released.Load())
		}
	})
}

// TestRaw puts the id back in a body that passes as it comes, however it is cut.
func TestRaw(t *testing.T) {
	for _, size := range []int{1, 2, 7, 30, 41, 1 << 10, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			var closed atomic.Int64
			filler := strings.Repeat(`"fluentd-perf-`, 5000)
			r := newRig(func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
				body := fmt.Sprintf("{%s,%s%s%s", c.ID(), filler, c.ID(), `"fluentd-`)
				return &mcp.Result{
					Status: 200, Header: http.Header{"Content-Length": {fmt.Sprint(len(body))}},
					Raw: &raw{pieces(([]byte)(body), size), io.EOF, &closed},
				}, nil
			})
			g := r.call(context.Background(), list("0"))
			if want := "{0," + filler + "0" + `"fluentd-`; g.err != nil || g.body != want {
				t.Errorf("size %d: got %d bytes, want %d (%v)", size, len(g.body), len(want), g.err)
			}
			if len(g.header) != 0 || closed.Load() != 1 {
				t.Errorf("header %v, closed %d times", g.header, closed.Load())
			}
		})
	}
}

// TestRawBreaks: a raw body that breaks off does so for the leader, after what came.
func TestRawBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int64
		broken := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
		r := newRig(func(_ context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Raw: &raw{pieces([]byte(`{"fluentd`), 3), broken, &closed}}, nil
		})
		g := r.call(context.Background(), list("0"))
		wantFailure(t, g.err, mcp.CodeBadGateway, mcp.ReasonBrokeOff)
		if g.body != `{"fluentd` {
			t.Errorf("got %q", g.body)
		}
	})
}

// TestUnchecked: an answer with an HTTP status of error is the leader's, with its id where it quotes one.
func TestUnchecked(t *testing.T) {
	bodies := map[string]struct{ body, want string }{
		"error":     {`{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"no"}}`, `{"jsonrpc":"2.0","id":0,"error":{"code":-32022,"message":"no"}}`},
		"text":      {`<p>no: ID and ID</p>`, `<p>no: 0 and 0</p>`},
		"other":     {`<p>no</p>`, `<p>no</p>`},
		"empty":     {``, ``},
		"null":      {`{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"ID"}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"ID"}}`},
		"elsewhere": {`{"jsonrpc":"2.0","id":5,"error":{"code":1,"message":"no"}}`, `{"jsonrpc":"2.0","id":5,"error":{"code":1,"message":"no"}}`},
	}
	for name, b := range bodies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
					id := string(c.ID())
					if name == "null" {
						id = "x"
					}
					return &mcp.Result{Status: 400, Body: []byte(strings.ReplaceAll(b.body, "ID", id)), Shareable: true}, nil
				})
				want := b.want
				if name == "null" {
					want = strings.ReplaceAll(want, "ID", "x")
				}
				if g := r.call(context.Background(), list("0")); g.err != nil || g.status != 400 || g.body != want {
					t.Errorf("got %d %q, %v, want %q", g.status, g.body, g.err, want)
				}
			})
		})
	}
}

// TestEncoded: where the id cannot be put back the leader asks again by itself; a tool is not called twice.
func TestEncoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(func(_ context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Body: []byte{0x1f, 0x8b}, Header: http.Header{"Content-Encoding": {"gzip"}}}, nil
		})
		if g := r.call(context.Background(), list("0")); g.err != nil || g.body != "\x1f\x8b" {
			t.Errorf("got %q, %v", g.body, g.err)
		}
		wantCalls(t, r, 2)
		if r.stage.ids[1] != "0" {
			t.Errorf("the second call went out as %s", r.stage.ids[1])
		}
		tool := list("0")
		tool.Message.Method, tool.Flight = mcp.MethodToolsCall, mcp.FlightKey{9}
		wantFailure(t, r.call(context.Background(), tool).err, mcp.CodeBadGateway, mcp.ReasonBadAnswer)
		wantCalls(t, r, 3)
		plain := list("0")
		plain.Era, plain.Message.Method, plain.Flight = mcp.EraPlain, mcp.MethodOther, mcp.FlightKey{8}
		f := wantFailure(t, r.call(context.Background(), plain).err, mcp.CodeBadGateway, mcp.ReasonBadAnswer)
		wantCalls(t, r, 4)
		if f.Sent != mcp.SentYes {
			t.Errorf("sent is %s, want yes", f.Sent)
		}
	})
}

// TestEncodedRepeatable: what the operator says may run twice is asked for again, and nothing else is.
func TestEncodedRepeatable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{answer: func(context.Context, *mcp.Call, int) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Body: []byte{0x1f, 0x8b}, Header: http.Header{"Content-Encoding": {"gzip"}}}, nil
		}}
		r := &rig{stage: s, Flights: batch.New(batch.Options{
			Upstream: "test", Next: s, Repeatable: func(c *mcp.Call) bool { return c.Era == mcp.EraPlain },
		})}
		plain := list("0")
		plain.Era, plain.Message.Method = mcp.EraPlain, mcp.MethodOther
		if g := r.call(context.Background(), plain); g.err != nil || g.body != "\x1f\x8b" {
			t.Errorf("got %q, %v", g.body, g.err)
		}
		wantCalls(t, r, 2)
		other := list("0")
		other.Flight = mcp.FlightKey{9}
		wantFailure(t, r.call(context.Background(), other).err, mcp.CodeBadGateway, mcp.ReasonBadAnswer)
		wantCalls(t, r, 3)
	})
}

// TestLeaderGone: an answer that may not be shared, and whose caller has left, is closed; the others go by themselves.
func TestLeaderGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int64
		r := newRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := after(ctx, 2*time.Second); err != nil {
				return nil, err
			}
			if n == 1 {
				return stream(ctx, c, "", nil, &closed), nil
			}
			return checked(c, "mine"), nil
		})
		cancel, answer := r.leader()
		time.AfterFunc(time.Second, func() { cancel(nil) })
		wantAnswers(t, r.wave(10), "mine")
		wantFailure(t, (<-answer).err, 0, mcp.ReasonCanceled)
		wantCalls(t, r, 11)
		if closed.Load() != 1 {
			t.Errorf("closed %d times", closed.Load())
		}
	})
}
