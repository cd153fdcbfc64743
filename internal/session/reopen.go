package session

import (
	"context"
	"math/rand/v2"
	"time"

	"fluentd-perf/internal/mcp"
)

// Between tries to re-open a stream: from the server's own `retry`, or from half a second, up to ten.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
	// heldLong is how long a re-opened stream has to hold, if it is quiet, for its next break to be another outage.
	heldLong = lastRetry
)

// outage says when a broken stream is opened again. It begins with a break, and ends with an event that passes.
type outage struct {
	retry    time.Duration // the server's `retry`; 0 where it gave none
	tries    int           // to re-open the stream since it began
	giveUpAt time.Time     // zero while there is no outage
	openedAt time.Time     // when the server accepted the stream last, after a break
}

// endOutage makes the next break begin a new one.
func (t *outage) endOutage() { t.tries, t.giveUpAt = 0, time.Time{} }

// backoff returns the wait before the next try: doubling, with jitter over its upper half, and never less than the server
// asked for (2025-11-25, basic/transports: the client MUST wait for `retry`).
func (t *outage) backoff() time.Duration {
	wait := min(firstRetry<<min(t.tries, 6), lastRetry)
	t.tries++
	wait = wait/2 + rand.N(wait/2+1)
	if t.retry > wait {
		wait = t.retry + rand.N(t.retry/10+1)
	}
	return wait
}

// What became of re-opening a broken stream: metric labels.
const (
	reopened = "reopened"
	declined = "refused"
	gaveUp   = "gave_up"
)

// reopen tries until the server takes the stream again, with the id of the last event that passed; says no; or `streams.reopen`
// is over since the break. A stream that is accepted and soon breaks again, before it carried an event, is still in the
// same outage. A server that takes the request and says nothing has as long. A session that the server has lost is
// recovered, and the stream goes on in it.
func (st *stream) reopen() bool {
	if !st.openedAt.IsZero() && time.Since(st.openedAt) >= heldLong {
		st.endOutage()
	}
	if st.giveUpAt.IsZero() {
		st.giveUpAt = time.Now().Add(st.stage.opts.Reopen)
	}
	for {
		wait := st.backoff()
		if time.Now().Add(wait).After(st.giveUpAt) {
			st.count(gaveUp)
			return false
		}
		if !st.sleep(wait) {
			return false
		}
		res, again, err := st.connect(st.giveUpAt)
		if err == nil && res.Events != nil {
			st.resume(res.Events)
			return true
		}
		st.drop()
		if err == nil {
			st.stage.discard(res)
		}
		if !again || st.ctx.Err() != nil {
			st.count(declined)
			return false
		}
	}
}

// resume goes on with a stream of the server's, or with the error of the lost call whose stream this was.
func (st *stream) resume(events mcp.Events) {
	st.cur = events
	if _, lost := events.(*mcp.LostCall); lost {
		st.count(declined)
		return
	}
	st.openedAt = time.Now()
	st.count(reopened)
}

func (st *stream) count(result string) {
	st.stage.opts.Metrics.reopens.WithLabelValues(st.call.Upstream, result).Inc()
}

// sleep waits for d, or until the session has moved, but no shorter than the server asked for. It reports whether the agent
// is still there.
func (st *stream) sleep(d time.Duration) bool {
	start := time.Now()
	return wait(st.ctx, d, st.at.ctx.Done()) && wait(st.ctx, st.retry-time.Since(start), nil)
}

// wait waits for d, or for enough, and reports whether the context lasted as long.
func wait(ctx context.Context, d time.Duration, enough <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-enough:
	case <-ctx.Done():
		return false
	}
	return true
}
