package streamable

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	afterCancel = 10 * time.Second // a call that its agent has cancelled may still be answered
	tellTime    = 5 * time.Second  // for a message of the daemon's own
	maxTells    = 64               // of them on their way to one process
)

// call is a request of an agent's that the process has. Guarded by the session's lock, but what does not change.
type call struct {
	s      *session
	l      *link
	st     *stream // where its answer goes
	id     []byte  // the agent's, raw
	body   []byte
	m      mcp.Message
	since  uint64 // Server.Received, when it was sent
	begun  time.Time
	limit  limits
	lists  bool                    // it asks for a list and says nothing else
	learns bool                    // it lists, and what it is answered, other processes will answer as well
	stop   context.CancelCauseFunc // has it not be written, if it is not being written yet
	sent   chan struct{}           // closed when own is there, or the call is over without

	own       []byte // its id in the process
	cancelled bool
	givenUp   bool // GivenUp has said so
	answered  bool
	received  bool        // something has come that names it
	timer     *time.Timer // bounds the wait for the next message
}

// limits are the bounds of a call's waits, as over HTTP: for the first message and between two.
type limits struct{ first, next time.Duration }

func (f *Front) limitsOf(m mcp.Method) limits {
	switch {
	case m.Unhurried():
		return limits{f.opts.Call, f.opts.Call}
	case m.Handshake():
		return limits{f.opts.Handshake, f.opts.Idle}
	}
	return limits{f.opts.FirstByte, f.opts.Idle}
}

// request answers a request.
func (s *session) request(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	if c.Method() == mcp.MethodPing && s.mayHaveProcess() {
		return pong(c), nil // the session is there, its process need not be
	}
	if res := s.recallList(c); res != nil {
		return res, nil
	}
	l, res, f := s.enter(ctx, c)
	if res != nil || f != nil {
		return res, f
	}
	r := s.reader(ctx, c, 1)
	if f := s.send(ctx, l, r.st, c.Body, &c.Message); f != nil {
		s.abandon(r)
		return nil, f
	}
	return r.answerOf(ctx, l)
}

// hasProcess reports whether the session has a process, or gets one in the place of another.
func (s *session) hasProcess() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasProcessLocked()
}

// mayHaveProcess reports whether the session has no process now and gets one when it needs it.
func (s *session) mayHaveProcess() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.hasProcessLocked() && s.initialize != nil && (s.recalled != nil || s.f.opts.Heal != HealOff)
}

func (s *session) hasProcessLocked() bool {
	return s.recalled == nil && (s.link != nil || s.opening != nil)
}

func pong(c *mcp.Call) *mcp.Result {
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{}}`, c.ID())
	return jsonResult(c, body, scanned(body))
}

// reader begins a POST's stream, of so many answers.
func (s *session) reader(ctx context.Context, c *mcp.Call, due int) *reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &reader{ctx: ctx, c: c, begun: time.Now()}
	r.st = s.newStreamLocked(c.ID(), due)
	r.st.attachLocked(r)
	return r
}

// abandon drops a POST's stream of which its agent gets nothing: a request of it was not sent. Answers to those that were are nobody's; what
// names no request waits for the next stream.
func (s *session) abandon(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.st.moveGeneralLocked(s.get)
	s.dropStreamLocked(r.st)
	s.trimLocked()
}

// send sends a request to the process, which has been entered for it: it is left when the call has its answer.
func (s *session) send(ctx context.Context, l *link, st *stream, body []byte, m *mcp.Message) *mcp.Failure {
	s.sending(m)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := &call{
		s: s, l: l, st: st, id: bytes.Clone(m.ID.Of(body)), body: body, m: *m,
		since: l.server.Received(), begun: time.Now(), limit: s.f.limitsOf(m.Method), stop: stop, sent: make(chan struct{}),
		lists: familyOf(m.Method) != 0 && saysNothing(m.Params.Of(body)),
	}
	s.mu.Lock()
	c.learns = c.lists && l.process != 0 && !s.state
	if s.link != l {
		s.mu.Unlock()
		l.server.Leave()
		return lostOnTheWay(l.server)
	}
	s.calls = append(s.calls, c)
	s.passOnLocked(st)
	c.timer = time.AfterFunc(c.limit.first, c.late)
	s.mu.Unlock()
	own, f := l.server.Request(ctx, body, m, c.take)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(c.sent)
	c.own = own
	if f != nil && f.Sent == mcp.SentNo {
		return s.unsentLocked(c, f)
	}
	if c.answered {
		l.server.Forget(own) // it took too long to be written
	}
	return nil // it may have gone: the answer, or the end of the process, says what came of it
}

// unsentLocked ends a call that was not written, and returns why. Where its agent has cancelled it, that is its answer, and other requests
// of an array go on.
func (s *session) unsentLocked(c *call, f *mcp.Failure) *mcp.Failure {
	if !s.settleLocked(c) || !c.cancelled {
		return f
	}
	f.Counted = c.givenUp
	c.st.addLocked(&event{failure: f, call: c})
	return nil
}

// lostOnTheWay is the failure of a call whose process has gone before it was sent.
func lostOnTheWay(server Server) *mcp.Failure {
	f := *whyGone(server)
	if f.Sent = mcp.SentNo; f.Reason == mcp.ReasonCanceled {
		return mcp.Draining()
	}
	return &f
}

// settleLocked ends the wait of a call. It reports false where it had ended.
func (s *session) settleLocked(c *call) bool {
	if c.answered {
		return false
	}
	c.answered = true
	c.timer.Stop()
	s.calls = slices.DeleteFunc(s.calls, func(other *call) bool { return other == c })
	c.st.due--
	c.l.server.Leave()
	return true
}

// take takes what names the call: progress, and the answer.
func (c *call) take(data []byte, m *mcp.Message) {
	s := c.s
	e := &event{data: data, m: *m}
	s.f.opts.Store.makeRoom(e.bytes())
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.answered {
		return
	}
	c.received = true
	if m.Kind.IsAnswer() {
		e.call = c
		s.f.opts.Answered(c.m.Method.Group(), time.Since(c.begun))
		s.answeredLocked(c, m.Kind)
		s.listedLocked(c, data, m)
		s.settleLocked(c)
	} else if !c.cancelled {
		c.timer.Reset(c.limit.next)
	}
	c.st.addLocked(e)
	s.waitLocked(c.l, c.st)
}

// failLocked ends a call without an answer.
func (s *session) failLocked(c *call, f *mcp.Failure) {
	own := *f
	own.Counted, own.Sent = c.givenUp, mcp.SentUnknown
	if c.received {
		own.Sent = mcp.SentYes
	}
	if s.settleLocked(c) {
		c.st.addLocked(&event{failure: &own, call: c})
	}
}

// late ends a call whose next message took too long, and tells the server that nobody waits (2025-11-25, basic/lifecycle,
// "Timeouts").
func (c *call) late() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.answered {
		return
	}
	f := &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentUnknown, Silent: c.l.server.Received() == c.since,
		Message: "the server did not answer within " + c.limit.first.String(),
	}
	switch {
	case c.cancelled:
		f = cancelled(mcp.SentYes)
	case c.m.Method.Unhurried():
		f.Reason = mcp.ReasonCallTimeout
	case c.received:
		f.Reason, f.Message = mcp.ReasonIdle, "the server stopped in the middle of its answer for "+c.limit.next.String()
	}
	own := c.own
	s.failLocked(c, f)
	if own == nil {
		return
	}
	defer c.l.server.Forget(own)
	if c.cancelled {
		return
	}
	defer c.l.server.Check(own)
	if c.m.Method != mcp.MethodInitialize && !c.m.Task.Present() {
		s.tell(c.l, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"timed out"}}`, own))
	}
}

// cancelled is the failure of a call that its agent cancelled.
func cancelled(sent mcp.Sent) *mcp.Failure {
	return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: sent, Message: "the agent cancelled the call"}
}

// tell sends a message of the daemon's own to the process, in the background: whoever reads from it must not wait for it. A
// process that asks and does not read gets no more than so many.
func (s *session) tell(l *link, message []byte) {
	if l.tells.Add(1) > maxTells {
		l.tells.Add(-1)
		return
	}
	s.f.start(func() {
		defer l.tells.Add(-1)
		ctx, cancel := context.WithTimeout(s.f.base, tellTime)
		defer cancel()
		_ = l.server.Send(ctx, message, scanned(message)) // a process that has ended needs it no more
	})
}

// answerOf is answer for what a process was sent. Whether that is outdated is asked last: what a cache notes of the request from before it
// is void where the process that makes it so answers meanwhile.
func (r *reader) answerOf(ctx context.Context, l *link) (*mcp.Result, *mcp.Failure) {
	res, f := r.answer(ctx)
	if f == nil {
		res.Outdated = l.server.Outdated()
	}
	return res, f
}

// answer waits for what comes first: answers alone are a body, all else begins a stream.
func (r *reader) answer(ctx context.Context) (*mcp.Result, *mcp.Failure) {
	st, s := r.st, r.st.s
	timer := time.NewTimer(streamAfter)
	defer timer.Stop()
	for {
		s.mu.Lock()
		wake := st.wake
		switch {
		case s.ended:
			s.mu.Unlock()
			return nil, sessionEnded()
		case st.isOver() && st.plain:
			res := r.bodyLocked()
			s.dropStreamLocked(st)
			s.mu.Unlock()
			return res, nil
		case len(st.events) == 1 && st.events[0].failure != nil && st.isOver():
			f := st.events[0].failure
			s.dropStreamLocked(st)
			s.mu.Unlock()
			return nil, f
		case !st.plain || st.size > maxEventBytes: // with so much of it unread the server is not read
			s.mu.Unlock()
			return r.result(), nil
		}
		s.mu.Unlock()
		select {
		case <-wake:
		case <-timer.C:
			r.comments = 2
			return r.result(), nil
		case <-ctx.Done():
			return nil, r.left(ctx)
		}
	}
}

// left is the failure of a POST whose agent has left. The call goes on (2025-11-25, basic/transports: a disconnection is no
// cancellation), and its stream can be resumed.
func (r *reader) left(ctx context.Context) *mcp.Failure {
	f := mcp.Canceled(ctx, mcp.SentUnknown)
	s := r.st.s
	s.mu.Lock()
	for _, c := range s.calls {
		if c.st == r.st {
			f.Silent, f.Counted = c.l.server.Received() == c.since, c.givenUp
		}
	}
	s.mu.Unlock()
	f.Waited = time.Since(r.begun)
	_ = r.Close() // it returns nil
	return f
}

// bodyLocked is the answer, or the answers to an array, as a body.
func (r *reader) bodyLocked() *mcp.Result {
	events := r.st.events
	var res *mcp.Result
	if !r.isArray() {
		e := events[0]
		m := e.m
		res = jsonResult(r.c, e.data, &m)
	} else {
		body := []byte{'['}
		for i, e := range events {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, e.data...)
		}
		body = append(body, ']')
		res = jsonResult(r.c, body, &mcp.Message{})
		if mcp.Scan(body, &res.Message) != nil {
			res.Message = mcp.Message{}
		}
		res.Checked = r.c.Lane == mcp.LaneBatch && !res.Message.Loose
	}
	res.Timing.Upstream = time.Since(r.begun)
	res.Timing.FirstByte = res.Timing.Upstream
	return res
}

// notify takes a notification.
func (s *session) notify(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	switch c.Method() {
	case mcp.MethodInitialized:
		return s.notifyInitialized(ctx, c)
	case mcp.MethodCancelled:
		return s.cancel(ctx, c)
	case mcp.MethodProgress, mcp.MethodRootsListChanged:
		if !s.hasProcess() {
			return mcp.Accepted(), nil // of a process that has gone; another has not asked for roots yet
		}
	}
	l, res, f := s.enter(ctx, c)
	if res != nil || f != nil {
		return res, f
	}
	defer l.server.Leave()
	s.sending(&c.Message)
	if f := l.server.Send(ctx, c.Body, &c.Message); f != nil {
		return nil, f
	}
	return mcp.Accepted(), nil
}

// notifyInitialized takes notifications/initialized. A process that is there is told so, another one when it starts.
func (s *session) notifyInitialized(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	s.mu.Lock()
	isFirst := !s.initialized
	s.initialized = true
	has := s.hasProcessLocked()
	s.mu.Unlock()
	s.f.opts.Store.saver.Changed()
	if !has {
		return mcp.Accepted(), nil
	}
	l, res, f := s.enter(ctx, c)
	if res != nil || f != nil {
		return res, f
	}
	defer l.server.Leave()
	s.mu.Lock()
	told := l.told
	l.told = true
	s.mu.Unlock()
	if isFirst && told {
		return mcp.Accepted(), nil // meanwhile: it has just started
	}
	if f := l.server.Send(ctx, c.Body, &c.Message); f != nil {
		return nil, f
	}
	own, cancel := context.WithTimeout(s.f.base, recoveryTime) // an agent that leaves now needs the comparison as well
	defer cancel()
	s.confirm(own, l)
	return mcp.Accepted(), nil
}

// cancel passes on the cancellation of a call, under the id that the process knows. One of a call that waits for its process, or to be
// written, ends the wait: it is never sent. One that names no call has nothing to do any more.
func (s *session) cancel(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	id := c.Message.RequestID.Of(c.Body)
	s.mu.Lock()
	i := slices.IndexFunc(s.calls, func(one *call) bool { return mcp.SameID(one.id, id) })
	if i < 0 {
		s.stopWaitingLocked(id)
		s.mu.Unlock()
		return mcp.Accepted(), nil
	}
	one := s.calls[i]
	l, isFirst, waited := one.l, !one.cancelled, time.Since(one.begun)
	one.cancelled = true
	one.timer.Reset(afterCancel)
	s.mu.Unlock()
	one.stop(cancelled(mcp.SentNo))
	<-one.sent // at once
	s.mu.Lock()
	own, isOver := one.own, one.answered
	s.mu.Unlock()
	if isOver || own == nil { // it was never sent, or has its answer, or the process does not have it and never will
		return mcp.Accepted(), nil
	}
	if isFirst {
		defer l.server.GaveUp(own, waited) // after the server was told
	}
	m := c.Message
	body := m.Splice(nil, c.Body, m.RequestID, own)
	if f := l.server.Send(ctx, body, &m); f != nil {
		return nil, f
	}
	return mcp.Accepted(), nil
}
