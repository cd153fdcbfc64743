package session

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// Between tries to re-open a stream: from the server's own `retry`, or from half a second, up to ten.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// open relays a GET. A stream that the server accepts is re-opened when it breaks, and goes on in the session's new place
// when it was healed. Where an agent already had such a stream, it gets one at once even if the server cannot be reached:
// an HTTP error on a re-opened GET ends a Go client's whole session. So does one whose session began before the daemon: it
// may have had a stream. What the server itself says to it passes all the same, as it would directly.
func (s *Stage) open(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	id := sessionID(c.Header)
	wrote := s.gets.begin(id)
	defer wrote()
	st := s.newStream(ctx, c, s.sessions.find(id))
	st.wrote = wrote
	if res := st.told(); res != nil {
		return res, nil
	}
	res, err := st.first()
	switch {
	case err == nil && res.Events != nil:
		st.accepted(id)
		st.cur, res.Events = res.Events, st
		return res, nil
	case err == nil && st.lost:
		s.discard(res)
		return st.quiet(), nil
	case ctx.Err() != nil || s.opts.Reopen <= 0:
	case err != nil && unreachable(err) && (st.hadStream() || st.fromBefore()):
		return st.quiet(), nil
	case err == nil && res.Status >= http.StatusInternalServerError && st.hadStream():
		s.discard(res)
		return st.quiet(), nil
	}
	return st.refused(res, err)
}

// unreachable reports whether a failure says nothing of what the server thinks of the call.
func unreachable(err error) bool {
	var f *mcp.Failure
	if !errors.As(err, &f) {
		return false
	}
	switch f.Reason {
	case mcp.ReasonConnect, mcp.ReasonConnectTimeout, mcp.ReasonBrokeOff, mcp.ReasonBreakerOpen:
		return true
	}
	return false
}

func (s *Stage) discard(res *mcp.Result) {
	if err := res.Close(); err != nil {
		s.opts.Log.Debug("closing an answer", "upstream", s.opts.Upstream, "error", err)
	}
}

// stream is an agent's GET stream over as many streams of the server's as it takes. One goroutine reads it.
type stream struct {
	stage *Stage
	ctx   context.Context
	call  *mcp.Call
	cur   mcp.Events // nil while there is none
	stop  func()     // ends the context of cur, or of the attempt to open it
	wrote func()     // for the agent's own GET: it has been written, or will not be

	e     *session // nil outside of any session that is known
	at    place    // where cur, or the attempt, is
	moved atomic.Bool
	post  *post // whose answer is due on this stream; nil for none
	lost  bool  // the post is of a session that the server has lost
	over  bool  // nothing comes any more

	lastID   string        // of the last event that passed, or the agent's own Last-Event-ID
	idGen    int           // of the place that gave lastID; anyGen while that is not known
	retry    time.Duration // the server's `retry`; 0 where it gave none
	tries    int           // in this term
	giveUpAt time.Time     // when the term of re-opening ends; zero while the stream is whole
	openedAt time.Time     // when it was re-opened last
}

func (s *Stage) newStream(ctx context.Context, c *mcp.Call, e *session) *stream {
	st := &stream{stage: s, ctx: ctx, call: c, e: e, lastID: c.Header.Get("Last-Event-ID"), idGen: anyGen}
	if e != nil {
		st.at = e.place()
	}
	return st
}

// Next returns the next event, from whichever stream of the server's it comes.
func (st *stream) Next() (mcp.Event, error) {
	for {
		if st.lost && !st.over {
			return st.lostAnswer(), nil
		}
		if st.over {
			return mcp.Event{}, io.EOF
		}
		if st.cur == nil && !st.reopen() {
			if st.lost {
				continue
			}
			return mcp.Event{}, st.ending()
		}
		ev, err := st.cur.Next()
		if err == nil {
			st.passed(&ev)
			return ev, nil
		}
		moved := st.moved.Load() && st.ctx.Err() == nil
		st.drop()
		if err == io.EOF || !moved && !unreachable(err) {
			return mcp.Event{}, err
		}
		if st.ended() {
			return mcp.Event{}, st.ending()
		}
		st.stage.opts.Log.Info("GET stream broke off, re-opening", "upstream", st.stage.opts.Upstream, "cause", err)
	}
}

// ending is how the stream ends when it is not re-opened: cleanly, unless the agent left or the daemon stops.
func (st *stream) ending() error {
	if st.ctx.Err() == nil {
		return io.EOF
	}
	var cause *mcp.Failure
	if errors.As(context.Cause(st.ctx), &cause) {
		return cause
	}
	return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: st.ctx.Err()}
}

// passed notes what an event says about how to go on after a break, and about the session.
func (st *stream) passed(ev *mcp.Event) {
	if ev.HasID {
		st.lastID, st.idGen = string(ev.ID), st.at.gen
	}
	if ev.Retry != nil {
		if ms, err := strconv.ParseUint(string(ev.Retry), 10, 31); err == nil {
			st.retry = time.Duration(ms) * time.Millisecond
		}
	}
	st.tries, st.giveUpAt = 0, time.Time{}
	if st.e != nil && st.stage.opts.Heal != HealOff {
		st.watch(ev)
	}
}

func (st *stream) drop() {
	if st.cur != nil {
		if err := st.cur.Close(); err != nil {
			st.stage.opts.Log.Debug("closing a stream", "upstream", st.stage.opts.Upstream, "error", err)
		}
		st.cur = nil
	}
	if st.stop != nil {
		st.stop()
		st.stop = nil
	}
}

// Close ends the stream.
func (st *stream) Close() error {
	st.drop()
	return nil
}

// heldLong is how long a re-opened stream has to hold, if it is quiet, for its next break to be another one.
const heldLong = lastRetry

// reopen tries until the server takes the stream again, says no, or `streams.reopen` is over since the break. A stream
// that is accepted and soon breaks again, before it carried an event, does not begin a new term.
func (st *stream) reopen() bool {
	metrics := st.stage.opts.Metrics
	if !st.openedAt.IsZero() && time.Since(st.openedAt) >= heldLong {
		st.tries, st.giveUpAt = 0, time.Time{}
	}
	if st.giveUpAt.IsZero() {
		st.giveUpAt = time.Now().Add(st.stage.opts.Reopen)
	}
	for {
		wait := st.backoff()
		if time.Now().Add(wait).After(st.giveUpAt) {
			metrics.reopens.WithLabelValues(st.call.Upstream, "gave_up").Inc()
			return false
		}
		if !st.sleep(wait) {
			return false
		}
		switch st.try() {
		case reopened:
			st.openedAt = time.Now()
			metrics.reopens.WithLabelValues(st.call.Upstream, "reopened").Inc()
			return true
		case refused:
			metrics.reopens.WithLabelValues(st.call.Upstream, "refused").Inc()
			return false
		}
	}
}

// backoff returns the wait before the next try: doubling, with jitter over its upper half, and never less than the server
// asked for (2025-11-25, basic/transports: the client MUST wait for `retry`).
func (st *stream) backoff() time.Duration {
	wait := min(firstRetry<<min(st.tries, 6), lastRetry)
	st.tries++
	wait = wait/2 + rand.N(wait/2+1)
	if st.retry > wait {
		wait = st.retry + rand.N(st.retry/10+1)
	}
	return wait
}

type attempt int

const (
	again attempt = iota
	reopened
	refused
)

// try opens the stream once more, with the id of the last event that passed. A server that takes the request and says
// nothing has until the end of the term. A session that the server has lost is healed, and the stream goes on in it.
func (st *stream) try() attempt {
	for range healsPerMinute + 1 {
		if st.ended() || st.locate() {
			return refused
		}
		res, late, err := st.attempt(st.giveUpAt)
		switch {
		case err == nil && res.Events != nil && late:
			st.stage.discard(res) // its context has just ended
			st.drop()
			return again
		case err == nil && res.Events != nil:
			st.cur = res.Events
			return reopened
		}
		moved := st.moved.Load()
		st.drop()
		switch {
		case st.ctx.Err() != nil:
			return refused
		case err != nil && (unreachable(err) || late || moved):
			return again
		case err != nil:
			return refused
		}
		status, lost := res.Status, st.isLoss(res)
		st.stage.discard(res)
		switch {
		case status >= http.StatusInternalServerError:
			return again
		case !lost:
			return refused
		}
		if next := st.heal(); next != reopened {
			return next
		}
	}
	return refused
}

// sleep waits for d, or until the session has been healed, but no shorter than the server asked for. It reports whether
// the agent is still there.
func (st *stream) sleep(d time.Duration) bool {
	if st.e == nil {
		return sleep(st.ctx, d)
	}
	start, healed := time.Now(), make(chan struct{})
	defer st.e.enter(st, sync.OnceFunc(func() { close(healed) }))()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-healed:
		return sleep(st.ctx, st.retry-time.Since(start))
	case <-st.ctx.Done():
		return false
	}
}

// sleep waits, and reports whether the context lasted as long.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
