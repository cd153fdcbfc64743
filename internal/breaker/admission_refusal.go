package breaker

import (
	"log/slog"
	"time"

	"fluentd-perf/internal/mcp"
)

// tellEvery is how far apart lines about refusals of one upstream are at least.
const tellEvery = 10 * time.Second

// refusal is what an agent is told, and which setting the operator may turn.
type refusal struct{ message, setting string }

var refusals = map[mcp.Reason]refusal{
	mcp.ReasonQueueFull: {"too many calls wait for this server", "limits.queue"},
	mcp.ReasonQueueWait: {"the server had no room for this call in time", "limits.queue_wait"},
	mcp.ReasonInFlight:  {"fluentd-perf has as many calls under way as it may have", "limits.in_flight"},
}

// tally is how many calls were refused for one reason since the log was told.
type tally struct {
	refused int
	told    time.Time
}

// refusedLocked counts a refusal, and says whether and of how many the log is to be told. The caller holds the lock.
func (a *Admission) refusedLocked(reason mcp.Reason, now time.Time) (refused int, tell bool) {
	t := a.tallies[reason]
	if t == nil {
		t = new(tally)
		a.tallies[reason] = t
	}
	t.refused++
	if now.Sub(t.told) < tellEvery {
		return 0, false
	}
	refused = t.refused
	*t = tally{told: now}
	return refused, true
}

// refuse makes the failure of a call that gets no slot, and tells the log now and then.
func (a *Admission) refuse(reason mcp.Reason) *mcp.Failure {
	now := time.Now()
	a.mu.Lock()
	if a.inFlight == a.opts.MaxInFlight {
		a.pace.note(0, now)
	}
	after := a.pace.wait(a.queue.waiting+1, a.opts.MaxInFlight, a.opts.QueueWait)
	refused, tell := a.refusedLocked(reason, now)
	inFlight, queued := a.inFlight, a.queue.waiting
	a.mu.Unlock()

	r := refusals[reason]
	if tell {
		a.opts.Log.Warn("calls are refused: "+r.message, slog.String("upstream", a.opts.Upstream), slog.String("setting", r.setting),
			slog.Int("refused", refused), slog.Int("in_flight", inFlight), slog.Int("queued", queued))
	}
	if reason == mcp.ReasonInFlight {
		after = a.opts.Total.wait(now)
	}
	return &mcp.Failure{Code: mcp.CodeOverloaded, Reason: reason, Sent: mcp.SentNo, Message: r.message, RetryAfter: after}
}
