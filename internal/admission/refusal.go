package admission

import (
	"log/slog"
	"time"

	"fluentd-perf/internal/mcp"
)

// logEvery is how far apart lines about refusals of one upstream for one reason are at least.
const logEvery = 10 * time.Second

// refusals are what an agent is told, and which setting the operator may turn.
var refusals = [...]struct {
	reason           mcp.Reason
	message, setting string
}{
	waiting:   {mcp.ReasonQueueWait, "the server had no room for this call in time", "limits.queue_wait"},
	full:      {mcp.ReasonQueueFull, "too many calls wait for this server", "limits.queue"},
	overTotal: {mcp.ReasonInFlight, "fluentd-perf has as many calls under way as it may have", "limits.in_flight"},
}

// line is how many calls were refused since the last line of log about it.
type line struct {
	refused int
	at      time.Time
}

// count counts a refusal, and says how many the log is to be told of now, 0 for none.
func (a *Admission) count(got result, now time.Time) (refused int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &a.lines[got]
	l.refused++
	if now.Sub(l.at) < logEvery {
		return 0
	}
	refused = l.refused
	*l = line{at: now}
	return refused
}

// refuse makes the failure of a call that gets no slot, and tells the log now and then.
func (a *Admission) refuse(got result) *mcp.Failure {
	now, r := time.Now(), &refusals[got]
	if refused := a.count(got, now); refused > 0 {
		inFlight, queued := a.Stats()
		a.opts.Log.Warn("calls are refused: "+r.message, slog.String("upstream", a.opts.Upstream), slog.String("setting", r.setting),
			slog.Int("refused", refused), slog.Int("in_flight", inFlight), slog.Int("queued", queued))
	}
	after := a.gate.retryAfter(now)
	if got == overTotal {
		after = a.opts.Total.wait(now)
	}
	return &mcp.Failure{Code: mcp.CodeOverloaded, Reason: r.reason, Sent: mcp.SentNo, Message: r.message, RetryAfter: after}
}
