package session

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// Between tries to re-open a stream: from the server's own `retry`, or from half a second, up to ten.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// open relays a GET. A stream that the server accepts is re-opened when it breaks. Where an agent already had such a
// stream, it gets one at once even if the server cannot be reached: an HTTP error on a re-opened GET ends a Go client's
// whole session.
func (s *Stage) open(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	res, err := s.opts.Next.Call(ctx, c)
	switch {
	case err == nil && res.Events != nil:
		s.table.accepted(sessionID(c))
		res.Events = s.newStream(ctx, c, res.Events)
		return res, nil
	case ctx.Err() != nil || !s.mayWait(c):
		return res, err
	case err != nil && unreachable(err):
		return s.waiting(ctx, c), nil
	case err == nil && res.Status >= http.StatusInternalServerError:
		s.discard(res)
		return s.waiting(ctx, c), nil
	}
	return res, err
}

// mayWait reports whether the call re-opens a stream that was open before.
func (s *Stage) mayWait(c *mcp.Call) bool {
	if s.opts.Reopen <= 0 {
		return false
	}
	return c.Header.Get("Last-Event-ID") != "" || s.table.hasAccepted(sessionID(c))
}

// unreachable reports whether a failure says nothing of what the server thinks of the call.
func unreachable(err error) bool {
	var f *mcp.Failure
	if !errors.As(err, &f) {
		return false
	}
	switch f.Reason {
	case mcp.ReasonConnect, mcp.ReasonConnectTimeout, mcp.ReasonBrokeOff:
		return true
	}
	return false
}

// waiting is the answer to a GET whose server cannot be reached just now: a stream that is quiet until it can.
func (s *Stage) waiting(ctx context.Context, c *mcp.Call) *mcp.Result {
	return &mcp.Result{
		Status: http.StatusOK,
		Header: http.Header{
			"Content-Type":  {"text/event-stream"},
			"Cache-Control": {"no-cache, no-transform"},
		},
		Events: s.newStream(ctx, c, nil),
	}
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
	stop  func()     // ends cur's context, where it has one of its own

	lastID   string        // of the last event that passed, or the agent's own Last-Event-ID
	retry    time.Duration // the server's `retry`; 0 where it gave none
	tries    int           // in this term
	giveUpAt time.Time     // when the term of re-opening ends; zero while the stream is whole
	openedAt time.Time     // when it was re-opened last
}

func (s *Stage) newStream(ctx context.Context, c *mcp.Call, events mcp.Events) *stream {
	return &stream{stage: s, ctx: ctx, call: c, cur: events, lastID: c.Header.Get("Last-Event-ID")}
}

// Next returns the next event, from whichever stream of the server's it comes.
func (st *stream) Next() (mcp.Event, error) {
	for {
		if st.cur == nil && !st.reopen() {
			return mcp.Event{}, st.ending()
		}
		ev, err := st.cur.Next()
		if err == nil {
			st.passed(ev)
			return ev, nil
		}
		st.drop()
		if err == io.EOF || !unreachable(err) {
			return mcp.Event{}, err
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

// passed notes what an event says about how to go on after a break.
func (st *stream) passed(ev mcp.Event) {
	if ev.HasID {
		st.lastID = string(ev.ID)
	}
	if ev.Retry != nil {
		if ms, err := strconv.ParseUint(string(ev.Retry), 10, 31); err == nil {
			st.retry = time.Duration(ms) * time.Millisecond
		}
	}
	st.tries, st.giveUpAt = 0, time.Time{}
}

func (st *stream) drop() {
	if st.cur == nil {
		return
	}
	if err := st.cur.Close(); err != nil {
		st.stage.opts.Log.Debug("closing a stream", "upstream", st.stage.opts.Upstream, "error", err)
	}
	st.cur = nil
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
		if !sleep(st.ctx, wait) {
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
// nothing has until the end of the term.
func (st *stream) try() attempt {
	c := *st.call
	c.Header = st.call.Header.Clone()
	c.Header.Del("Last-Event-ID")
	if st.lastID != "" {
		c.Header.Set("Last-Event-ID", st.lastID)
	}
	ctx, cancel := context.WithCancel(st.ctx)
	patience := time.AfterFunc(time.Until(st.giveUpAt), cancel)
	res, err := st.stage.opts.Next.Call(ctx, &c)
	inTime := patience.Stop()
	if err == nil && res.Events != nil && !inTime {
		st.stage.discard(res) // its context has just ended
		return again
	}
	if err == nil && res.Events != nil {
		st.cur, st.stop = res.Events, cancel
		return reopened
	}
	defer cancel()
	switch {
	case st.ctx.Err() != nil:
		return refused
	case err != nil && (unreachable(err) || ctx.Err() != nil):
		return again
	case err != nil:
		return refused
	}
	status := res.Status
	st.stage.discard(res)
	if status >= http.StatusInternalServerError {
		return again
	}
	return refused
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
