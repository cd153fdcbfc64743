package session

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// stream is an agent's GET stream over as many streams of the server's as it takes. One goroutine reads it.
type stream struct {
	stage *Stage
	ctx   context.Context
	call  *mcp.Call
	cur   mcp.Events // nil while there is none
	stop  func()     // ends the context of cur, or of the attempt to open it; nil while there is neither
	wrote func()     // for the agent's own GET: it has been written, or will not be

	e    *session    // nil outside of any session that is known
	at   *place      // where cur, or the attempt, is
	post *postStream // whose answer is due on this stream; nil for none

	lastID string // of the last event that passed, or in the agent's own Last-Event-ID, as the server gave it
	idGen  int    // of the place that gave lastID
	terms         // when it is opened again
}

// open relays a GET. A stream that the server accepts is re-opened when it breaks, and goes on in the session's new place
// when it was recovered. Where an agent already had such a stream, it gets one at once even if the server cannot be reached:
// an HTTP error on a re-opened GET ends a Go client's whole session. So does one whose session began before the daemon: it
// may have had a stream. What the server itself says to it passes all the same, as it would directly.
func (s *Stage) open(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	id := sessionID(c.Header)
	wrote := s.gets.begin(id)
	defer wrote()
	st := &stream{stage: s, ctx: ctx, call: c, wrote: wrote, e: s.sessions.find(id), at: nowhere}
	st.lastID, st.idGen = s.eventOf(c.Header.Get(lastEventHeader))
	res, later, err := st.connect(time.Now().Add(unlimited))
	waits := ctx.Err() == nil && s.opts.Reopen > 0
	switch {
	case err == nil && res.Events != nil:
		st.cur, res.Events = res.Events, st
	case waits && later && (st.hadStream() || st.fromBefore()):
		res, err = streamResult(st), nil
	case waits && err == nil && res.Status >= http.StatusInternalServerError && st.hadStream():
		s.discard(res)
		res = streamResult(st)
	}
	return st.handOver(res, err)
}

// handOver lets go of what an attempt holds when the agent gets no stream of the server's. A body that passes as it comes keeps
// the attempt's context until it is closed.
func (st *stream) handOver(res *mcp.Result, err error) (*mcp.Result, error) {
	switch {
	case st.cur != nil:
	case err == nil && res.Raw != nil:
		res.OnClose(st.drop)
	default:
		st.drop()
	}
	return res, err
}

// hadStream reports whether the call surely re-opens a stream that was open before.
func (st *stream) hadStream() bool {
	return st.call.Header.Get(lastEventHeader) != "" || st.e != nil && st.e.accepted.Load()
}

// fromBefore reports whether nobody knows if the session had a stream: the stage did not see it begin, as is the case with
// every session that has outlived a restart of the daemon; or keeps nothing of it (HealOff, or forgotten for its bounds).
func (st *stream) fromBefore() bool {
	return sessionID(st.call.Header) != "" && (st.e == nil || st.e.opening == nil)
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

// Next returns the next event, from whichever stream of the server's it comes.
func (st *stream) Next() (mcp.Event, error) {
	for {
		if st.cur == nil && !st.reopen() {
			return mcp.Event{}, st.ending()
		}
		ev, err := st.cur.Next()
		if err == nil {
			st.passed(&ev)
			return ev, nil
		}
		moved := st.at.left() && st.ctx.Err() == nil
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
	return mcp.Left(st.ctx, mcp.SentYes)
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
	st.newTerm()
	if st.e == nil || !st.stage.heals() {
		return
	}
	m := st.e.passed(st.at, st.post, ev)
	if st.post != nil && m.Kind.IsAnswer() && mcp.SameID(m.ID.Of(ev.Data), st.post.id) {
		st.e.removePostStream(st.post)
		st.post = nil
	}
	tag := st.stage.tagOf(st.at)
	tag.put(ev)
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
