package session

import (
	"context"
	"maps"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// told answers a GET that resumes a stream whose agent knows already that its call was lost: 405, so that it does not ask
// again. Nil for all others.
func (st *stream) told() *mcp.Result {
	if !st.locate() {
		return nil
	}
	if !st.e.isTold(st.post) {
		return st.quiet()
	}
	res := textResult(http.StatusMethodNotAllowed, "the call of this stream was lost with its session")
	res.Header.Set("Allow", "POST, DELETE")
	return res
}

func (s *Stage) heals() bool { return s.opts.Heal != HealOff }

// locate looks up where the session is now, what the stream's Last-Event-ID means there, and takes off one that means
// nothing. It reports whether the stream is of a call that the server has lost.
func (st *stream) locate() bool {
	if st.e == nil {
		return false
	}
	st.at = st.e.place()
	if st.lastID == "" || !st.stage.heals() {
		return false
	}
	p, before := st.e.resume(st.lastID, st.idGen)
	if p != nil {
		st.post = p
	}
	if !before {
		st.idGen = st.at.gen
		return false
	}
	st.lastID, st.lost = "", st.post != nil
	return st.lost
}

// first sends the agent's GET, again after each healing. The result is a loss only where the session could not be healed.
func (st *stream) first() (*mcp.Result, error) {
	s := st.stage
	for range healsPerMinute + 1 {
		st.settle()
		if st.ended() || st.locate() {
			return lostResult(), nil
		}
		res, _, err := st.attempt(time.Time{})
		if err != nil && st.moved.Load() && st.ctx.Err() == nil {
			st.drop() // the session has been healed meanwhile: the stream is to be where it lives now
			continue
		}
		if err != nil || !st.isLoss(res) {
			return res, err
		}
		if st.e == nil {
			s.gaveUpOn(resultUnknown)
			return res, nil
		}
		st.drop()
		lost := s.pass(res)
		m, err := s.heal(st.ctx, st.call, st.e, st.at, false)
		if err != nil {
			return nil, err
		}
		if !m.ok {
			return m.passed(lost), nil
		}
	}
	s.gaveUpOn(resultTooOften)
	return lostResult(), nil
}

// settle waits for the healing of the session that is going on, if there is one: where it lives until then knows nothing.
func (st *stream) settle() {
	if st.e == nil {
		return
	}
	h := st.e.underWay()
	if h == nil {
		return
	}
	select {
	case <-h.done:
	case <-st.ctx.Done():
	}
}

func (e *session) underWay() *healing {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.healing
}

// heal has the session healed for a stream that is re-opened, and says what the stream is to do then: reopened stands for
// trying there at once.
func (st *stream) heal() attempt {
	if st.e == nil {
		st.stage.gaveUpOn(resultUnknown)
		return refused
	}
	switch m, err := st.stage.heal(st.ctx, st.call, st.e, st.at, false); {
	case err != nil:
		return again // the server could not be asked; or the agent left, which is seen next
	case m.ok:
		return reopened
	}
	return refused
}

// attempt sends the GET to where the session was found. Its context ends with drop, when the session is healed, and at
// the deadline, if there is one; late says that it has.
func (st *stream) attempt(deadline time.Time) (res *mcp.Result, late bool, err error) {
	st.moved.Store(false)
	if st.at.gone {
		return lostResult(), false, nil
	}
	ctx, cancel := context.WithCancel(st.ctx)
	st.stop = cancel
	if st.e != nil {
		st.follow(cancel)
	}
	if deadline.IsZero() {
		res, err = st.stage.opts.Next.Call(ctx, st.out())
	} else {
		patience := time.AfterFunc(time.Until(deadline), cancel)
		res, err = st.stage.opts.Next.Call(ctx, st.out())
		late = !patience.Stop()
	}
	if st.wrote != nil {
		st.wrote()
		st.wrote = nil // what is re-opened is no act of the agent's
	}
	if err == nil && st.e != nil {
		st.at.down(st.e, res)
	}
	return res, late, err
}

// follow makes what happens to the session end the attempt, by cancel.
func (st *stream) follow(cancel func()) {
	leave := st.e.enter(st, cancel)
	st.stop = func() { leave(); cancel() }
}

// out returns the GET as it goes to where the session is.
func (st *stream) out() *mcp.Call {
	moved := st.e != nil && st.at.id != st.e.name
	c := *st.call
	c.Written = st.wrote
	if !moved && st.call.Header.Get("Last-Event-ID") == st.lastID {
		return &c
	}
	c.Header = maps.Clone(st.call.Header)
	c.Header.Del("Last-Event-ID")
	if st.lastID != "" {
		c.Header.Set("Last-Event-ID", st.lastID)
	}
	if moved {
		c.Header[sessionHeader] = st.at.header
	}
	return &c
}

// enter makes a healing end the context of an open GET stream of the session, so that the stream is opened again where
// the session lives then; leave takes that back.
func (e *session) enter(st *stream, cancel func()) (leave func()) {
	e.streams.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	move := func() { st.moved.Store(true); cancel() }
	if e.moves == nil {
		e.moves = make(map[*stream]func())
	}
	e.moves[st] = move
	if e.at.gen != st.at.gen || e.at.gone != st.at.gone {
		move()
	}
	return func() {
		e.streams.Add(-1)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.moves, st)
	}
}

// accepted notes that the server has accepted the stream of the session with that id.
func (st *stream) accepted(id string) {
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

// hadStream reports whether the call surely re-opens a stream that was open before.
func (st *stream) hadStream() bool {
	return st.call.Header.Get("Last-Event-ID") != "" || st.e != nil && st.e.accepted.Load()
}

// fromBefore reports whether nobody knows if the session had a stream: the stage did not see it begin, as is the case with
// every session that has outlived a restart of the daemon; or keeps nothing of it (HealOff, or forgotten for its bounds).
func (st *stream) fromBefore() bool {
	return sessionID(st.call.Header) != "" && (st.e == nil || st.e.opening == nil)
}

// quiet is the answer to a GET whose server cannot be reached just now, or need not be asked: a stream of the daemon's.
func (st *stream) quiet() *mcp.Result {
	st.drop()
	return &mcp.Result{
		Status: http.StatusOK,
		Header: http.Header{
			"Content-Type":  {"text/event-stream"},
			"Cache-Control": {"no-cache, no-transform"},
		},
		Events: st,
	}
}

// refused hands on what is no stream. A body that passes as it comes keeps the attempt's context until it is closed.
func (st *stream) refused(res *mcp.Result, err error) (*mcp.Result, error) {
	if err != nil || res.Raw == nil {
		st.drop()
		return res, err
	}
	release := res.Release
	res.Release = func() {
		st.drop()
		if release != nil {
			release()
		}
	}
	return res, nil
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
		return st.stage.lost(st.ctx, st.call, st.e, st.at, res)
	}
	return st.stage.doubt(st.ctx, st.call, st.e, st.at).loss == mcp.LossSure
}

// ended reports whether the session of the stream has ended, or its id is another's: the stream is none of that one's.
func (st *stream) ended() bool { return st.e != nil && st.e.hasEnded() }

// watch notes what an event says of the session: its id, what the server asks, the answer to a call that is resumed.
func (st *stream) watch(ev *mcp.Event) {
	defer st.stage.sessions.weigh(st.e)
	if len(ev.ID) > 0 {
		st.e.saw(st.at, st.post, ev.ID)
	}
	m := ev.Message
	switch {
	case m.Kind != mcp.KindInvalid:
	case len(ev.Data) == 0 && !ev.Partial && !ev.Last:
		return
	case mcp.Scan(ev.Data, &m) != nil:
		st.e.passedUnread(st.at)
		return
	}
	if st.post != nil && isAnswer(&m) && mcp.SameID(m.ID.Of(ev.Data), st.post.id) {
		st.e.answered(st.post)
		st.post = nil
		return
	}
	st.e.note(st.at, ev.Data, &m)
}

// lostAnswer is the last event of the stream of a call whose session the server has lost.
func (st *stream) lostAnswer() mcp.Event {
	st.over = true
	st.e.tell(st.post)
	return mcp.Event{
		FailedID: st.post.id,
		Failure: &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonSessionLost, Sent: mcp.SentUnknown,
			Message: "the server lost the session before it answered this call",
		},
	}
}
