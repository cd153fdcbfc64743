// Package breaker keeps calls away from what has failed: an endpoint of an upstream, or a cache tier.
//
// A Breaker is a state machine without opinions: whoever calls asks Allow before, and reports after what came of it. Gobreaker's
// CircuitBreaker counts the failures since the breaker closed, and says when it opens. What it does not have is here:
// consecutive failures however old, a wait between probes that grows, probes with a deadline. It promises:
//   - what fails costs a few calls, then nothing but a probe now and then: one call at a time;
//   - what works again is used again after the next probe, as soon as somebody asks;
//   - a caller that never reports holds nothing up, one that reports late makes nothing look worse than it is.
//
// It leaves to others: what a failure is, the timeout of each call, and what to do instead of one that is not allowed.
package breaker

import (
	"cmp"
	"errors"
	"log/slog"
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
}

// Breaker is the breaker of one endpoint, see NewEndpoint, or of a Tier. It is safe for concurrent use, and waits for nobody.
type Breaker struct {
	kind    *kind
	names   []string // the values of the kind's labels
	rules   rules
	metrics *Metrics               // nil: not shown
	log     *slog.Logger           // of changes, under the lock, so that they come in order
	closed  atomic.Pointer[period] // nil while it is not closed
	failing atomic.Bool            // the last one that was counted while closed was a failure; changed under mu

	mu                  sync.Mutex                          // guards the following, and is held around every use of counts, so that they agree
	counts              *gobreaker.CircuitBreaker[struct{}] // of failures since the breaker closed
	consecutiveFailures int                                 // since the last success
	consecutiveRefusals int                                 // of connections, since then
	issued              uint64                              // tickets so far, see ticket.go
	probe               uint64                              // the ticket of the probe under way; 0: none
	deadline            *time.Timer                         // of the last probe
	begun               time.Time                           // when it was allowed
	early               bool                                // it was an early one
	waited              time.Duration                       // by the probes since opened whose callers left
	proofFrom           uint64                              // the ticket from which on a probe is proof, however late: none that began after it has failed
	opened              time.Time                           // last: by a failure that was one too many, or by a failed probe
	step                time.Duration                       // from then to the next probe
	due                 time.Time                           // that probe, but for early ones
	last                error                               // that was reported
}

func newBreaker(k *kind, r rules, m *Metrics, log *slog.Logger, names ...string) *Breaker {
	b := &Breaker{kind: k, names: names, rules: r, metrics: m, log: cmp.Or(log, slog.New(slog.DiscardHandler))}
	for i, label := range k.labels {
		b.log = b.log.With(slog.String(label, names[i]))
	}
	b.beginLocked()
	m.show(b)
	return b
}

// Close ends the breaker's series of the metrics: what it kept calls from is gone. Calls that are under way may report still.
func (b *Breaker) Close() { b.metrics.forget(b) }

// beginLocked makes the breaker a closed one that knows nothing.
func (b *Breaker) beginLocked() {
	b.counts = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Interval: b.rules.window, BucketPeriod: b.rules.window / windowSteps, ReadyToTrip: b.tripsLocked,
	})
	b.consecutiveFailures, b.consecutiveRefusals, b.step, b.early = 0, 0, 0, false
	b.issued++
	b.failing.Store(false)
	b.closed.Store(&period{ticket: 2 * b.issued, begun: time.Now(), step: b.rules.window / windowSteps})
	b.proofFrom = 2 * b.issued // another outage has probes of its own
}

// tripsLocked reports whether a closed breaker opens. It looks at the rows itself: gobreaker forgets what has left the
// window.
func (b *Breaker) tripsLocked(c gobreaker.Counts) bool {
	r, reports := &b.rules, b.closed.Load().inWindow()+int(c.TotalFailures)
	return b.consecutiveFailures >= r.inARow || r.refused > 0 && b.consecutiveRefusals >= r.refused ||
		reports >= r.minReports && float64(c.TotalFailures) >= r.ratio*float64(reports)
}

// succeeded counts a call of the closed breaker, and takes the lock where one failed before. It is counted when it has ended, so that
// what ends within the window counts in it, however long ago it began.
func (b *Breaker) succeeded(p *period) {
	p.succeeded()
	if !b.failing.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p == b.closed.Load() {
		b.consecutiveFailures, b.consecutiveRefusals = 0, 0
		b.failing.Store(false)
	}
}

// failedLocked counts a call of the closed breaker, and opens it if that was one too many.
func (b *Breaker) failedLocked(err error) {
	b.failing.Store(true)
	b.consecutiveFailures++
	if errors.Is(err, syscall.ECONNREFUSED) {
		b.consecutiveRefusals++
	}
	_, _ = b.counts.Execute(func() (none struct{}, _ error) { return none, err })
	if b.counts.State() == gobreaker.StateOpen {
		b.log.Warn("circuit open: "+b.kind.fails, slog.String("error", describe(err)))
		b.openLocked()
	}
}

// openLocked sets when the next probe is due, after a failure that was one too many or a probe that failed. An early one that failed
// says nothing of ordinary calls: theirs stays due when it was, but no two probes are nearer than rules.first.
func (b *Breaker) openLocked() {
	b.closed.Store(nil)
	b.opened, b.waited = time.Now(), 0
	if !b.early {
		b.step = min(max(2*b.step, b.rules.first), b.rules.longest)
		b.due = b.opened.Add(b.step)
	} else if least := b.opened.Add(b.rules.first); b.due.Before(least) {
		b.due = least
	}
}

// Closed reports whether the breaker lets everything through.
func (b *Breaker) Closed() bool { return b.closed.Load() != nil }

// ticket returns that of all calls while the breaker is closed, else 0.
func (b *Breaker) ticket() uint64 {
	if p := b.closed.Load(); p != nil {
		return p.ticket
	}
	return 0
}

// State returns Closed, HalfOpen or Open. An open breaker is half-open from when a probe is due until one has failed.
func (b *Breaker) State() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.Closed():
		return Closed
	case b.probe != 0 || !time.Now().Before(b.due):
		return HalfOpen
	}
	return Open
}

// Allow reports whether a call may go there now, and whether it is the probe, which tries whether it works again. It may not while
// the breaker is open and no probe is due, and while a probe is under way. An early call is worth a probe whatever the
// backoff: it is the probe as soon as a second has passed since the breaker opened or the last probe failed. If it may, Report has
// to be called once with the ticket.
func (b *Breaker) Allow(early bool) (ticket uint64, probe, ok bool) {
	ticket = b.allow(probeTimeout, early)
	return ticket, isProbe(ticket), ticket != 0
}

// allow lets a call through, and returns its ticket, or 0. A probe that has not reported within that long,
// less what those before it took whose callers left, has failed. Or a server that hangs had a probe whenever an agent leaves.
func (b *Breaker) allow(within time.Duration, early bool) (ticket uint64) {
	if closed := b.ticket(); closed != 0 {
		return closed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Closed() || b.probe != 0 || time.Now().Before(b.dueLocked(early)) {
		return b.ticket()
	}
	b.issued++
	probe := 2*b.issued + 1
	b.probe, b.begun, b.early = probe, time.Now(), early
	b.deadline = time.AfterFunc(within-b.waited, func() { b.expire(probe) })
	b.log.Debug("circuit half-open")
	return probe
}

// RetryAfter returns how long it is until the next probe of such a call is due, 100 ms at least; 0 while the breaker is closed.
func (b *Breaker) RetryAfter(early bool) time.Duration {
	if b.Closed() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.Closed():
		return 0
	case b.probe != 0:
		return leastRetry
	}
	return max(time.Until(b.dueLocked(early)), leastRetry)
}

// dueLocked is when the next probe of an open breaker is due. An early one waits for no backoff, but after
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

// Alive says that something which does not count went well there, a stream that was accepted, say: if the breaker is open,
// the next probe is due at once, though not before a second has passed since it opened or a probe failed, and the waits
// begin anew at a second.
func (b *Breaker) Alive() {
	if b.Closed() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.aliveLocked()
}

func (b *Breaker) aliveLocked() {
	b.step = 0
	if due := b.opened.Add(b.rules.first); due.Before(b.due) {
		b.due = due
	}
}

// Last returns the last failure that was reported, nil if there was none.
func (b *Breaker) Last() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}
