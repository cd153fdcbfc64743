package daemon

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// pipeSlowly answers after a second, with the members and the number of the call as its text.
func pipeSlowly(members string) pipeAnswer {
	return func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if err := pipeAfter(ctx, time.Second); err != nil {
			return nil, err
		}
		return pipeAnswered(c, members, fmt.Sprintf("%s:%d", c.Header.Get("Authorization"), n)), nil
	}
}

// TestOnce sends equal requests in three waves: the server is called once for each, and once in all where it gave the
// answer time to live.
func TestOnce(t *testing.T) {
	for _, c := range []struct {
		name, members string
		calls         [3]int
	}{
		{"no TTL", pipeOnce, [3]int{1, 1, 1}}, {"private", pipePrivate, [3]int{1, 0, 0}}, {"public", pipePublic, [3]int{1, 0, 0}},
	} {
		for _, size := range []int{10, 100, 1000} {
			t.Run(fmt.Sprint(c.name, " ", size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testOnce(t, size, c.members, c.calls) })
			})
		}
	}
}

func testOnce(t *testing.T, size int, members string, want [3]int) {
	p := newPipe(t, nil, pipeSlowly(members))
	for wave, n := range want {
		calls := pipeEqual(size, "A")
		replies := p.wave(calls...)
		p.wantIDs(calls, replies)
		p.wantCalls(n)
		collapsed, cookies := 0, 0
		for _, r := range replies {
			if pipeText(r) != pipeText(replies[0]) {
				t.Fatalf("wave %d: two answers: %s and %s", wave, r.body, replies[0].body)
			}
			if r.collapsed {
				collapsed++
			}
			if r.cookie != "" {
				cookies++
			}
		}
		if collapsed != n*(size-1) || cookies != n {
			t.Errorf("wave %d: %d collapsed, want %d; %d got the leader's cookie, want %d", wave, collapsed, n*(size-1), cookies, n)
		}
	}
}

// TestOnceStream holds that a stream with nothing but the answer is shared like JSON.
func TestOnceStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			res, err := pipeSlowly(pipeOnce)(ctx, c, n)
			if err != nil {
				return nil, err
			}
			return pipeStreamed(res), nil
		})
		for range 3 {
			calls := pipeEqual(100, "A")
			p.wantIDs(calls, p.wave(calls...))
			p.wantCalls(1)
		}
	})
}

// TestOnceLeavers has callers leave in the middle of a flight: those who stay get the answer of the one call, whoever
// leaves, the first to come included, whose call is what the others wait for.
func TestOnceLeavers(t *testing.T) {
	for name, leaves := range map[string]func(i int) bool{
		"leader":           func(i int) bool { return i == 0 },
		"followers":        func(i int) bool { return i%2 == 1 },
		"all but the last": func(i int) bool { return i < 99 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipe(t, nil, pipeSlowly(pipeOnce))
				testLeavers(t, p, leaves)
				p.wantCalls(1)
			})
		})
	}
}

func testLeavers(t *testing.T, p *pipe, leaves func(i int) bool) {
	ctx, leave := context.WithCancel(t.Context())
	replies := make(chan func(), 100)
	for i := range 100 {
		own := t.Context()
		if leaves(i) {
			own = ctx
		}
		call := pipeList("A", pipeID(i))
		go func() {
			r := p.ask(own, call)
			replies <- func() { onceWantLeft(t, call, r, own == ctx, i == 0) }
		}()
		synctest.Wait() // the first one leads
	}
	pipeWait(time.Second / 2)
	leave()
	for range 100 {
		(<-replies)()
	}
}

func onceWantLeft(t *testing.T, c *mcp.Call, r pipeReply, left, leads bool) {
	t.Helper()
	switch {
	case left && (r.failure == nil || r.failure.Reason != mcp.ReasonCanceled || (r.at != time.Second/2) != leads):
		t.Errorf("%s left, and got %v after %v", c.ID(), r.failure, r.at)
	case !left && (r.failure != nil || pipeText(r) != "A:1" || r.at != time.Second):
		t.Errorf("%s stayed, and got %v %s after %v", c.ID(), r.failure, r.body, r.at)
	}
}

// TestOnceAllLeave holds that a call that nobody waits for any more is cancelled.
func TestOnceAllLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cancelled atomic.Bool
		p := newPipe(t, nil, func(ctx context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
			err := pipeAfter(ctx, time.Hour)
			cancelled.Store(err != nil)
			return nil, err
		})
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		ended := make(chan pipeReply)
		for i := range 10 {
			go func() { ended <- p.ask(ctx, pipeList("A", pipeID(i))) }()
		}
		for range 10 {
			if r := <-ended; r.failure == nil {
				t.Errorf("an answer: %s", r.body)
			}
		}
		synctest.Wait()
		if !cancelled.Load() {
			t.Error("the server still works for nobody")
		}
		p.wantCalls(1)
	})
}

// TestOncePanic has the stage behind panic: the caller whose call it was gets an error, those who waited go by themselves,
// nothing sticks, and the daemon lives.
func TestOncePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n == 1 {
				if err := pipeAfter(ctx, time.Second); err != nil {
					return nil, err
				}
				panic("the stage behind has a bug")
			}
			return pipeSlowly(pipeOnce)(ctx, c, n)
		})
		leader := make(chan pipeReply, 1)
		go func() { leader <- p.ask(t.Context(), pipeList("A", "0")) }()
		synctest.Wait()
		calls := pipeEqual(100, "A")
		p.wantIDs(calls, p.wave(calls...))
		if r := <-leader; r.failure == nil || r.failure.Code != mcp.CodeBadGateway || r.failure.Reason != mcp.ReasonBrokeOff {
			t.Fatalf("the call that crashed: %v %s", r.failure, r.body)
		}
		p.wantCalls(1 + 100)
		p.wantIDs(calls, p.wave(calls...))
		p.wantCalls(1)
	})
}

// TestOncePanicStale is the same where an expired answer is at hand: that one is given.
func TestOncePanicStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, func(c *config.Upstream) { c.Cache.StaleIfError = time.Hour }, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			res, err := pipeSlowly(pipePrivate)(ctx, c, n)
			if n == 2 {
				panic("the stage behind has a bug")
			}
			return res, err
		})
		p.ask(t.Context(), pipeList("A", "1"))
		pipeWait(2 * time.Minute)
		for _, want := range []string{"A:1", "A:3"} {
			calls := pipeEqual(100, "A")
			replies := p.wave(calls...)
			p.wantIDs(calls, replies)
			if got := pipeText(replies[0]); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		p.wantCalls(3)
	})
}

// TestOnceStalled has the first call never end: those who wait, and those who come, get the answer of the one that begins
// when the flight is over its age.
func TestOnceStalled(t *testing.T) {
	const age = 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n == 1 {
				return nil, pipeAfter(ctx, time.Hour)
			}
			return pipeSlowly(pipeOnce)(ctx, c, n)
		})
		stuck, release := context.WithCancel(t.Context())
		leader := make(chan pipeReply)
		go func() { leader <- p.ask(stuck, pipeList("A", "0")) }()
		synctest.Wait()
		calls := pipeEqual(100, "A")
		replies := p.wave(calls...)
		p.wantIDs(calls, replies)
		for i, r := range replies {
			if r.at != age+time.Second || pipeText(r) != "A:2" {
				t.Fatalf("call %d: %s after %v", i, r.body, r.at)
			}
		}
		p.wantCalls(2)
		p.wantIDs(calls, p.wave(calls...)) // the stalled one is in nobody's way
		p.wantCalls(1)
		release()
		if r := <-leader; r.failure == nil {
			t.Errorf("the stalled call was answered: %s", r.body)
		}
	})
}

// TestOnceFailures holds that what goes wrong reaches everybody who waited, and nobody after.
func TestOnceFailures(t *testing.T) {
	failure := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "no connection"}
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := pipeAfter(ctx, time.Second); err != nil {
				return nil, err
			}
			switch n {
			case 1:
				return nil, failure
			case 3:
				return &mcp.Result{Status: http.StatusInternalServerError, Header: header.List{}, Body: []byte("no tools today")}, nil
			}
			return pipeResult(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"call %d"}}`, c.ID(), n)), nil
		})
		for i, r := range p.wave(pipeEqual(100, "A")...) {
			if r.failure == nil || r.failure.Reason != mcp.ReasonConnect || r.failure.Sent != mcp.SentNo {
				t.Fatalf("call %d: %v %s", i, r.failure, r.body)
			}
		}
		p.wantCalls(1)
		calls := pipeEqual(100, "A")
		replies := p.wave(calls...)
		p.wantIDs(calls, replies)
		for i, r := range replies {
			if !strings.Contains(r.body, `"message":"call 2"`) {
				t.Fatalf("call %d: %s", i, r.body)
			}
		}
		p.wantCalls(1)
		for i, r := range p.wave(calls...) {
			if r.code != http.StatusInternalServerError || r.body != "no tools today" {
				t.Fatalf("call %d: %d %v %s", i, r.code, r.failure, r.body)
			}
		}
		p.wantCalls(1)
	})
}
