package cache_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// TestUnshareable: the first caller gets the answer, the others go by themselves all at once, and for a while nobody
// waits for anybody under that key.
func TestUnshareable(t *testing.T) {
	for _, n := range []int{10, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
				return checked(c, "mine"), flightAfter(ctx, time.Second)
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
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			res := checked(c, "ok")
			setShare(res, n > 1)
			return res, flightAfter(ctx, time.Second)
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
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return checked(c, "ok"), flightAfter(ctx, time.Second)
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
		var share atomic.Bool
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			res := checked(c, "ok")
			if setShare(res, share.Load()); !share.Load() {
				return res, nil
			}
			return res, flightAfter(ctx, time.Millisecond)
		})
		key := func(i int) *mcp.Call {
			c := list("1")
			setKey(c, flightKey{0, byte(i), byte(i >> 8), byte(i >> 16), 1}) // all in one shard
			return c
		}
		held := func(i int) bool {
			before := r.stage.calls.Load()
			var two sync.WaitGroup
			for range 2 {
				two.Go(func() { r.call(context.Background(), key(i)) })
			}
			two.Wait()
			return r.stage.calls.Load() == before+2 // each went by itself
		}
		const many = 3000
		for i := range many {
			r.call(context.Background(), key(i))
		}
		share.Store(true)
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

// TestStream: a stream goes to the leader alone, byte for byte, event ids, retry and an end without an answer included:
// what can be resumed (2025-11-25, basic/transports, "Resumability and Redelivery") is the leader's to resume.
func TestStream(t *testing.T) {
	const primed = ": hello\n\nid: e1\nretry: 50\ndata: \n\n"
	const told = "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n"
	streams := map[string]string{
		"plain":       primed + told + "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n",
		"crlf":        primed + "id\r\nevent: message\r\ndata:{\"id\":ID,\"jsonrpc\":\"2.0\",\"result\":{}}\r\nretry: 5\r\n\r\n",
		"two lines":   primed + "data: {\"jsonrpc\":\"2.0\",\"result\":{},\nx: y\ndata:\"id\":ID}\n\n",
		"no id":       "data: {\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"m\"}}\n\n",
		"no answer":   primed,
		"ids, no end": primed + "id:8\n" + told,
	}
	for name, text := range streams {
		for _, era := range []mcp.Era{mcp.EraLegacy, mcp.EraModern} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testStream(t, text, era, name == "ids, no end") })
			})
		}
	}
}

func testStream(t *testing.T, text string, era mcp.Era, breaks bool) {
	var closed atomic.Int64
	broken := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
	end := io.EOF
	if breaks {
		end = broken
	}
	r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if err := flightAfter(ctx, time.Second); n > 1 {
			return checked(c, "mine"), err
		}
		return stream(ctx, strings.ReplaceAll(text, "ID", string(c.ID())), end, &closed), nil
	})
	c := list(`"l"`)
	c.Era = era
	leader := make(chan got, 1)
	go func() { leader <- r.call(context.Background(), c) }()
	synctest.Wait()
	all := r.wave(5)
	wantAnswers(t, all, "mine")
	wantCalls(t, r, 6)
	g := <-leader
	if want := strings.ReplaceAll(text, "ID", `"l"`); g.body != want || breaks != (g.err != nil) {
		t.Errorf("got %v\n%q, want\n%q", g.err, g.body, want)
	}
	if closed.Load() != 1 {
		t.Errorf("closed %d times", closed.Load())
	}
	r.Wait()
}

// TestStreamOutlivesFlight: the leader reads on for an hour while followers have their own, and its end ends the stream.
func TestStreamOutlivesFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed, open atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := flightAfter(ctx, time.Second); err != nil {
				return nil, err
			}
			if n > 1 {
				return checked(c, "mine"), nil
			}
			open.Add(1)
			context.AfterFunc(ctx, func() { open.Add(-1) })
			return stream(ctx, ":\n\n", nil, &closed), nil
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
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			context.AfterFunc(ctx, func() { close(ended) })
			res := stream(ctx, ":\n\n", nil, &closed)
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

// TestPasses: whatever is no answer that was understood goes to the leader as it came, header and all, and to nobody else.
func TestPasses(t *testing.T) {
	for name, give := range map[string]func(c *mcp.Call, closed *atomic.Int64) *mcp.Result{
		"large": func(c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			return &mcp.Result{Status: 200, Raw: rawBody("{"+string(c.ID()), 1, io.EOF, closed)}
		},
		"encoded": func(c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			return &mcp.Result{Status: 200, Body: append([]byte{0x1f, 0x8b}, c.ID()...), Header: header.Of(http.Header{"Content-Encoding": {"gzip"}})}
		},
		"an array": func(c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			return &mcp.Result{Status: 200, Body: fmt.Appendf(nil, `[{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":%s,"result":{}}]`, c.ID())}
		},
		"loose": func(c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			res := &mcp.Result{Status: 200, Body: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{},"error":null}`, c.ID())}
			if mcp.Scan(res.Body, &res.Message) != nil || !res.Message.Loose {
				panic("it is not loose")
			}
			return res
		},
		"opaque":   func(c *mcp.Call, closed *atomic.Int64) *mcp.Result { return &mcp.Result{Status: 200, Body: c.ID()} },
		"accepted": func(c *mcp.Call, closed *atomic.Int64) *mcp.Result { return &mcp.Result{Status: 202} },
	} {
		for _, says := range []bool{false, true} { // that it may be shared: which is not believed
			t.Run(fmt.Sprint(name, says), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var closed, released atomic.Int64
					r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
						res := give(c, &closed)
						if setShare(res, says); res.Header == nil {
							res.Header = header.List{}
						}
						res.Header.Set("Content-Length", "9")
						res.Release = func() { released.Add(1) }
						return res, flightAfter(ctx, time.Second)
					})
					for _, g := range r.wave(5) {
						c := list(g.id)
						if want := string(bodyOf(give(c, &closed))); g.err != nil || g.body != want || g.collapsed || g.header.Get("Content-Length") != "9" {
							t.Errorf("%s got %q, collapsed %v, %v, want %q", g.id, g.body, g.collapsed, g.err, want)
						}
					}
					wantCalls(t, r, 5)
					if released.Load() != 5 || name == "large" && closed.Load() != 5 {
						t.Errorf("released %d times, closed %d", released.Load(), closed.Load())
					}
				})
			})
		}
	}
}

// TestRawBreaks: a raw body that breaks off does so for the leader, after what came.
func TestRawBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int64
		broken := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
		r := flightNewRig(func(_ context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Raw: rawBody(`{"fluentd`, 3, broken, &closed)}, nil
		})
		g := r.call(context.Background(), list("0"))
		wantFailure(t, g.err, mcp.CodeBadGateway, mcp.ReasonBrokeOff)
		if g.body != `{"fluentd` {
			t.Errorf("got %q", g.body)
		}
	})
}

// TestLeaderGone: an answer that may not be shared, and whose caller has left, is closed; the others go by themselves.
func TestLeaderGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := flightAfter(ctx, 2*time.Second); err != nil {
				return nil, err
			}
			if n == 1 {
				return stream(ctx, "", nil, &closed), nil
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
