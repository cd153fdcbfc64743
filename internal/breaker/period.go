package breaker

import (
	"sync/atomic"
	"time"
)

// windowSteps is in how many steps a window moves on, here as in gobreaker.
const windowSteps = 10

// period is a time in which a breaker is closed. Its calls that go well need no lock: all of them are let through, and gobreaker, which
// is told of failures alone, has the number of the others from here.
type period struct {
	ticket uint64 // of all its calls
	begun  time.Time
	step   time.Duration // a tenth of the window

	successes [windowSteps]atomic.Uint64 // in the upper half the number of a step, below how many ended in it
}

// succeeded counts one that has ended now.
func (p *period) succeeded() {
	step := p.now()
	of := &p.successes[step%windowSteps]
	for {
		old := of.Load()
		next := old + 1
		if old>>32 < step {
			next = step<<32 | 1
		}
		if of.CompareAndSwap(old, next) {
			return
		}
	}
}

// inWindow returns how many have ended in the window.
func (p *period) inWindow() (n int) {
	now := p.now()
	for i := range p.successes {
		if of := p.successes[i].Load(); of>>32+windowSteps > now {
			n += int(of & (1<<32 - 1))
		}
	}
	return n
}

// now returns the number of the step that it is.
func (p *period) now() uint64 { return uint64(time.Since(p.begun) / p.step) }
