// Package breaker decides who may ask a server or a cache tier now, and whether something that has failed may be asked
// again.
//
// A Circuit is the breaker of one endpoint of an upstream, a Tier that of one cache tier. Both are state machines without
// opinions: whoever calls asks Allow before, and says after what came of it. They promise:
//   - what fails costs a few calls, then nothing but a probe now and then: one call at a time;
//   - what works again is used again after the next probe, as soon as somebody asks;
//   - a caller that never reports holds nothing up, one that reports twice or late makes nothing look worse than it is;
//   - no function of others is called under their locks.
//
// They leave to others: what a failure is, the timeout of each call, and what to do instead of one that is not allowed.
package breaker

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// What opens a tier's breaker, and when it is tried again (design: one per cache tier).
const (
	window       = 10 * time.Second // for the ratio
	minReports   = 20               // in the window, for the ratio to count
	failureRatio = 0.5
	inARow       = 3 // failures, without a success between and however old
	probeEvery   = 2 * time.Second
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
	opts    TierOptions
	machine *machine
	meter   meter
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
	t := &Tier{opts: o, meter: o.Metrics.tier(o.Name)}
	t.machine = newMachine(rules{
		name: o.Name, window: window, minReports: minReports, ratio: failureRatio, inARow: inARow,
		first: probeEvery, most: probeEvery,
	}, t.announce)
	return t
}

// Allow reports whether the tier may be asked now, by a call that takes no longer than most; 0 stands for the tier's timeout. A
// probe of which nothing is heard in twice that has failed. If so, done must be called with what came of it: nil for success,
// which a mere miss is as well, context.Canceled or an error that wraps it if the caller left before the tier was heard,
// which is ignored, any other error for failure. Only the first call of done counts.
func (t *Tier) Allow(most time.Duration) (done func(error), ok bool) {
	if most <= 0 {
		most = t.opts.Timeout
	}
	p, ok := t.machine.allow(2*most, false)
	if !ok {
		return nil, false
	}
	return func(err error) { p.Done(verdictOfTier(err), err) }, true
}

// verdictOfTier judges a tier's error. A caller that left says nothing of the tier.
func verdictOfTier(err error) Verdict {
	switch {
	case err == nil:
		return Succeeded
	case errors.Is(err, context.Canceled):
		return Ignored
	}
	return Failed
}

// State returns Closed, HalfOpen or Open. An open breaker becomes half-open by the first Allow or State that is two seconds
// later.
func (t *Tier) State() string { return t.machine.current() }

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
