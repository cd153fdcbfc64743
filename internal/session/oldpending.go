package session

import (
	"bytes"
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// cancelTimeout bounds the telling of a server that nobody waits for a call any more.
const cancelTimeout = 5 * time.Second

// expect notes a request before it is sent: its answer may come before the server's 202. It returns nil for what has no
// answer, and for an id that is in flight already, whose two calls cannot be told apart.
func (s *oldSession) expect(c *mcp.Call) (*pendingCall, *mcp.Failure) {
	if c.Message.Kind != mcp.KindRequest {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining && len(s.pending) == 0: // the stream is about to end
		return nil, mcp.Draining()
	case s.closed:
		return nil, &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentNo, Message: "the stream for the answer has ended",
		}
	}
	if len(s.pending) >= maxPending {
		return nil, &mcp.Failure{
			Code: mcp.CodeOverloaded, Reason: mcp.ReasonTooManyCalls, Sent: mcp.SentNo, RetryAfter: time.Second,
			Message: "too many calls of this session wait for an answer",
		}
	}
	id := bytes.Clone(c.ID())
	if _, twice := s.pending[string(id)]; twice {
		return nil, nil
	}
	s.seq++
	p := &pendingCall{seq: s.seq, id: id, call: *c, sent: mcp.SentUnknown}
	p.call.Body = nil
	s.pending[string(id)] = p
	return p, nil
}

// forget takes a call back that the server did not accept: its failure is told on the POST.
func (s *oldSession) forget(p *pendingCall) {
	if p == nil {
		return
	}
	s.mu.Lock()
	if s.pending[string(p.id)] == p {
		s.removeLocked(p)
	}
	s.mu.Unlock()
	s.wake()
}

// accepted starts the clock of a call that the server took, unless its answer has come already.
func (s *oldSession) accepted(p *pendingCall) {
	if p == nil {
		return
	}
	limit := s.old.opts.FirstByte
	switch m := p.call.Method(); {
	case m.Unhurried():
		limit = s.old.opts.Call
	case m.Handshake():
		limit = s.old.opts.Handshake
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.sent = mcp.SentYes
	if s.pending[string(p.id)] != p {
		return
	}
	s.late.Add(1)
	p.timer = time.AfterFunc(limit, func() {
		defer s.late.Done()
		s.expire(p)
	})
}

// settle takes the answered call off the list.
func (s *oldSession) settle(ev mcp.Event) {
	if len(ev.Data) == 0 || len(ev.Name) > 0 && string(ev.Name) != "message" {
		return
	}
	var m mcp.Message
	if mcp.Scan(ev.Data, &m) != nil {
		return
	}
	s.mu.Lock()
	if m.Kind == mcp.KindBatch {
		each(ev.Data, s.settleLocked)
	} else {
		s.settleLocked(ev.Data, &m)
	}
	s.mu.Unlock()
	s.wake()
}

// settleLocked takes the call off the list that a message answers, if it is an answer.
func (s *oldSession) settleLocked(data []byte, m *mcp.Message) {
	if !isAnswer(m) {
		return
	}
	if p := s.findLocked(m.ID.Of(data)); p != nil {
		s.removeLocked(p)
	}
}

func (s *oldSession) findLocked(id []byte) *pendingCall {
	if p := s.pending[string(id)]; p != nil {
		return p
	}
	var alike *pendingCall
	for _, p := range s.pending {
		switch {
		case mcp.SameID(p.id, id):
			return p
		case mcp.AlikeID(p.id, id):
			alike = p
		}
	}
	return alike
}

// removeLocked takes a call off the list; the caller holds mu.
func (s *oldSession) removeLocked(p *pendingCall) {
	delete(s.pending, string(p.id))
	if p.timer != nil && p.timer.Stop() {
		s.late.Done()
	}
}

// expire gives a call up that was not answered in time, and tells the server so.
func (s *oldSession) expire(p *pendingCall) {
	s.mu.Lock()
	if s.pending[string(p.id)] != p {
		s.mu.Unlock()
		return
	}
	delete(s.pending, string(p.id))
	s.failures = append(s.failures, failedCall{p.id, lateAnswer(p)})
	s.mu.Unlock()
	s.wake()
	s.tellCancelled(p)
}

func lateAnswer(p *pendingCall) *mcp.Failure {
	reason := mcp.ReasonFirstByte
	if p.call.Method().Unhurried() {
		reason = mcp.ReasonCallTimeout
	}
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: reason, Sent: p.sent, Message: "the server did not answer in time",
	}
}

// tellCancelled sends notifications/cancelled (2024-11-05, basic/utilities/cancellation); initialize must not be
// cancelled.
func (s *oldSession) tellCancelled(p *pendingCall) {
	if p.call.Method() == mcp.MethodInitialize {
		return
	}
	body := append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), p.id...)
	body = append(body, `,"reason":"timed out"}}`...)
	c := p.call
	c.Body, c.Target = body, s.target.Load()
	if err := mcp.Scan(body, &c.Message); err != nil {
		panic("session: a notification of our own is no JSON-RPC (this is a bug): " + err.Error())
	}
	ctx, cancel := context.WithTimeout(s.ctx, cancelTimeout)
	defer cancel()
	res, err := s.old.opts.Next.Call(ctx, &c)
	if err != nil {
		s.old.opts.Log.Debug("could not tell the server of a cancelled call", "upstream", s.old.opts.Upstream, "error", err)
		return
	}
	s.old.close(res)
}
