package breaker

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// A ticket says what a call was allowed as. All calls have the same from when the breaker closes until it opens, an even number;
// each probe has its own, an odd one. Tickets are never used again, and a later one is the larger.
func isProbe(ticket uint64) bool { return ticket%2 == 1 }

// Report says what came of a call that was allowed: nil for success, context.Canceled itself where nothing was learnt, because
// the caller left, say, any other error for failure; one that is syscall.ECONNREFUSED says that nobody listens there. A
// probe of which nothing was learnt makes room for the next. What was allowed before the state last changed counts
// no more; but if it did well, the next probe is due at once, see Alive, and a late probe may close the breaker.
func (b *Breaker) Report(ticket uint64, err error) {
	if p := b.closed.Load(); err == nil && p != nil && p.ticket == ticket {
		b.succeeded(p)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	probe, current := isProbe(ticket), ticket == b.ticket()
	if err != nil && err != context.Canceled {
		b.last = err
	}
	switch {
	case err == context.Canceled:
		if ticket == b.probe {
			b.waited += time.Since(b.begun)
			b.endProbeLocked()
		}
	case err == nil && probe && ticket >= b.proofFrom:
		// It may have taken longer than a probe may hold its place. Or a server all of whose calls do would never be used again.
		b.endProbeLocked()
		b.beginLocked()
		b.log.Info("circuit closed: " + b.kind.works)
	case err == nil:
		b.aliveLocked()
	case probe:
		b.proofFrom = max(b.proofFrom, ticket+1) // one that began before it is no proof any more
		b.probeFailedLocked(ticket, err)
	case current:
		b.failedLocked(err)
	}
}

// errNoReport is the failure of a probe that has not reported in time.
var errNoReport = errors.New("the call that tried whether it works again was not answered in time")

// expire makes room for the next probe after one that has not reported. The call goes on, and what it reports in the end counts
// still.
func (b *Breaker) expire(ticket uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probeFailedLocked(ticket, errNoReport)
}

// probeFailedLocked lets the next probe wait, if this one has its place still.
func (b *Breaker) probeFailedLocked(ticket uint64, err error) {
	if ticket != b.probe {
		return
	}
	b.last = err
	b.endProbeLocked()
	b.openLocked()
	b.log.Debug("circuit open", slog.String("error", describe(err)))
}

// endProbeLocked lets the probe under way, if there is one, hold its place no longer.
func (b *Breaker) endProbeLocked() {
	if b.probe != 0 {
		b.deadline.Stop()
		b.probe = 0
	}
}
