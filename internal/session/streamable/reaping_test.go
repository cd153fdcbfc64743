package streamable_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/upstream/stdio"
)

// TestReaping holds that sessions without state give way at once, that one with state does after a rest, and that a call
// waits where none can.
func TestReaping(t *testing.T) {
	x := &scripted{}
	o := options{pool: func(o *stdio.PoolOptions) { o.Max = 2; o.QueueWait = 20 * time.Second }}
	world(t, x, o, func(t *testing.T, r *rig, _ *agent) {
		agents := make([]*agent, 20)
		for i := range agents {
			agents[i] = newAgent(t, r.up)
			agents[i].open(mcp.Version20251125)
			if got := agents[i].call(list); got.status != 200 {
				t.Fatalf("%d: %+v", i, got)
			}
		}
		for i, a := range agents {
			if got := a.call(list); got.failure != nil {
				t.Fatalf("%d again: %v", i, got.failure)
			}
		}
		if n := r.pool.Status().Processes; n != 2 {
			t.Errorf("%d processes", n)
		}
		for _, a := range agents[:2] {
			if got := a.call(toolCall(1, "count", "")); got.failure != nil {
				t.Fatalf("with state: %v", got.failure)
			}
			time.Sleep(time.Second)
		}
		begun := time.Now()
		if got := agents[3].call(list); got.failure == nil || got.failure.Reason != mcp.ReasonProcesses || time.Since(begun) != 20*time.Second {
			t.Errorf("all have state: %+v after %v", got, time.Since(begun))
		}
		if got := agents[3].call(list); got.failure != nil || time.Since(begun) != 28*time.Second { // 30 s after its last call
			t.Errorf("later: %+v after %v", got, time.Since(begun))
		}
		if got := agents[0].call(toolCall(2, "count", "")); got.failure == nil || got.failure.Code != 1410 {
			t.Errorf("the one that gave way: %+v", got)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if n := r.pool.Status().Processes; n != 0 {
			t.Errorf("%d processes after idle_timeout", n)
		}
		if got := agents[5].call(list); got.failure != nil {
			t.Errorf("after it: %v", got.failure)
		}
	})
}

// TestWhichGoesFirst holds which process gives way: one without state before one with, and of those the one that was idle for longest.
func TestWhichGoesFirst(t *testing.T) {
	x := &scripted{}
	world(t, x, options{pool: func(o *stdio.PoolOptions) { o.Max = 4 }}, func(t *testing.T, r *rig, _ *agent) {
		open := func() *agent {
			a := newAgent(t, r.up)
			a.open(mcp.Version20251125)
			return a
		}
		agents := []*agent{open(), open(), open(), open()}
		x.mu.Lock()
		processes := slices.Clone(x.all)
		x.mu.Unlock()
		for _, use := range []struct {
			agent int
			after time.Duration
			body  string
		}{{1, 0, toolCall(1, "count", "")}, {0, 5 * time.Second, toolCall(1, "count", "")}, {3, 40 * time.Second, list}, {2, time.Second, list}} {
			time.Sleep(use.after)
			if got := agents[use.agent].call(use.body); got.failure != nil {
				t.Fatal(got.failure)
			}
		}
		time.Sleep(time.Second)
		for others := range processes {
			open()
			synctest.Wait()
			for i, p := range processes {
				if gone := i >= len(processes)-1-others; isStopped(p) != gone {
					t.Errorf("after %d others: process %d ended: %v", others+1, i, !gone)
				}
			}
		}
	})
}

// TestStreamHolds holds that a session with state and an open GET stream keeps its process, and one without state does not.
func TestStreamHolds(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		b := newAgent(t, r.up)
		b.open(mcp.Version20251125)
		ctx, leave := context.WithCancel(t.Context())
		_, _ = a.get(ctx, "")
		_, _ = b.get(ctx, "")
		a.call(toolCall(1, "count", ""))
		time.Sleep(time.Hour)
		if n := r.pool.Status().Processes; n != 1 {
			t.Errorf("%d processes", n)
		}
		leave()
		time.Sleep(time.Hour)
		if n := r.pool.Status().Processes; n != 0 {
			t.Errorf("%d processes after the stream", n)
		}
	})
}

// TestSubscriptionHolds holds that a process in which nothing is left but a subscription, made again after a loss, stays for as long as
// its agent has a stream open, gives way to others after 30 s only, and goes like any other when it is unsubscribed, or nobody could be told.
func TestSubscriptionHolds(t *testing.T) {
	subscribe := func(verb string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"resources/` + verb + `","params":{"uri":"a://b"}}`
	}
	healed := func(t *testing.T, r *rig, x *scripted, a *agent) {
		a.open(mcp.Version20251125)
		a.call(subscribe("subscribe"))
		x.last().End("signal: killed")
		synctest.Wait()
		if got := a.call(list); got.failure != nil || x.started() != 2 {
			t.Fatalf("after the loss: %+v, %d processes", got, x.started())
		}
	}
	running := func(t *testing.T, what string, r *rig, want int) {
		t.Helper()
		synctest.Wait()
		if n := r.pool.Status().Processes; n != want {
			t.Errorf("%s: %d processes", what, n)
		}
	}
	for verb, want := range map[string]int{"list": 1, "unsubscribe": 0} {
		x := &scripted{}
		world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
			healed(t, r, x, a)
			ctx, leave := context.WithCancel(t.Context())
			_, _ = a.get(ctx, "")
			a.call(subscribe(verb))
			time.Sleep(time.Hour)
			running(t, verb+", an hour later", r, want)
			leave()
			time.Sleep(11 * time.Minute)
			running(t, verb+", without a stream", r, 0)
		})
	}
	x := &scripted{}
	world(t, x, options{pool: func(o *stdio.PoolOptions) { o.Max, o.QueueWait = 1, time.Minute }}, func(t *testing.T, r *rig, a *agent) {
		healed(t, r, x, a)
		_, _ = a.get(t.Context(), "")
		begun := time.Now()
		newAgent(t, r.up).open(mcp.Version20251125)
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("it gave way after %v", took)
		}
	})
}

// TestStillStarting holds that an agent does not wait for ever for a start, and that the start is not in vain.
func TestStillStarting(t *testing.T) {
	x := &scripted{slow: 90 * time.Second}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		initialize := `{"jsonrpc":"2.0","id":%d,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`
		begun := time.Now()
		got := a.call(fmt.Sprintf(initialize, 1))
		if got.failure == nil || got.failure.Reason != mcp.ReasonStillStarting || got.failure.Sent != mcp.SentNo || time.Since(begun) != 55*time.Second {
			t.Fatalf("%+v after %v", got, time.Since(begun))
		}
		time.Sleep(40 * time.Second)
		got = a.call(fmt.Sprintf(initialize, 2))
		if got.failure != nil || !strings.Contains(got.body, `"id":2,`) || x.started() != 1 || time.Since(begun) != 95*time.Second {
			t.Errorf("%+v, %d starts, after %v", got, x.started(), time.Since(begun))
		}
	})
}

// TestUnknownNotificationIsState holds that a server which got a notification that nobody knows may keep something of it.
func TestUnknownNotificationIsState(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		a.read(a.do(t.Context(), mcp.LaneNotification, `{"jsonrpc":"2.0","method":"notifications/select","params":{"project":"a"}}`))
		x.last().End("signal: killed")
		synctest.Wait()
		if got := a.call(toolCall(1, "echo", "a")); got.failure == nil || got.failure.Code != mcp.CodeSessionRestart {
			t.Errorf("after the process went: %+v", got)
		}
	})
}

// TestGoneAgentHoldsNothing holds that a request of a server's which its agent took and never answered does not keep the process for
// ever, and that an agent which is there has all the time that a person takes.
func TestGoneAgentHoldsNothing(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		ctx, leave := context.WithCancel(t.Context())
		events, _ := a.get(ctx, "")
		x.last().Write(`{"jsonrpc":"2.0","id":"e","method":"elicitation/create"}` + "\n")
		<-events
		x.seen()
		time.Sleep(3 * time.Hour)
		if got := x.seen(); got != "" || r.pool.Status().Processes != 1 {
			t.Errorf("with its agent there: %q", got)
		}
		leave()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := x.seen(); !strings.Contains(got, "-32603") || r.pool.Status().Processes != 0 {
			t.Errorf("an hour after the agent left: %q, %d processes", got, r.pool.Status().Processes)
		}
	})
}
