package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

var staleHour = cache.StageOptions{StaleIfError: time.Hour}

// stale has the answer to tools/list just expired.
func (r *rig) stale() {
	r.tb.Helper()
	r.want("a", "tools/list", "v1", "fwd=miss stored")
	after(staleTTL)
}

// TestStaleAfterBoundsTheWait has the server take its time: the expired answer comes exactly then, and the call goes on.
func TestStaleAfterBoundsTheWait(t *testing.T) {
	for _, wait := range []time.Duration{0, 300 * time.Millisecond, 7 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			o, want := staleHour, 2*time.Second
			if o.StaleAfter = wait; wait > 0 {
				want = wait
			}
			staleTest(t, o, "private", func(r *rig) {
				r.stale()
				goOn := r.stalls("tools/list", r.plain)
				first := r.begin("a", "tools/list")
				others := make([]*begun, 20)
				for i := range others { // everybody else gets it with the first
					others[i] = r.begin("a", "tools/list")
				}
				r.wantEnd(first, "v1", "stale-slow", want)
				for _, other := range others {
					r.wantEnd(other, "v1", "stale-slow", want)
				}
				r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-revalidating", 0)
				if n := r.own.calls(); n != 2 {
					t.Errorf("the server was asked %d times", n)
				}
				after(time.Second)
				r.own.set(func() { r.own.says = "v2" })
				goOn()
				told := r.want("a", "tools/list", "v2", "memory")
				if told.ttl != staleTTL.Milliseconds() || r.own.calls() != 2 {
					t.Errorf("told %+v; the server was asked %d times", told, r.own.calls())
				}
			})
		})
	}
}

// TestAnswerWithinTheWait has the server answer, or fail, before anybody is told something expired.
func TestAnswerWithinTheWait(t *testing.T) {
	for name, test := range map[string]struct {
		says, from string
		fails      bool
	}{"answers": {"v2", "fwd=miss stored", false}, "fails": {"v1", "stale-error", true}} {
		t.Run(name, func(t *testing.T) {
			staleTest(t, staleHour, "private", func(r *rig) {
				r.stale()
				r.own.set(func() { r.own.says = "v2" })
				then := r.plain
				if test.fails {
					then = badGateway
				}
				goOn := r.stalls("tools/list", then)
				call := r.begin("a", "tools/list")
				after(1999 * time.Millisecond)
				goOn()
				r.wantEnd(call, test.says, test.from, 1999*time.Millisecond)
			})
		})
	}
}

// TestNothingToStandIn has the server be slow where no expired answer is at hand: it is waited for.
func TestNothingToStandIn(t *testing.T) {
	staleTest(t, staleHour, "private", func(r *rig) {
		goOn := r.stalls("tools/list", r.plain)
		call := r.begin("a", "tools/list")
		after(time.Minute)
		goOn()
		r.wantEnd(call, "v1", "fwd=miss stored", time.Minute)
	})
}

// TestStaleEndsWhileWaiting has the expired answer's own life end before stale_after: the call that goes on is waited for.
func TestStaleEndsWhileWaiting(t *testing.T) {
	o := cache.StageOptions{StaleIfError: time.Second}
	staleTest(t, o, "private", func(r *rig) {
		r.stale()
		r.own.set(func() { r.own.says = "v2" })
		goOn := r.stalls("tools/list", r.plain)
		call := r.begin("a", "tools/list")
		after(5 * time.Second)
		goOn()
		r.wantEnd(call, "v2", "fwd=miss stored", 5*time.Second)
		if n := r.own.calls(); n != 2 {
			t.Errorf("the server was asked %d times", n)
		}
	})
}

// TestLeaversWhileItIsStale has the agent leave: it is let go at once, and the answer is kept for whoever comes next.
func TestLeaversWhileItIsStale(t *testing.T) {
	staleTest(t, staleHour, "private", func(r *rig) {
		r.stale()
		goOn := r.stalls("tools/list", r.plain)
		ctx, leave := context.WithCancel(context.Background())
		call := r.beginFor(ctx, "a", "tools/list")
		after(time.Second)
		leave()
		if told := call.end(); told.err == nil || told.err.Reason != mcp.ReasonCanceled || call.took != time.Second {
			t.Errorf("told %+v after %v", told, call.took)
		}
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-revalidating", 0)
		r.own.set(func() { r.own.says = "v2" })
		goOn()
		r.want("a", "tools/list", "v2", "memory")
		if n := r.own.calls(); n != 2 {
			t.Errorf("the server was asked %d times", n)
		}
	})
}

// TestEndWhileItIsStale has the daemon end while a call goes on that nobody waits for.
func TestEndWhileItIsStale(t *testing.T) {
	staleTest(t, staleHour, "private", func(r *rig) {
		r.stale()
		r.stalls("tools/list", r.plain)
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-slow", 2*time.Second)
		if took := timed(func() { r.close(time.Second) }); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestBackgroundIsFull has more requests go on without anybody than there is room for: the one more is an ordinary call,
// with a copy at hand for trouble and for a server that is slow.
func TestBackgroundIsFull(t *testing.T) {
	const room = 256
	staleTest(t, staleHour, "private", func(r *rig) {
		for i := range room + 1 {
			r.want("a", fmt.Sprint("resources/read file:///", i), "v1", "fwd=miss stored")
		}
		after(staleTTL)
		goOn := r.stalls("resources/read", r.plain)
		calls := make([]*begun, room)
		for i := range calls {
			calls[i] = r.begin("a", fmt.Sprint("resources/read file:///", i))
		}
		for _, call := range calls {
			r.wantEnd(call, "v1", "stale-slow", 2*time.Second)
		}
		last := fmt.Sprint("resources/read file:///", room)
		script := r.own.script
		r.breaks(badGateway)
		r.wantEnd(r.begin("a", last), "v1", "stale-error", 0)
		r.mends("v2")
		r.want("a", last, "v2", "fwd=miss stored")
		after(staleTTL)
		r.own.set(func() { r.own.script = script })
		r.wantEnd(r.begin("a", last), "v2", "stale-slow", 2*time.Second)
		r.own.set(func() { r.own.says = "v3" })
		goOn()
		r.want("a", last, "v3", "fwd=miss stored")
		r.want("a", "resources/read file:///0", "v3", "memory")
		after(staleTTL) // there is room again
		r.stalls("resources/read", r.plain)
		r.wantEnd(r.begin("a", last), "v3", "stale-slow", 2*time.Second)
	})
}

// TestPanicWhileItIsStale has a stage behind come to grief, with somebody waiting and with nobody.
func TestPanicWhileItIsStale(t *testing.T) {
	staleTest(t, staleHour, "private", func(r *rig) {
		r.stale()
		goOn := r.stalls("tools/list", func(*mcp.Call) (*mcp.Result, error) { panic("a bug") })
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-slow", 2*time.Second)
		goOn()
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-error", 0)
		r.mends("v2")
		r.want("a", "tools/list", "v2", "fwd=miss stored")
	})
}

// TestRefusedUnread has the server refuse the credential in a call that nobody waits for any more.
func TestRefusedUnread(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			staleTest(t, staleHour, scope, func(r *rig) {
				r.stale()
				goOn := r.stalls("tools/list", unauthorized)
				r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-slow", 2*time.Second)
				goOn()
				if told := r.ask("a", "tools/list"); told.status != 401 {
					t.Errorf("told %+v", told)
				}
			})
		})
	}
}

// TestNotificationUnread has the server say of a change on the way of an answer that nobody waits for any more.
func TestNotificationUnread(t *testing.T) {
	staleTest(t, staleHour, "private", func(r *rig) {
		r.stale()
		r.own.set(func() { r.own.ttl = time.Minute })
		for _, what := range []string{"prompts/list", "resources/list"} {
			r.want("a", what, "v1", "fwd=miss stored")
		}
		r.own.set(func() { r.own.says = "v2" })
		goOn := r.stalls("tools/list", func(c *mcp.Call) (*mcp.Result, error) {
			change := func(of string) []byte {
				return fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/%s/list_changed"}`, of)
			}
			events := []mcp.Event{{Data: change("prompts")}, {Data: change("resources")}, {Data: r.own.plain(c).Body, Answer: true, Exact: true}}
			for i := range events {
				if err := mcp.Scan(events[i].Data, &events[i].Message); err != nil {
					return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Cause: err}
				}
			}
			return rigStream(events...), nil
		})
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-slow", 2*time.Second)
		r.want("a", "prompts/list", "v1", "memory")
		goOn()
		after(0)
		for _, what := range []string{"prompts/list", "resources/list"} {
			r.want("a", what, "v2", "fwd=miss stored")
		}
	})
}

// TestFailureUnread has the server fail when nobody waits any more: the next one asks again, and at once.
func TestFailureUnread(t *testing.T) {
	staleTest(t, staleHour, "private", func(r *rig) {
		r.stale()
		goOn := r.stalls("tools/list", badGateway)
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-slow", 2*time.Second)
		goOn()
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-error", 0)
		r.mends("v2")
		r.wantEnd(r.begin("a", "tools/list"), "v2", "fwd=miss stored", 0)
	})
}

// TestInvalidatedWhileItGoesOn invalidates the answer while a call for a new one goes on that began before: who asks after
// that is not told what that one brings.
func TestInvalidatedWhileItGoesOn(t *testing.T) {
	staleTest(t, staleHour, "private", func(r *rig) {
		r.stale()
		r.own.set(func() { r.own.says = "old" })
		goOn := r.stalls("tools/list", func(c *mcp.Call) (*mcp.Result, error) { return rigAnswer(c, 4000, "private", "old"), nil })
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-slow", 2*time.Second)
		held := r.own.script
		r.notify(rigTools, "")
		r.mends("new")
		r.want("a", "tools/list", "new", "fwd=miss stored")
		r.own.set(func() { r.own.script = held })
		goOn()
		r.want("a", "tools/list", "new", "memory")
	})
}

// TestStaleWhileRevalidate has the first caller past the time start one call, and all get the expired answer at once.
func TestStaleWhileRevalidate(t *testing.T) {
	o := cache.StageOptions{StaleWhileRevalidate: 10 * time.Second}
	staleTest(t, o, "private", func(r *rig) {
		r.stale()
		goOn := r.stalls("tools/list", r.plain)
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-while-revalidate", 0)
		for range 20 {
			r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-revalidating", 0)
		}
		if n := r.own.calls(); n != 2 {
			t.Errorf("the server was asked %d times", n)
		}
		r.own.set(func() { r.own.says = "v2" })
		goOn()
		r.want("a", "tools/list", "v2", "memory")

		after(staleTTL + 9999*time.Millisecond) // the last millisecond of the window
		r.mends("v3")
		told := r.want("a", "tools/list", "v2", "stale-while-revalidate")
		if !told.isStale() {
			t.Errorf("told %+v", told)
		}
		after(0)
		r.want("a", "tools/list", "v3", "memory")
		after(staleTTL + 10*time.Second) // past it
		r.mends("v4")
		r.want("a", "tools/list", "v4", "fwd=miss stored")
	})
}

// TestRevalidatingFails has the server be gone for a while: each caller gets the expired answer and has it asked again.
func TestRevalidatingFails(t *testing.T) {
	o := cache.StageOptions{StaleWhileRevalidate: 10 * time.Second, StaleIfError: time.Hour}
	staleTest(t, o, "private", func(r *rig) {
		r.stale()
		r.breaks(badGateway)
		for i := range 5 {
			r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-while-revalidate", 0)
			after(time.Second)
			if n := r.own.calls(); n != 2+i {
				t.Errorf("the server was asked %d times", n)
			}
		}
		after(5 * time.Second) // past the window, and within the life for a server that fails
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-error", 0)
		r.stalls("tools/list", r.plain)
		r.wantEnd(r.begin("a", "tools/list"), "v1", "stale-slow", 2*time.Second)
	})
}

// TestRevalidatingIsRefused has the server refuse the credential of a call that was made behind the agent's back.
func TestRevalidatingIsRefused(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			staleTest(t, cache.StageOptions{StaleWhileRevalidate: time.Hour}, scope, func(r *rig) {
				r.stale()
				r.breaks(unauthorized)
				r.want("a", "tools/list", "v1", "stale-while-revalidate")
				after(0)
				if told := r.ask("a", "tools/list"); told.status != 401 {
					t.Errorf("told %+v", told)
				}
			})
		})
	}
}

// TestStandInsExtendNoCredential keeps a public answer going by copies alone: without an answer of the server's a credential
// is given none after ten minutes.
func TestStandInsExtendNoCredential(t *testing.T) {
	staleTest(t, staleHour, "public", func(r *rig) {
		r.own.set(func() { r.own.ttl = 9 * time.Minute })
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.breaks(badGateway)
		after(9 * time.Minute)
		r.want("a", "tools/list", "v1", "stale-error")
		after(59 * time.Second)
		r.want("a", "tools/list", "v1", "stale-error")
		after(time.Second)
		if told := r.ask("a", "tools/list"); told.err == nil || told.err.Code != mcp.CodeBadGateway {
			t.Errorf("told %+v", told)
		}
	})
}
