package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// The rules of a tier, see docs/resilience.md.
const (
	tierWindow       = 10 * time.Second // for the ratio
	tierMinReports   = 20               // in the window, for the ratio to count
	tierFailureRatio = 0.5
	tierInARow       = 3               // failures, without a success between and however old
	tierProbeEvery   = 2 * time.Second // how far apart probes are
)

// Tier is the breaker of one cache tier. It is safe for concurrent use.
type Tier struct{ breaker *Breaker }

// NewTier returns the closed breaker of the tier of a name, which is a label of metrics. Without metrics it is not shown, and
// without a log, which must not block, it is silent.
func NewTier(name string, metrics *Metrics, log *slog.Logger) *Tier {
	return &Tier{newBreaker(tiers, rules{
		window: tierWindow, minReports: tierMinReports, ratio: tierFailureRatio, inARow: tierInARow,
		first: tierProbeEvery, longest: tierProbeEvery,
	}, metrics, log, name)}
}

// Allow reports whether the tier may be called now, by a call that takes no longer than within. A probe that has not reported in
// twice that has failed. If so, done must be called with what came of it: nil for success, which a mere miss is as well,
// context.Canceled or an error that wraps it if the caller left before the tier answered, which is ignored, any other error
// for failure. Only the first call of done counts.
func (t *Tier) Allow(within time.Duration) (done func(error), ok bool) {
	ticket := t.breaker.allow(2*within, false)
	if ticket == 0 {
		return nil, false
	}
	var ended atomic.Bool
	return func(err error) {
		if errors.Is(err, context.Canceled) {
			err = context.Canceled
		}
		if ended.CompareAndSwap(false, true) {
			t.breaker.Report(ticket, err)
		}
	}, true
}

// State returns Closed, HalfOpen or Open. An open breaker becomes half-open by the first Allow or State that is two seconds
// later.
func (t *Tier) State() string { return t.breaker.State() }
