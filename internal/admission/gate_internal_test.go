package admission

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

type noObserver struct{}

func (noObserver) Observe(float64) {}

// TestLeavingWithASlot has a caller leave in the moment in which it is given a slot: it passes it on, to the next who waits or back.
// The moment is too short to be met from outside, so the gate's lock is held over it.
func TestLeavingWithASlot(t *testing.T) {
	for name, others := range map[string]int{"another waits": 1, "nobody waits": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(1, 4, time.Minute, noObserver{})
				if got := g.tryEnter(); got != admitted {
					t.Fatalf("the first one: %d", got)
				}
				ctx, cancel := context.WithCancel(t.Context())
				leaver, next := make(chan result, 1), make(chan result, 1)
				wait := func(ctx context.Context, to chan<- result) {
					go func() { got, _ := g.wait(ctx, "agent", 1); to <- got }()
					synctest.Wait()
				}
				wait(ctx, leaver)
				for range others {
					wait(t.Context(), next)
				}
				g.mu.Lock()
				cancel() // it wakes, and waits for the lock
				g.queue.pop().end(admitted)
				g.mu.Unlock()
				synctest.Wait()
				if got := <-leaver; got != left {
					t.Errorf("who left: %d, want %d", got, left)
				}
				if others > 0 {
					if got := <-next; got != admitted {
						t.Fatalf("the next one: %d: the slot was lost", got)
					}
					g.leave()
				}
				if g.tryEnter() != admitted || g.tryEnter() != waiting {
					t.Error("there is not exactly one slot again")
				}
			})
		})
	}
}
