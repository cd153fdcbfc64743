package admission

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// gate is a number of slots, and the queue of the calls that wait for one.
//
// A slot that comes free goes on to the next one who waits without ever being free in between: while anybody waits there is
// no free slot, and who waits takes over the place in Total as well.
//
// As long as there is more than one slot free nobody takes the lock. The last one is taken, and given back, under it: so nobody
// waits who was not seen by whoever gives a slot back.
type gate struct {
	slots   int64         // that there are
	places  int           // how many may wait
	longest time.Duration // that a call waits
	total   *Total        // the bound over all gates; nil: none
	waits   observer

	inFlight atomic.Int64 // from slots to fewer, and back, it goes under mu alone

	mu    sync.Mutex // guards the following
	queue queue      // nobody is in it while a slot is free
	pace  pace
}

func newGate(slots, places int, longest time.Duration, waits observer) gate {
	return gate{slots: int64(slots), places: places, longest: longest, waits: waits, queue: newQueue()}
}

// result is what becomes of a call at a gate.
type result uint8

const (
	waiting   result = iota // there is no slot yet, or there was none in time
	admitted                // it has one
	full                    // there is no place to wait, or it lost its place to another agent's call
	overTotal               // there is a slot, and no place in Total
	left                    // its context has ended
)

// tryEnter takes a slot if there is one.
func (g *gate) tryEnter() result {
	for n := g.inFlight.Load(); n < g.slots-1; n = g.inFlight.Load() {
		if got := g.takeAfter(n); got != waiting {
			return got
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tryLocked()
}

// takeAfter takes a slot if n are taken; waiting: it is another number by now. Total is an atomic number, so that no lock of another
// gate is met here.
func (g *gate) takeAfter(n int64) result {
	if !g.total.take() {
		return overTotal
	}
	if !g.inFlight.CompareAndSwap(n, n+1) {
		g.total.undo()
		return waiting
	}
	return admitted
}

// tryLocked is tryEnter.
func (g *gate) tryLocked() result {
	for n := g.inFlight.Load(); n < g.slots; n = g.inFlight.Load() {
		got := g.takeAfter(n)
		if got == admitted && n+1 == g.slots {
			g.pace.resume(time.Now())
		}
		if got != waiting {
			return got
		}
	}
	return waiting
}

// wait waits for a slot, among the calls of an agent, and returns how long it did.
func (g *gate) wait(ctx context.Context, agent string, cost uint64) (result, time.Duration) {
	if ctx.Err() != nil {
		return left, 0
	}
	w := &waiter{cost: cost, ready: make(chan struct{})}
	if got := g.join(w, agent); got != waiting {
		return got, 0
	}
	since := time.Now()
	timer := time.NewTimer(g.longest)
	defer timer.Stop()
	select {
	case <-w.ready:
	case <-timer.C:
	case <-ctx.Done():
	}
	got, waited := g.stopWaiting(w), time.Since(since)
	g.waits.Observe(waited.Seconds())
	if ctx.Err() == nil {
		return got, waited
	}
	if got == admitted {
		g.leave() // it came just when the caller left
	}
	return left, waited
}

// join puts a call into the queue, if there is no slot now and there is room or another agent has to make some.
func (g *gate) join(w *waiter, agent string) result {
	g.mu.Lock()
	defer g.mu.Unlock()
	if got := g.tryLocked(); got != waiting {
		return got
	}
	if g.queue.waiting >= g.places {
		loser := g.queue.newestOfLongest(agent)
		if loser == nil {
			return full
		}
		g.queue.remove(loser)
		loser.end(full)
	}
	g.queue.push(w, agent)
	return waiting
}

// stopWaiting takes a call that waits no longer out of the queue, and returns what became of it.
func (g *gate) stopWaiting(w *waiter) result {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.result == waiting {
		g.queue.remove(w)
	}
	return w.result
}

// leave hands a slot on to the next one who waits, or lets it go.
func (g *gate) leave() {
	for n := g.inFlight.Load(); n < g.slots; n = g.inFlight.Load() {
		if g.inFlight.CompareAndSwap(n, n-1) {
			g.total.give()
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight.Load() == g.slots {
		g.pace.note(1, time.Now())
	}
	if w := g.queue.pop(); w != nil {
		w.end(admitted)
		return
	}
	g.inFlight.Add(-1)
	g.total.give()
}

// retryAfter estimates when a call that is refused now would get a slot.
func (g *gate) retryAfter(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight.Load() == g.slots {
		g.pace.note(0, now)
	}
	return g.pace.wait(g.queue.waiting+1, int(g.slots), g.longest)
}
