package breaker

import (
	"sync/atomic"
	"time"
)

// Ticket is a slot that a call holds. The zero Ticket holds none. Copies are the same ticket.
type Ticket struct{ hold *hold }

// hold is what all copies of a ticket share.
type hold struct {
	admission *Admission
	waited    time.Duration
	left      atomic.Bool
}

// Leave lets the slot go, to whoever waits for it. Only the first call counts, from whatever goroutine.
func (t Ticket) Leave() {
	if h := t.hold; h != nil && h.left.CompareAndSwap(false, true) {
		h.admission.release()
	}
}

// Waited is how long the call waited for the slot, 0 if it did not have to.
func (t Ticket) Waited() time.Duration {
	if t.hold == nil {
		return 0
	}
	return t.hold.waited
}
