package admission

import (
	"context"
	"sync"
	"time"
)

// gate is a number of slots, and the queue of the calls that wait for one.
//
// A slot that comes free goes on to the next one who waits without ever being free in between: while anybody waits there is
// no free slot, and who waits takes over the place in Total as well.
type gate struct {
	slots, places int           // that there are, and how many may wait
	longest       time.Duration // that a call waits
	total         *Total        // the bound over all gates; nil: none
	waits         observer

	mu       sync.Mutex // guards the following
	inFlight int
	queue    queue
	pace     pace
}

func newGate(slots, places int, longest time.Duration, waits observer) gate {
	return gate{slots: slots, places: places, longest: longest, waits: waits, queue: newQueue()}
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
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tryLocked()
}

// tryLocked is tryEnter. Total is an atomic number, so that no lock of another gate is met here.
func (g *gate) tryLocked() result {
	switch {
	case g.inFlight >= g.slots:
		return waiting
	case !g.total.take():
		return overTotal
	}
	if g.inFlight++; g.inFlight == g.slots {
		g.pace.resume(time.Now())
	}
	return admitted
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
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight == g.slots {
		g.pace.note(1, time.Now())
	}
	if w := g.queue.pop(); w != nil {
		w.end(admitted)
		return
	}
	g.inFlight--
	g.total.give()
}

// retryAfter estimates when a call that is refused now would get a slot.
func (g *gate) retryAfter(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight == g.slots {
		g.pace.note(0, now)
	}
	return g.pace.wait(g.queue.waiting+1, g.slots, g.longest)
}
