// Package breaker decides whether something that has failed may be asked again. So far it holds the breaker of a cache
// tier.
//
// A Tier is a state machine without opinions: whoever uses the tier asks Allow before, and says after what came of it. It
// promises:
//   - a tier that fails costs a few calls, then nothing but a probe every two seconds;
//   - one that works again is used again within those two seconds and a probe, as soon as somebody asks;
//   - a caller that never reports holds nothing up, one that reports twice or late changes nothing;
//   - no function of others is called under its locks.
//
// It leaves to others: the timeout of each call, and what to do without the tier.
package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// What opens a tier's breaker, and when it is tried again (design: one per cache tier).
const (
	window       = 10 * time.Second // for the ratio
	bucket       = time.Second      // by which the window moves
	minReports   = 20               // in the window, for the ratio to count
	failureRatio = 0.5
	inARow       = 3 // failures, without a success between and however old
	probeEvery   = 2 * time.Second
)

// The states of a breaker, as State returns them.
const (
	Closed   = "closed"    // the tier is used
	HalfOpen = "half-open" // one call tries whether the tier works
	Open     = "open"      // the tier is left alone
)

// TierOptions are those of a Tier. Name and Timeout are required.
type TierOptions struct {
	Name    string        // the tier's: a label of metrics
	Timeout time.Duration // of one call of the tier, where the call says nothing else
	Metrics *Metrics      // nil: not shown
	Log     *slog.Logger  // nil: silent

	// OnChange is told of each change of state, in order and one at a time, from the goroutine of whoever caused it or
	// of another caller. It may use the Tier; nil: nobody is told.
	OnChange func(from, to string)
}

// Tier is the breaker of one cache tier. It is safe for concurrent use.
type Tier struct {
	opts  TierOptions
	meter meter

	mu      sync.Mutex // guards the following, and is held around every use of breaker, so that they agree
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	state   string
	epoch   uint64 // changes of state so far: what was allowed in an older one counts no more
	row     int    // failures since the last success
	lastErr error  // of the last failure
	changes []change
	telling bool // somebody is handing out changes
}

// change is a change of state, and what caused it.
type change struct {
	from, to string
	err      error
}

// NewTier returns a closed breaker. It panics without a name or a timeout.
func NewTier(o TierOptions) *Tier {
	if o.Name == "" || o.Timeout <= 0 {
		panic("breaker: a tier without a name or a timeout (this is a bug)")
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tier{opts: o, meter: o.Metrics.tier(o.Name), state: Closed}
	t.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: o.Name, MaxRequests: 1, Interval: window, BucketPeriod: bucket,
		Timeout:       probeEvery - 1, // it waits for more than that
		ReadyToTrip:   t.tripsLocked,
		IsExcluded:    isIgnored,
		OnStateChange: t.changedLocked,
	})
	return t
}

// Allow reports whether the tier may be asked now, by a call that takes no longer than most; 0 stands for the tier's timeout. A
// probe of which nothing is heard in twice that has failed. If so, done must be called with what came of it: nil for success,
// which a mere miss is as well, context.Canceled or an error that wraps it if the caller left before the tier was heard,
// which is ignored, any other error for failure. Only the first call of done counts.
func (t *Tier) Allow(most time.Duration) (done func(error), ok bool) {
	defer t.tell()
	t.mu.Lock()
	defer t.mu.Unlock()
	report, err := t.breaker.Allow()
	if err != nil {
		return nil, false
	}
	p := &permit{tier: t, report: report, epoch: t.epoch}
	if t.state == HalfOpen {
		if most <= 0 {
			most = t.opts.Timeout
		}
		p.timer = time.AfterFunc(2*most, p.expire)
	}
	return p.done, true
}

// State returns Closed, HalfOpen or Open. An open breaker becomes half-open by the first Allow or State that is two seconds
// later.
func (t *Tier) State() string {
	defer t.tell()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.breaker.State()
	return t.state
}

// tripsLocked reports whether a closed breaker opens. It counts the row itself: gobreaker forgets what has left the window,
// and counts calls that have not reported as well.
func (t *Tier) tripsLocked(c gobreaker.Counts) bool {
	reports := c.TotalSuccesses + c.TotalFailures
	return t.row >= inARow || reports >= minReports && float64(c.TotalFailures) >= failureRatio*float64(reports)
}

// changedLocked notes a change of state for tell: it is called under gobreaker's lock and ours.
func (t *Tier) changedLocked(_ string, _, to gobreaker.State) {
	c := change{from: t.state, to: nameOf(to), err: t.lastErr}
	t.state = c.to
	t.epoch++
	t.changes = append(t.changes, c)
}

// tell hands out the changes so far, without a lock. If another goroutine is at it, that one does these as well.
func (t *Tier) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.telling {
		return
	}
	t.telling = true
	for len(t.changes) > 0 {
		changes := t.changes
		t.changes = nil
		t.mu.Unlock()
		for _, c := range changes {
			t.announce(c)
		}
		t.mu.Lock()
	}
	t.telling = false
}

// announce makes a change known. What happens to an open breaker every two seconds is no news.
func (t *Tier) announce(c change) {
	t.meter.show(c.to)
	switch {
	case c.to == Closed:
		t.opts.Log.Info("a cache tier works again", slog.String("tier", t.opts.Name))
	case c.from == Closed:
		t.opts.Log.Warn("a cache tier fails and is left alone; it is tried again every two seconds",
			slog.String("tier", t.opts.Name), slog.Any("error", c.err))
	default:
		t.opts.Log.Debug("a cache tier is tried again", slog.String("tier", t.opts.Name), slog.String("state", c.to))
	}
	if t.opts.OnChange != nil {
		t.opts.OnChange(c.from, c.to)
	}
}

func nameOf(s gobreaker.State) string {
	switch s {
	case gobreaker.StateClosed:
		return Closed
	case gobreaker.StateHalfOpen:
		return HalfOpen
	}
	return Open
}

// isIgnored reports whether an error says nothing of the tier.
func isIgnored(err error) bool { return errors.Is(err, context.Canceled) }
