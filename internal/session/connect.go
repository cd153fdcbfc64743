package session

import (
	"context"
	"maps"
	"time"

	"fluentd-perf/internal/mcp"
)

// unlimited is how long a GET may take to be accepted that only its agent gives up.
const unlimited = 100 * 365 * 24 * time.Hour

// connect sends the GET to where its session lives, until the deadline, and again after each recovery. The answer is a loss
// only where the session could not be recovered. later says of an error that it says nothing of what the server thinks of
// the GET.
func (st *stream) connect(deadline time.Time) (res *mcp.Result, later bool, err error) {
	s := st.stage
	for range rounds {
		if res := st.locate(); res != nil {
			return res, false, nil
		}
		res, err := st.attempt(deadline)
		switch {
		case err != nil && st.at.left() && st.ctx.Err() == nil:
			st.drop() // the session has moved meanwhile: the stream is to be where it lives now
			continue
		case err != nil:
			return nil, unreachable(err), err
		case !st.isLoss(res):
			return res, false, nil
		case st.e == nil:
			s.gaveUpOn(resultUnknown)
			return res, false, nil
		}
		st.drop()
		if res, err := s.recover(st.ctx, st.call, st.e, st.at, s.lossText(res)); res != nil || err != nil {
			return res, err != nil, err
		}
	}
	s.gaveUpOn(resultTooOften)
	return lostResult(), false, nil
}

// locate looks up where the session lives now, after the recovery that is going on, and takes off a Last-Event-ID from
// another place. It returns what the GET gets without asking the server: that its session has ended, or that the call is
// lost whose stream it resumes.
func (st *stream) locate() *mcp.Result {
	if st.e == nil {
		return nil
	}
	st.e.waitForRecovery(st.ctx)
	if st.at = st.e.place(); st.ended() {
		return lostResult()
	}
	if st.lastID == "" || !st.stage.heals() {
		return nil
	}
	if st.post == nil {
		st.post = st.e.postStreamOf(st.lastID, st.idGen)
	}
	if st.idGen == st.at.gen {
		return nil
	}
	st.lastID = ""
	if st.post == nil {
		return nil
	}
	return st.e.lostCallResult(st.post)
}

// ended reports whether the session of the stream has ended, or its id is another's: the stream is none of that one's.
func (st *stream) ended() bool { return st.e != nil && st.e.hasEnded() }

// attempt sends the GET to where the session was found. Its context ends with drop, when the session moves, and when the
// server has not answered by the deadline.
func (st *stream) attempt(deadline time.Time) (*mcp.Result, error) {
	if st.at.gone {
		return lostResult(), nil
	}
	ctx, cancel := context.WithCancel(st.ctx)
	st.follow(cancel)
	timer := time.AfterFunc(time.Until(deadline), cancel)
	res, err := st.stage.opts.Next.Call(ctx, st.out())
	late := !timer.Stop()
	st.wrote() // called once: what is re-opened is no act of the agent's
	switch {
	case late && err == nil:
		st.stage.discard(res) // its context has just ended
		return nil, errLate
	case late:
		return nil, errLate
	case err != nil:
		return nil, err
	case res.Events != nil:
		st.accepted()
	}
	if st.e != nil {
		st.at.hideID(st.e, res)
	}
	return res, nil
}

// errLate is the failure of an attempt that the server did not answer before its deadline: it is worth another.
var errLate = &mcp.Failure{
	Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonConnectTimeout, Sent: mcp.SentUnknown,
	Message: "the server did not accept the stream in time",
}

// follow makes the session's leaving its place end the attempt, or the stream that came of it, by cancel.
func (st *stream) follow(cancel func()) {
	e := st.e
	if e == nil {
		st.stop = cancel
		return
	}
	e.streams.Add(1)
	unfollow := context.AfterFunc(st.at.ctx, cancel)
	st.stop = func() {
		e.streams.Add(-1)
		unfollow()
		cancel()
	}
}

// out returns the GET as it goes to where the session is.
func (st *stream) out() *mcp.Call {
	moved := st.e != nil && st.at.id != st.e.name
	c := *st.call
	c.Written = st.wrote
	if !moved && st.call.Header.Get(lastEventHeader) == st.lastID {
		return &c
	}
	c.Header = maps.Clone(st.call.Header)
	c.Header.Del(lastEventHeader)
	if st.lastID != "" {
		c.Header.Set(lastEventHeader, st.lastID)
	}
	if moved {
		c.Header[sessionHeader] = st.at.header
	}
	return &c
}

// accepted notes that the server has accepted the stream.
func (st *stream) accepted() {
	id := sessionID(st.call.Header)
	if id == "" {
		return
	}
	if st.e == nil {
		st.e = st.stage.sessions.findOrAdd(id)
		st.at = st.e.place()
		st.follow(st.stop)
	}
	st.e.accepted.Store(true)
}

// isLoss reports whether the server does not know the session of the GET. Many servers have no GET stream, and some say
// 404 to that: unless the session had a stream before, or the GET resumes one, a ping in the session decides.
func (st *stream) isLoss(res *mcp.Result) bool {
	if !st.stage.heals() || sessionID(st.call.Header) == "" || st.call.Era != mcp.EraLegacy {
		return false
	}
	loss := mcp.LossOf(st.call, res)
	if st.e == nil || st.e.opening == nil || st.at.gone {
		return loss == mcp.LossSure
	}
	if loss != mcp.LossSure || st.e.accepted.Load() || st.post != nil {
		return st.stage.isLoss(st.ctx, st.call, st.e, st.at, res)
	}
	return st.stage.ask(st.ctx, st.call, st.e, st.at).loss == mcp.LossSure
}
