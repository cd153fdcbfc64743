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
	wrote func() // for the agent's own GET: it has been written, or will not be

	e    *session
	at   *place      // where cur, or the attempt, is
	cur  mcp.Events  // the server's stream; nil while there is none
	stop func()      // ends the context of cur, or of the attempt to open it; nil while there is neither
	post *postStream // whose answer is due on this stream; nil for none

	lastID  string // of the last event that passed, or in the agent's own Last-Event-ID, as the server gave it
	idPlace int    // of the place that gave lastID
	outage         // when it is opened again
}

// unlimited is how long a GET may take to be accepted that only its agent gives up.
const unlimited = 100 * 365 * 24 * time.Hour

// open relays a GET. A stream that the server accepts is re-opened when it breaks, and goes on in the session's new place
// when it was recovered.
func (s *Stage) open(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	e := s.sessions.openStream(sessionID(c.Header))
	st := &stream{stage: s, ctx: ctx, call: c, wrote: e.beginGET(), e: e}
	defer st.wrote()
	st.lastID, st.idPlace = s.eventOf(c.Header.Get(lastEventHeader))
	res, again, err := st.connect(time.Now().Add(unlimited))
	switch {
	case err == nil && res.Events != nil:
		st.cur, res.Events = res.Events, st
		return res, nil
	case again && st.waits(err):
		s.opts.Log.Info("GET stream could not be opened, waiting for the server", "upstream", s.opts.Upstream, "cause", causeOf(res, err))
		st.drop()
		if err == nil {
			s.discard(res)
		}
		return mcp.StreamOf(st), nil
	case err == nil:
		res.OnClose(st.close) // a body that passes as it comes keeps the attempt's context until then
		return res, nil
	}
	st.close()
	return nil, err
}

// waits reports whether the agent gets a stream at once though the server has opened none: where it already had such a stream,
// as an HTTP error on a re-opened GET ends a Go client's whole session; and where its session may have had one, because nobody
// here saw it begin (it has outlived a restart of the daemon), or nothing of it is kept (HealOff, or forgotten for the bounds).
// What the server itself says to the latter passes, as it would directly: err is nil then.
func (st *stream) waits(err error) bool {
	hadStream := st.call.Header.Get(lastEventHeader) != "" || st.e.accepted.Load()
	mayHave := st.e.name != "" && st.e.opening == nil
	return st.ctx.Err() == nil && st.stage.opts.Reopen > 0 && (hadStream || mayHave && err != nil)
}

// connect sends the GET to where its session lives, until the deadline, and again after each recovery. again says that another
// attempt may bring what this one did not: the server could not be reached, said 5xx, or could not be asked for another session.
func (st *stream) connect(deadline time.Time) (res *mcp.Result, again bool, err error) {
	var failed error // the last attempt
	res, err = st.stage.deliver(st.ctx, st.call, st.e, func(at *place) (res *mcp.Result, err error) {
		st.drop()
		st.at = at
		if res := st.lostCall(); res != nil {
			return res, nil
		}
		res, failed = st.attempt(deadline)
		return res, failed
	})
	if err == nil {
		return res, res.Status >= http.StatusInternalServerError, nil
	}
	return nil, failed == nil || unreachable(failed), err
}

// lostCall takes off a Last-Event-ID from another place than this. It returns what the GET gets without asking the server if
// the call is lost whose stream it resumes.
func (st *stream) lostCall() *mcp.Result {
	if st.lastID == "" || !st.stage.heals() {
		return nil
	}
	if st.post == nil {
		st.post = st.e.postStreamOf(st.lastID, st.idPlace)
	}
	if st.idPlace == st.at.number {
		return nil
	}
	st.lastID = ""
	if st.post == nil {
		return nil
	}
	return st.e.lostCallResult(st.post)
}

// attempt sends the GET to where the session lives. Its context, and that of the stream that comes of it, ends with drop, when
// the session leaves the place, and when the server has not answered by the deadline.
func (st *stream) attempt(deadline time.Time) (*mcp.Result, error) {
	ctx, cancel := context.WithCancel(st.ctx)
	unfollow := context.AfterFunc(st.at.ctx, cancel)
	st.stop = func() { unfollow(); cancel() }
	timer := time.AfterFunc(time.Until(deadline), cancel)
	res, err := st.stage.sendTo(ctx, st.out(), st.e, st.at)
	late := !timer.Stop()
	st.wrote() // called once: what is re-opened is no act of the agent's
	switch {
	case late && err == nil:
		st.stage.discard(res) // its context has just ended
		return nil, errLate
	case late:
		return nil, errLate
	case err == nil && res.Events != nil:
		st.e.accepted.Store(true)
	}
	return res, err
}

// errLate is the failure of an attempt that the server did not answer before its deadline: it is worth another.
var errLate = &mcp.Failure{
	Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonConnectTimeout, Sent: mcp.SentUnknown,
	Message: "the server did not accept the stream in time",
}

// out returns the GET with the id of the last event, if there is one from the place where it goes.
func (st *stream) out() *mcp.Call {
	c := *st.call
	c.Written = st.wrote
	if c.Header.Get(lastEventHeader) != st.lastID {
		c.Header = c.Header.Clone()
		c.Header.Del(lastEventHeader)
		if st.lastID != "" {
			c.Header.Set(lastEventHeader, st.lastID)
		}
	}
	return &c
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

// causeOf is what a log says of an attempt that opened no stream.
func causeOf(res *mcp.Result, err error) error {
	if err != nil {
		return err
	}
	return errors.New("the server answered " + strconv.Itoa(res.Status))
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
		if st.e.place().over {
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
	return mcp.Canceled(st.ctx, mcp.SentYes)
}

// passed notes what an event says about how to go on after a break, and about the session.
func (st *stream) passed(ev *mcp.Event) {
	if ev.HasID {
		st.lastID, st.idPlace = string(ev.ID), st.at.number
	}
	if ev.Retry != nil {
		if ms, err := strconv.ParseUint(string(ev.Retry), 10, 31); err == nil {
			st.retry = time.Duration(ms) * time.Millisecond
		}
	}
	st.endOutage()
	if !st.stage.heals() {
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

// drop ends the server's stream, or the attempt to open one.
func (st *stream) drop() {
	if st.cur != nil {
		st.stage.discard(&mcp.Result{Events: st.cur})
		st.cur = nil
	}
	if st.stop != nil {
		st.stop()
		st.stop = nil
	}
}

func (st *stream) close() {
	st.drop()
	st.stage.sessions.closeStream(st.e)
}

// Close ends the stream.
func (st *stream) Close() error {
	st.close()
	return nil
}
