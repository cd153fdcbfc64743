package admission_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/mcp"
)

// TestCallersLeave: whoever leaves the queue is out of it at once, and its place free; the failure is its context's cause,
// if that is one.
func TestCallersLeave(t *testing.T) {
	shared := mcp.Draining()
	shared.Sent = mcp.SentUnknown
	cases := []struct {
		cause error
		want  string
	}{{nil, "canceled"}, {errors.New("gone"), "canceled"}, {shared, "draining"}}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(t, admission.Options{Queue: 3})
			all := []*caller{g.ask("busy", request("x"))}
			for _, name := range []string{"a", "b", "c"} {
				all = append(all, g.ask(name, request("x")))
			}
			all[2].cancel(c.cause)
			synctest.Wait()
			all[2].want(c.want)
			g.stats(1, 2)
			if f := all[2].failure; f == shared {
				t.Error("the shared cause itself is the failure")
			}
			all = append(all, g.ask("d", request("x")))
			g.order(all, "busy", "a", "c", "d")
		})
	}
	synctest.Test(t, func(t *testing.T) { // before it asks
		g := newGate(t, admission.Options{})
		busy := g.ask("busy", request("x"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, f := g.Enter(ctx, request("x")); f == nil || f.Reason != mcp.ReasonCanceled || f.Sent != mcp.SentNo {
			t.Errorf("got %v", f)
		}
		g.stats(1, 0)
		busy.leave()
	})
}

// TestLeavesAsItComes: a slot that is given at the very moment in which the caller leaves, or has waited long enough, is
// never lost.
func TestLeavesAsItComes(t *testing.T) {
	for i := range 300 {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(t, admission.Options{QueueWait: time.Second})
			busy, first, second := g.ask("busy", request("x")), g.ask("first", request("x")), g.ask("second", request("x"))
			switch i % 3 {
			case 0:
				busy.slot()
				first.cancel(nil)
			case 1:
				first.cancel(nil)
				busy.slot()
			case 2:
				pass(time.Second) // the timers and this one wake in any order
				busy.slot()
			}
			synctest.Wait()
			for _, k := range []*caller{first, second} {
				switch s := k.state(); {
				case s == "admitted":
					k.leave()
				case s == "waits":
					t.Errorf("a call waits beside a free slot")
				case i%3 < 2 && k == first && s != "canceled", i%3 < 2 && k == second, i%3 == 2 && s != "queue_wait":
					t.Errorf("got %s", s)
				}
			}
			g.stats(0, 0)
			last := g.ask("last", request("x"))
			last.want("admitted")
			last.leave()
		})
	}
}
