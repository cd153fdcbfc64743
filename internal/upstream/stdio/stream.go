package stdio

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// stream is an exchange as events.
type stream struct {
	x        *exchange
	ctx      context.Context
	first    message
	hasFirst bool
	more     bool
	comments int       // that are to come before the first message
	deadline time.Time // of the first message; zero: it has come, or there is no bound
	answered bool
}

func (s *stream) result() *mcp.Result {
	return &mcp.Result{
		Status: http.StatusOK,
		Header: header.List{{Name: "Content-Type", Value: "text/event-stream"}, {Name: "Cache-Control", Value: "no-cache, no-transform"}},
		Events: s, Timing: mcp.Timing{Upstream: time.Since(s.x.begun)},
	}
}

// Next returns the next event.
func (s *stream) Next() (mcp.Event, error) {
	switch {
	case s.hasFirst:
		s.hasFirst = false
		return s.event(s.first, s.more), nil
	case s.answered:
		return mcp.Event{}, io.EOF
	}
	x := s.x
	comment := s.commentTimer()
	defer comment.Stop()
	limit := x.limit.next
	if !s.deadline.IsZero() {
		limit = max(time.Until(s.deadline), 1)
	}
	bound := boundOf(limit)
	defer bound.Stop()
	since := x.calls.lease.Received()
	for {
		msg, ok, more, over, f := x.next()
		if ok {
			s.deadline, s.comments = time.Time{}, 0
			return s.event(msg, more), nil
		}
		if over {
			return mcp.Event{}, s.over(f)
		}
		select {
		case <-x.more:
		case <-comment.C:
			s.comments--
			return mcp.Event{Raw: []byte(":\n\n")}, nil
		case <-bound.C:
			return mcp.Event{}, s.late(limit, since)
		case <-s.ctx.Done():
			return mcp.Event{}, x.left(s.ctx)
		}
	}
}

// commentTimer fires when a comment is to be sent; it never does once something has come.
func (s *stream) commentTimer() *time.Timer {
	switch s.comments {
	case 0:
		return boundOf(0)
	case 1:
		return time.NewTimer(commentAgain)
	}
	return time.NewTimer(0)
}

// over is how a stream ends that got no answer: a listen just so, since its subscription is gone with the process and there
// is no result.
func (s *stream) over(f *mcp.Failure) error {
	x := s.x
	if f == nil || x.call.Lane == mcp.LaneListen {
		x.finish(x.overflow)
		s.answered = true
		return io.EOF
	}
	x.finish(false)
	return x.endedWith(f)
}

// late ends a stream on which nothing came for too long; since is Lease.Received from when that wait began.
func (s *stream) late(after time.Duration, since uint64) *mcp.Failure {
	x := s.x
	f := x.late(x.limit.first)
	if s.deadline.IsZero() {
		f.Silent = x.calls.lease.Received() == since
		f.Reason, f.Message = mcp.ReasonIdle, "the server stopped in the middle of its answer for "+after.String()
	}
	x.calls.lease.Check(x.own)
	x.finish(true)
	return f
}

// event is a message as an event.
func (s *stream) event(msg message, more bool) mcp.Event {
	ev := mcp.Event{Raw: eventOf(msg.data), Data: msg.data, Message: msg.m, More: more}
	if msg.m.Kind.IsAnswer() {
		ev.Answer, s.answered = true, true
		ev.Message.Loose = ev.Message.Loose || !s.x.call.Answers(msg.data, &msg.m)
		ev.Exact = !ev.Message.Loose
		s.x.finish(false)
	}
	return ev
}

// eventOf writes a message, which is one line, as an SSE event.
func eventOf(data []byte) []byte {
	return bytes.Join([][]byte{[]byte("event: message\ndata: "), data, []byte("\n\n")}, nil)
}

// Close ends the stream: for the server that is a cancellation.
func (s *stream) Close() error {
	if s.answered {
		s.x.finish(false)
	} else {
		s.x.leave()
	}
	return nil
}
