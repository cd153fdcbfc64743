package breaker

import (
	"errors"
	"time"
)

// Permit is a call that was allowed. Whoever has it reports what came of it, once: only the first report counts. It is safe
// for concurrent use. The zero Permit reports to nobody.
type Permit struct {
	breaker  *Breaker
	epoch    uint64
	deadline *time.Timer // of a probe; nil: an ordinary call
	ended    bool        // guarded by the breaker's lock
}

// Probe reports whether the call tries something that has failed.
func (p *Permit) Probe() bool { return p.deadline != nil }

// Done reports that the call did well, with nil, or else why it failed; an error that is syscall.ECONNREFUSED says that nobody
// listens there. A report of a call that was allowed before the state last changed counts no more; but if it did well, the
// next probe is due at once, see Alive, and a late probe may close the breaker.
func (p *Permit) Done(err error) {
	b := p.breaker
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.unlock()
	if p.ended {
		return
	}
	p.ended = true
	current := p.epoch == b.epoch
	if err != nil {
		b.failedLocked(err, current)
		if p.Probe() { // one that began before it is no proof any more
			b.proofFrom = max(b.proofFrom, p.epoch+1)
		}
	}
	if !current { // a probe that was not answered in time, too
		b.lateLocked(p, err)
		return
	}
	if err == nil {
		b.consecutiveFailures, b.consecutiveRefusals = 0, 0
	}
	if p.Probe() {
		b.endProbeLocked()
	}
	b.countLocked(err != nil)
}

// Ignore reports that nothing was learnt: the caller left, say. A probe that ends so makes room for the next.
func (p *Permit) Ignore() {
	b := p.breaker
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.unlock()
	if !p.ended && b.probe == p {
		b.waited += time.Since(b.begun)
		b.endProbeLocked()
	}
	p.ended = true
}

// errNoReport is the failure of a probe of which nothing was heard.
var errNoReport = errors.New("the call that tried whether it works again was not answered in time")

// expire makes room for the next probe after one that has not reported. The call goes on, and what its Permit says in the end
// counts still, see lateLocked.
func (p *Permit) expire() {
	b := p.breaker
	b.mu.Lock()
	defer b.unlock()
	if b.probe != p {
		return
	}
	b.failedLocked(errNoReport, true)
	b.endProbeLocked()
	b.countLocked(true)
}

// endProbeLocked lets the probe under way, if there is one, hold its place no longer.
func (b *Breaker) endProbeLocked() {
	if b.probe != nil {
		b.probe.deadline.Stop()
		b.probe = nil
	}
}

// lateLocked counts the report of a call that was allowed before the state last changed. A probe that succeeds is what
// everybody waits for, though it took longer than a probe may hold its place: a server all of whose calls take that long
// would never be used again.
func (b *Breaker) lateLocked(p *Permit, err error) {
	switch {
	case err != nil:
	case p.Probe() && p.epoch >= b.proofFrom:
		b.closeLocked()
	default:
		b.aliveLocked()
	}
}
