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
	id       []byte
	call     mcp.Call // without its body, which may be large and is not wanted again
	sent     mcp.Sent
	deadline time.Time // of its answer; zero until the server has accepted the call
}

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
	case s.ending != nil:
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

// posted notes whether the server took a call, nil for what has no answer. One that it took is to be answered in time, unless it
// has been already; for one that it did not take, the answer to the POST is the answer.
func (s *stream) posted(p *pendingCall, taken bool) {
	if p == nil {
		return
	}
	s.mu.Lock()
	if taken {
		p.sent, p.deadline = mcp.SentYes, time.Now().Add(s.stage.limitOf(p.call.Method()))
	} else {
		s.removeLocked(p)
	}
	s.mu.Unlock()
	s.wake()
}

// limitOf is how long the answer to a method may take.
func (s *Stage) limitOf(m mcp.Method) time.Duration {
	switch {
	case m.Unhurried():
		return s.opts.Call
	case m.Handshake():
		return s.opts.Handshake
	}
	return s.opts.FirstByte
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
	defer s.mu.Unlock()
	if m.Kind == mcp.KindBatch {
		mcp.EachMessage(ev.Data, s.answeredLocked)
		return
	}
	s.answeredLocked(ev.Data, &m)
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

func (s *stream) removeLocked(p *pendingCall) {
	s.pending = slices.DeleteFunc(s.pending, func(q *pendingCall) bool { return p == q })
}

// nextFailure takes the first call off the list that will get no answer, and returns the event that tells its agent so: the
// stream has ended, or the server is late with it and is told.
func (s *stream) nextFailure() (mcp.Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.pending {
		var f mcp.Failure
		switch {
		case s.ending != nil:
			f = *s.failure
			f.Sent = p.sent
		case !p.deadline.IsZero() && !time.Now().Before(p.deadline):
			f = lateAnswer(p)
			s.cancels.Go(func() { s.notifyCancelled(p) })
		default:
			continue
		}
		s.pending = slices.Delete(s.pending, i, i+1)
		return mcp.Event{Failure: &f, FailedID: p.id}, true
	}
	return mcp.Event{}, false
}

// untilLate is how long the reader may wait before it looks for a call whose answer is late.
func (s *stream) untilLate() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := s.stage.opts.Call
	for _, p := range s.pending {
		if !p.deadline.IsZero() {
			wait = min(wait, time.Until(p.deadline))
		}
	}
	return wait
}

func lateAnswer(p *pendingCall) mcp.Failure {
	reason := mcp.ReasonFirstByte
	if p.call.Method().Unhurried() {
		reason = mcp.ReasonCallTimeout
	}
	return mcp.Failure{
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
