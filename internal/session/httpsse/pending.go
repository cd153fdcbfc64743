package httpsse

import (
	"bytes"
	"context"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// pendingCall is a request that the server has, or may have, and has not answered.
type pendingCall struct {
	id    []byte
	call  mcp.Call // without its body, which may be large and is not wanted again
	sent  mcp.Sent
	timer *time.Timer // nil until the server has accepted the call
}

// failed is the event that gives the call a failure in the place of its answer.
func (p *pendingCall) failed(f *mcp.Failure) mcp.Event { return mcp.Event{Failure: f, FailedID: p.id} }

// cancelTimeout bounds the notification to a server that nobody waits for a call any more.
const cancelTimeout = 5 * time.Second

// expect notes a request before it is sent: its answer may come before the server's 202. It returns nil for what has no
// answer, and for an id that is in flight already, whose two calls cannot be told apart.
func (s *stream) expect(c *mcp.Call) (*pendingCall, *mcp.Failure) {
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
	if slices.ContainsFunc(s.pending, func(p *pendingCall) bool { return bytes.Equal(p.id, c.ID()) }) {
		return nil, nil
	}
	p := &pendingCall{id: bytes.Clone(c.ID()), call: *c, sent: mcp.SentUnknown}
	p.call.Body = nil
	s.pending = append(s.pending, p)
	return p, nil
}

// forget takes a call off the list that the server did not accept: its failure is the answer to the POST.
func (s *stream) forget(p *pendingCall) {
	if p == nil {
		return
	}
	s.mu.Lock()
	s.removeLocked(p)
	s.mu.Unlock()
	s.wake()
}

// accepted starts the clock of a call that the server took, unless its answer has come already.
func (s *stream) accepted(p *pendingCall) {
	if p == nil {
		return
	}
	limit := s.stage.opts.FirstByte
	switch m := p.call.Method(); {
	case m.Unhurried():
		limit = s.stage.opts.Call
	case m.Handshake():
		limit = s.stage.opts.Handshake
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.sent = mcp.SentYes
	if !slices.Contains(s.pending, p) {
		return
	}
	s.late.Add(1)
	p.timer = time.AfterFunc(limit, func() {
		defer s.late.Done()
		s.expire(p)
	})
}

// answered takes the call off the list that an event answers, if it does.
func (s *stream) answered(ev mcp.Event) {
	if len(ev.Data) == 0 || len(ev.Name) > 0 && string(ev.Name) != "message" {
		return
	}
	var m mcp.Message
	if mcp.Scan(ev.Data, &m) != nil {
		return
	}
	s.mu.Lock()
	if m.Kind == mcp.KindBatch {
		mcp.EachMessage(ev.Data, s.answeredLocked)
	} else {
		s.answeredLocked(ev.Data, &m)
	}
	s.mu.Unlock()
	s.wake()
}

// answeredLocked takes the call off the list that a message answers, if it is an answer. An id of another type will do, where
// there is no better.
func (s *stream) answeredLocked(data []byte, m *mcp.Message) {
	if !m.Kind.IsAnswer() {
		return
	}
	id := m.ID.Of(data)
	for _, same := range []func(a, b []byte) bool{bytes.Equal, mcp.SameID, mcp.AlikeID} {
		i := slices.IndexFunc(s.pending, func(p *pendingCall) bool { return same(p.id, id) })
		if i >= 0 {
			s.removeLocked(s.pending[i])
			return
		}
	}
}

// removeLocked takes a call off the list, and reports whether it was there.
func (s *stream) removeLocked(p *pendingCall) bool {
	i := slices.Index(s.pending, p)
	if i < 0 {
		return false
	}
	s.pending = slices.Delete(s.pending, i, i+1)
	s.stopLocked(p)
	return true
}

// stopLocked stops the clock of a call, if it runs.
func (s *stream) stopLocked(p *pendingCall) {
	if p.timer != nil && p.timer.Stop() {
		s.late.Done()
	}
}

// expire gives up a call that was not answered in time, and tells the server so.
func (s *stream) expire(p *pendingCall) {
	s.mu.Lock()
	waits := s.removeLocked(p)
	if waits {
		s.failures = append(s.failures, p.failed(lateAnswer(p)))
	}
	s.mu.Unlock()
	if waits {
		s.wake()
		s.notifyCancelled(p)
	}
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

// notifyCancelled sends notifications/cancelled (2024-11-05, basic/utilities/cancellation); initialize must not be
// cancelled.
func (s *stream) notifyCancelled(p *pendingCall) {
	if p.call.Method() == mcp.MethodInitialize {
		return
	}
	body := append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), p.id...)
	body = append(body, `,"reason":"timed out"}}`...)
	c := p.call
	c.Body, c.Target = body, s.target.Load()
	if err := mcp.Scan(body, &c.Message); err != nil {
		panic("httpsse: a notification of the daemon's own is no JSON-RPC (this is a bug): " + err.Error())
	}
	ctx, cancel := context.WithTimeout(s.ctx, cancelTimeout)
	defer cancel()
	res, err := s.stage.opts.Next.Call(ctx, &c)
	if err != nil {
		s.stage.opts.Log.Debug("could not tell the server of a cancelled call", "upstream", s.stage.opts.Upstream, "error", err)
		return
	}
	s.stage.discard(res)
}
