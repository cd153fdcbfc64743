// Package breaker keeps calls away from what has failed: an endpoint of an upstream, or a cache tier.
//
// A Breaker is a state machine without opinions: whoever calls asks Allow before, and says after what came of it. It is
// gobreaker's CircuitBreaker, which counts what was reported, and what gobreaker does not have: a row of failures however
// old, a wait between probes that grows, probes with a deadline. It promises:
//   - what fails costs a few calls, then nothing but a probe now and then: one call at a time;
//   - what works again is used again after the next probe, as soon as somebody asks;
//   - a caller that never reports holds nothing up, one that reports twice or late makes nothing look worse than it is;
//   - no function of others is called under its lock.
//
// It leaves to others: what a failure is, the timeout of each call, and what to do instead of one that is not allowed.
package breaker

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sony/gobreaker/v2"
)

// The states of a breaker, as State returns them.
const (
	Closed   = "closed"    // it lets everything through
	HalfOpen = "half-open" // one call tries whether it works again
	Open     = "open"      // it lets nothing through
)

// The rules of docs/resilience.md, where nothing else is configured.
const (
	window       = 10 * time.Second // for the ratio
	minReports   = 20               // in the window, for the ratio to count
	failureRatio = 0.5
	inARow       = 3 // failures, without a success between and however old
)

// leastRetry is what a caller is told to wait at least.
const leastRetry = 100 * time.Millisecond

// rules say when a breaker opens, and when it is tried again.
type rules struct {
	window     time.Duration // for the ratio, in ten steps
	minReports int           // in the window, for the ratio to count
	ratio      float64       // of failures
	inARow     int           // failures, without a success between and however old
	refused    int           // the same of refused connections; 0: they count as failures only
	first      time.Duration // from the opening to the first probe; no two probes are nearer than that
	longest    time.Duration // from one probe's failure to the next: first, doubled each time, up to this
	probe      time.Duration // how long a probe may go without a report
}

// Breaker is the breaker of one endpoint, see NewEndpoint, or of a Tier. It is safe for concurrent use, and waits for nobody.
type Breaker struct {
	rules    rules
	announce func(change)  // called without the lock, in order and one at a time
	closed   atomic.Uint64 // the epoch while closed, else 0: a call of a closed breaker needs no lock

	mu                  sync.Mutex // guards the following, and is held around every use of counts, so that they agree
	counts              *gobreaker.CircuitBreaker[struct{}]
	state               string
	epoch               uint64        // changes of state so far: what was allowed in an older one counts no more
	probe               *Permit       // the probe under way; nil: none
	begun               time.Time     // when it was allowed
	early               bool          // the last probe was an early one
	waited              time.Duration // by the probes of this epoch whose callers left
	proofFrom           uint64        // the epoch from which on a probe is proof, however late: none that began after it has failed
	consecutiveFailures int           // since the last success
	consecutiveRefusals int           // of connections, since then
	step                time.Duration // from the last opening to the probe after it
	opened              time.Time     // last: by a failure that was one too many, or by a failed probe
	due                 time.Time     // the next probe, while open
	last                error         // that was reported
	changes             []change
	telling             bool // somebody is handing out changes
}

// change is a change of state, and the failure before it.
type change struct {
	from, to string
	err      error
}

func newBreaker(r rules, announce func(change)) *Breaker {
	b := &Breaker{rules: r, announce: announce}
	b.counts = b.newCounts()
	b.enterLocked(Closed)
	return b
}

// newCounts returns a closed gobreaker. It is told only of what has ended, so that what ends within the window counts in it,
// however long ago it began, and a probe that never ends does not hold it half-open for ever.
func (b *Breaker) newCounts() *gobreaker.CircuitBreaker[struct{}] {
	r := &b.rules
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1, Interval: r.window, BucketPeriod: r.window / 10,
		Timeout:       r.first - 1, // it waits for more than that
		ReadyToTrip:   b.tripsLocked,
		OnStateChange: func(_ string, _, to gobreaker.State) { b.changeLocked(to.String()) },
	})
}

// countLocked tells gobreaker what came of a call.
func (b *Breaker) countLocked(failed bool) {
	outcome := succeeded
	if failed {
		outcome = hasFailed
	}
	_, _ = b.counts.Execute(outcome) // the error is outcome's own: gobreaker is never told anything while it is open
}

// What gobreaker is told, as functions that it may call.
func succeeded() (none struct{}, err error) { return none, nil }
func hasFailed() (none struct{}, err error) { return none, errFailed }

var errFailed = errors.New("failed")

// tripsLocked reports whether a closed breaker opens. It looks at the rows itself: gobreaker forgets what has left the
// window.
func (b *Breaker) tripsLocked(c gobreaker.Counts) bool {
	r, reports := &b.rules, int(c.TotalSuccesses+c.TotalFailures)
	return b.consecutiveFailures >= r.inARow || r.refused > 0 && b.consecutiveRefusals >= r.refused ||
		reports >= r.minReports && float64(c.TotalFailures) >= r.ratio*float64(reports)
}

// Closed reports whether the breaker lets everything through. Unlike State it changes nothing.
func (b *Breaker) Closed() bool { return b.closed.Load() != 0 }

// State returns Closed, HalfOpen or Open. An open breaker becomes half-open by the first Allow or State after a probe has
// become due.
func (b *Breaker) State() string {
	if b.Closed() {
		return Closed
	}
	b.mu.Lock()
	defer b.unlock()
	b.wakeLocked(false)
	return b.state
}

// Allow reports whether a call may go there now. If so, the Permit must be told what came of it. It is false while the breaker
// is open and no probe is due, and while a probe is under way. An early call is worth a probe whatever the backoff: it is the
// probe as soon as a second has passed since the breaker opened or the last probe failed.
func (b *Breaker) Allow(early bool) (*Permit, bool) { return b.allow(b.rules.probe, early) }

// allow lets a call through. If it is a probe, it has failed when nothing is heard of it for that long, less what those before it
// took whose callers left. Or a server that hangs had a probe whenever an agent leaves.
func (b *Breaker) allow(within time.Duration, early bool) (*Permit, bool) {
	if epoch := b.closed.Load(); epoch != 0 {
		return &Permit{breaker: b, epoch: epoch}, true
	}
	b.mu.Lock()
	defer b.unlock()
	b.wakeLocked(early)
	switch {
	case b.state == Closed:
		return &Permit{breaker: b, epoch: b.epoch}, true
	case b.state == Open || b.probe != nil:
		return nil, false
	}
	p := &Permit{breaker: b, epoch: b.epoch}
	p.deadline = time.AfterFunc(within-b.waited, p.expire)
	b.probe, b.begun, b.early = p, time.Now(), early
	return p, true
}

// RetryAfter returns how long it is until the next probe of such a call is due, 100 ms at least; 0 while the breaker is closed.
func (b *Breaker) RetryAfter(early bool) time.Duration {
	if b.Closed() {
		return 0
	}
	b.mu.Lock()
	defer b.unlock()
	switch b.state {
	case Closed:
		return 0
	case HalfOpen:
		return leastRetry // a probe is under way
	}
	return max(time.Until(b.dueLocked(early)), leastRetry)
}

// Alive says that something which does not count went well there, a stream that was accepted, say: if the breaker is open,
// the next probe is due at once, though not before a second has passed since it opened or a probe failed, and the waits
// begin anew at a second.
func (b *Breaker) Alive() {
	if b.Closed() {
		return
	}
	b.mu.Lock()
	defer b.unlock()
	b.aliveLocked()
}

// Last returns the last failure that was reported, nil if there was none.
func (b *Breaker) Last() error {
	b.mu.Lock()
	defer b.unlock()
	return b.last
}

// wakeLocked makes an open breaker half-open when a probe is due.
func (b *Breaker) wakeLocked(early bool) {
	if b.state == Open && !time.Now().Before(b.dueLocked(early)) {
		b.counts.State()
	}
}

// dueLocked is when the next probe of an open breaker is due. An early one waits no longer than gobreaker does, but after
// another early one it lets an ordinary call go first that is due.
func (b *Breaker) dueLocked(early bool) time.Time {
	if !early {
		return b.due
	}
	due := b.opened.Add(b.rules.first)
	if b.early && !b.due.After(due) {
		due = due.Add(b.rules.first)
	}
	return due
}

// failedLocked notes a failure for Last and for the rows.
func (b *Breaker) failedLocked(err error, counts bool) {
	b.last = err
	if !counts {
		return
	}
	b.consecutiveFailures++
	if errors.Is(err, syscall.ECONNREFUSED) {
		b.consecutiveRefusals++
	}
}

// closeLocked closes the breaker from whatever state. Gobreaker closes half-open and a second after it opened only, so it
// begins anew; the probe under way, if there is one, is an ordinary call of before from now on.
func (b *Breaker) closeLocked() {
	b.endProbeLocked()
	b.consecutiveFailures, b.consecutiveRefusals = 0, 0
	b.counts = b.newCounts()
	b.changeLocked(Closed)
}

// changeLocked changes the state, and notes it for tell: it may be called under gobreaker's lock.
func (b *Breaker) changeLocked(to string) {
	from := b.state
	b.changes = append(b.changes, change{from: from, to: to, err: b.last})
	b.enterLocked(to)
	switch to {
	case Open:
		b.openLocked(from)
	case Closed:
		b.step, b.early = 0, false
		b.proofFrom = b.epoch // another outage has probes of its own
	}
}

// enterLocked begins an epoch, the first of which is 1.
func (b *Breaker) enterLocked(state string) {
	b.state, b.waited = state, 0
	b.epoch++
	b.closed.Store(0)
	if state == Closed {
		b.closed.Store(b.epoch)
	}
}

// openLocked sets when the next probe is due. An early one that failed says nothing of ordinary calls: theirs stays due when
// it was, as far as gobreaker lets it.
func (b *Breaker) openLocked(from string) {
	b.opened = time.Now()
	if b.early && from == HalfOpen {
		if least := b.opened.Add(b.rules.first); b.due.Before(least) {
			b.due = least
		}
		return
	}
	b.step = min(max(2*b.step, b.rules.first), b.rules.longest)
	b.due = b.opened.Add(b.step)
}

// aliveLocked lets the waits begin anew: something that does not count went well there. Gobreaker's own time stays.
func (b *Breaker) aliveLocked() {
	b.step = 0
	if due := b.opened.Add(b.rules.first); b.state == Open && due.Before(b.due) {
		b.due = due
	}
}

// unlock ends what began with mu.Lock, and hands out the changes since then.
func (b *Breaker) unlock() {
	for len(b.changes) > 0 && !b.telling { // else another goroutine is at it, and does these as well
		changes := b.changes
		b.changes, b.telling = nil, true
		b.mu.Unlock()
		for _, c := range changes {
			b.announce(c)
		}
		b.mu.Lock()
		b.telling = false
	}
	b.mu.Unlock()
}
