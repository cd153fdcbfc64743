package admission_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/mcp"
)

// TestTotal: a call that has a slot of its upstream but no place among all is refused at once; one that waits takes over the
// place of whom it waited for, and does not count before.
func TestTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		total := admission.NewTotal(3)
		a := newGate(t, admission.Options{Upstream: "a", MaxInFlight: 2, Total: total})
		b := newGate(t, admission.Options{Upstream: "b", MaxInFlight: 2, Total: total})
		a1, a2, a3 := a.ask("a1", request("x")), a.ask("a2", request("x")), a.ask("a3", request("x"))
		b1, b2 := b.ask("b1", request("x")), b.ask("b2", request("x"))
		b1.want("admitted")
		b2.want("in_flight")
		if b2.took != 0 {
			t.Errorf("refused after %v", b2.took)
		}
		b.stats(1, 0)
		a3.want("waits")
		a1.leave()
		a3.want("admitted")
		b.ask("b3", request("x")).want("in_flight")
		a2.leave()
		b4 := b.ask("b4", request("x"))
		b4.want("admitted")
		if total.InFlight() != 3 {
			t.Errorf("%d in flight", total.InFlight())
		}
		a.ask("a4", request("x")).want("in_flight")
		for _, k := range []*caller{a3, b1, b4} {
			k.leave()
		}
		if total.InFlight() != 0 {
			t.Errorf("%d in flight at the end", total.InFlight())
		}
		a.stats(0, 0)
		b.stats(0, 0)
	})
}

// TestNothingOfOneIsHeldByTheOther: while calls of one upstream hang, with callers that wait, are just being looked at, or
// hang in its log, calls of another get their slots at once.
func TestNothingOfOneIsHeldByTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hung hang
		hung.release = make(chan struct{})
		total := admission.NewTotal(100)
		a := newGate(t, admission.Options{
			Upstream: "a", Queue: 1, QueueWait: time.Hour, Total: total, Partition: hung.partition, Log: slog.New(&hung),
		})
		b := newGate(t, admission.Options{Upstream: "b", MaxInFlight: 50, Total: total})
		slot, place := a.ask("slot", request("x")), a.ask("place", request("x"))
		named := modern("agent")
		partitioned := a.ask("in Partition", named)
		logged := a.ask("in Log", request("x"))
		for _, k := range []*caller{place, partitioned, logged} {
			k.want("waits")
		}
		a.stats(1, 1)
		for range 1000 {
			k := b.ask("b", request("x"))
			k.want("admitted")
			if k.took != 0 || k.waited != 0 {
				t.Fatalf("a call of b waited for a: %v", k.took)
			}
			k.leave()
		}
		slot.leave() // a itself goes on as well
		place.want("admitted")
		close(hung.release)
		synctest.Wait()
		logged.want("queue_full")
		place.leave()
		partitioned.want("admitted")
		partitioned.leave()
		a.stats(0, 0)
	})
}

// hang is a partition and a log that do not answer until they are released.
type hang struct {
	slog.TextHandler
	release chan struct{}
}

func (h *hang) partition(*mcp.Call) [32]byte {
	<-h.release
	return [32]byte{}
}

func (h *hang) Enabled(context.Context, slog.Level) bool { return true }

func (h *hang) Handle(context.Context, slog.Record) error {
	<-h.release
	return nil
}

// TestRetryAfter: what a refused call is told follows how fast slots came free.
func TestRetryAfter(t *testing.T) {
	type offer struct{ slots, queue int }
	told := func(o offer, call, lasts, hung time.Duration) (after time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(t, admission.Options{MaxInFlight: o.slots, Queue: o.queue, QueueWait: time.Hour})
			ctx, stop := context.WithCancel(t.Context())
			hangs := make(chan struct{})
			for range o.slots + o.queue { // the slots and the queue are always full
				go func() {
					for ctx.Err() == nil {
						if slot, _, f := g.Enter(ctx, request("x")); f == nil {
							select {
							case <-time.After(call):
							case <-hangs:
								<-ctx.Done()
							case <-ctx.Done():
							}
							slot()
						}
					}
				}()
			}
			pass(lasts + time.Millisecond) // between two calls
			if hung > 0 {
				close(hangs)
				pass(hung)
			}
			_, _, f := g.Enter(t.Context(), request("x"))
			if f == nil || f.Reason != mcp.ReasonQueueFull {
				t.Fatalf("got %v", f)
			}
			after = f.RetryAfter
			stop()
			synctest.Wait()
		})
		return after
	}
	cases := []struct {
		name              string
		offer             offer
		call, lasts, hung time.Duration
		least, most       time.Duration
	}{
		{"500/s, 250 wait", offer{50, 250}, 100 * time.Millisecond, 20 * time.Second, 0, 400 * time.Millisecond, 650 * time.Millisecond},
		{"500/s, 10 wait", offer{50, 10}, 100 * time.Millisecond, 20 * time.Second, 0, 100 * time.Millisecond, 100 * time.Millisecond},
		{"1/s, 8 wait", offer{5, 8}, 5 * time.Second, 60 * time.Second, 0, 6 * time.Second, 12 * time.Second},
		{"nothing is known", offer{5, 8}, time.Hour, time.Second, 0, 30 * time.Second, 30 * time.Second},
		{"it hangs for a minute", offer{50, 250}, 100 * time.Millisecond, 20 * time.Second, time.Minute, 30 * time.Second, 30 * time.Second},
	}
	for _, c := range cases {
		if got := told(c.offer, c.call, c.lasts, c.hung); got < c.least || got > c.most {
			t.Errorf("%s: told %v, want %v to %v", c.name, got, c.least, c.most)
		}
	}
}

// TestRetryAfterOfTotal: who has no place among all is told how long a call takes, about.
func TestRetryAfterOfTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		total := admission.NewTotal(20)
		a := newGate(t, admission.Options{Upstream: "a", MaxInFlight: 1000, Total: total})
		var first, last time.Duration
		for range 1000 {
			slot, _, f := a.Enter(t.Context(), request("x"))
			if f == nil {
				go func() {
					pass(2 * time.Second)
					slot()
				}()
			} else if last = f.RetryAfter; first == 0 {
				first = last
			}
			pass(10 * time.Millisecond)
		}
		if first != time.Second || last < time.Second || last > 3*time.Second {
			t.Errorf("told %v at first and %v at last", first, last)
		}
		pass(time.Minute)
	})
}
