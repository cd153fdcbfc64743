package admission

import (
	"sync"
	"sync/atomic"
	"time"
)

// Total bounds the calls under way over all upstreams. Calls that wait do not count. It is a number that is changed
// atomically, so no upstream waits for another at it. A nil *Total bounds nothing.
type Total struct {
	max      int64
	inFlight atomic.Int64
	freed    atomic.Int64 // places so far

	mu   sync.Mutex // guards the following, which refusals alone use
	pace pace
	seen int64 // of freed
}

// unknownPace is what a refused call is told to wait while it is not known how fast calls end; and refusals that are further
// apart say nothing of what came free in between.
const unknownPace = time.Second

// NewTotal returns a Total for as many calls. It panics if that is none.
func NewTotal(max int) *Total {
	if max <= 0 {
		panic("admission: a total of no calls (this is a bug)")
	}
	return &Total{max: int64(max)}
}

// InFlight is how many calls are under way.
func (t *Total) InFlight() int { return int(t.inFlight.Load()) }

// take reports whether there was a place.
func (t *Total) take() bool {
	if t == nil {
		return true
	}
	for {
		n := t.inFlight.Load()
		if n >= t.max {
			return false
		}
		if t.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// undo gives back a place that nothing has used.
func (t *Total) undo() {
	if t != nil {
		t.inFlight.Add(-1)
	}
}

func (t *Total) give() {
	if t != nil {
		t.freed.Add(1)
		t.inFlight.Add(-1)
	}
}

// wait estimates how long it takes until as many calls have ended as may be under way.
func (t *Total) wait(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	freed := t.freed.Load()
	if now.Sub(t.pace.last) > unknownPace {
		t.pace.resume(now)
	} else {
		t.pace.note(float64(freed-t.seen), now)
	}
	t.seen = freed
	return t.pace.wait(int(t.max), int(t.max), unknownPace)
}
