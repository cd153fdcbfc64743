package session

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"
)

// Between tries to re-open a stream: from the server's own `retry`, or from half a second, up to ten.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
	// heldLong is how long a re-opened stream has to hold, if it is quiet, for its next break to be another one.
	heldLong = lastRetry
)

// terms say when a broken stream is opened again. A term begins with a break, and ends with an event that passes.
type terms struct {
	retry    time.Duration // the server's `retry`; 0 where it gave none
	tries    int           // in this term
	giveUpAt time.Time     // when the term ends; zero while the stream is whole
	openedAt time.Time     // when the stream was re-opened last
}

// newTerm makes the next break begin a new term.
func (t *terms) newTerm() { t.tries, t.giveUpAt = 0, time.Time{} }

// backoff returns the wait before the next try: doubling, with jitter over its upper half, and never less than the server
// asked for (2025-11-25, basic/transports: the client MUST wait for `retry`).
func (t *terms) backoff() time.Duration {
	wait := min(firstRetry<<min(t.tries, 6), lastRetry)
	t.tries++
	wait = wait/2 + rand.N(wait/2+1)
	if t.retry > wait {
		wait = t.retry + rand.N(t.retry/10+1)
	}
	return wait
}

// reopen tries until the server takes the stream again, says no, or `streams.reopen` is over since the break. A stream
// that is accepted and soon breaks again, before it carried an event, does not begin a new term.
func (st *stream) reopen() bool {
	if !st.openedAt.IsZero() && time.Since(st.openedAt) >= heldLong {
		st.newTerm()
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
		if o := st.try(); o != again {
			st.count(o)
			return st.cur != nil
		}
	}
}

// outcome is what came of a try to re-open a stream. Those that end a term are metric labels.
type outcome string

const (
	again    outcome = ""
	reopened outcome = "reopened"
	declined outcome = "refused"
	gaveUp   outcome = "gave_up"
)

func (st *stream) count(o outcome) {
	if o == reopened {
		st.openedAt = time.Now()
	}
	st.stage.opts.Metrics.reopens.WithLabelValues(st.call.Upstream, string(o)).Inc()
}

// try opens the stream once more, with the id of the last event that passed. A server that takes the request and says
// nothing has until the end of the term. A session that the server has lost is recovered, and the stream goes on in it.
func (st *stream) try() outcome {
	res, later, err := st.connect(st.giveUpAt)
	if err == nil && res.Events != nil {
		st.cur = res.Events
		if _, lost := res.Events.(*lostCall); lost {
			return declined
		}
		return reopened
	}
	st.drop()
	if err == nil {
		later = res.Status >= http.StatusInternalServerError
		st.stage.discard(res)
	}
	if later && st.ctx.Err() == nil {
		return again
	}
	return declined
}

// sleep waits for d, or until the session has moved, but no shorter than the server asked for. It reports whether the agent
// is still there.
func (st *stream) sleep(d time.Duration) bool {
	if st.e != nil {
		st.e.streams.Add(1)
		defer st.e.streams.Add(-1)
	}
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
