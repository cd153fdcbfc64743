package breaker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"
)

// probeEvery is how far apart the probes of a tier are.
const probeEvery = 2 * time.Second

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
	timeout time.Duration
	breaker *Breaker
}

// NewTier returns a closed breaker. It panics without a name or a timeout.
func NewTier(o TierOptions) *Tier {
	if o.Name == "" || o.Timeout <= 0 {
		panic("breaker: a tier without a name or a timeout (this is a bug)")
	}
	gauge := cmp.Or(o.Metrics, newMetrics()).tiers.WithLabelValues(o.Name)
	announce := announcer(gauge, cmp.Or(o.Log, silent).With(slog.String("tier", o.Name)), words{
		works: "a cache tier works again",
		fails: "a cache tier fails and is left alone; it is tried again every two seconds",
		tried: "a cache tier is tried again",
	})
	return &Tier{timeout: o.Timeout, breaker: newBreaker(rules{
		window: window, minReports: minReports, ratio: failureRatio, inARow: inARow, first: probeEvery, longest: probeEvery,
	}, func(c change) {
		announce(c)
		if o.OnChange != nil {
			o.OnChange(c.from, c.to)
		}
	})}
}

// Allow reports whether the tier may be asked now, by a call that takes no longer than within; 0 stands for the tier's timeout. A
// probe of which nothing is heard in twice that has failed. If so, done must be called with what came of it: nil for success,
// which a mere miss is as well, context.Canceled or an error that wraps it if the caller left before the tier was heard,
// which is ignored, any other error for failure. Only the first call of done counts.
func (t *Tier) Allow(within time.Duration) (done func(error), ok bool) {
	if within <= 0 {
		within = t.timeout
	}
	p, ok := t.breaker.allow(2*within, false)
	if !ok {
		return nil, false
	}
	return p.doneUnlessCanceled, true
}

// doneUnlessCanceled is Done for a call whose caller may have left: that says nothing of the tier.
func (p *Permit) doneUnlessCanceled(err error) {
	if errors.Is(err, context.Canceled) {
		p.Ignore()
		return
	}
	p.Done(err)
}

// State returns Closed, HalfOpen or Open. An open breaker becomes half-open by the first Allow or State that is two seconds
// later.
func (t *Tier) State() string { return t.breaker.State() }
