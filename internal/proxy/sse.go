package proxy

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"fluentd-perf/internal/mcp"
)

// answerEvents relays a stream of events, each flushed as it comes.
func (q *request) answerEvents(res *mcp.Result) {
	h := q.w.Header()
	h["X-Accel-Buffering"] = noBuffering
	noTransform(h)
	delete(h, "Content-Length")
	q.serverTiming()
	q.w.WriteHeader(res.Status)

	out := newOutput(q, false)
	defer out.stop()
	s := eventStream{q: q, out: out}
	s.relay(res.Events)
}

var (
	noBuffering      = []string{"no"}
	noTransformValue = []string{"no-transform"}
)

// noTransform asks intermediaries to leave the stream as it is.
func noTransform(h http.Header) {
	const name = "Cache-Control"
	said := func(v string) bool { return strings.Contains(strings.ToLower(v), "no-transform") }
	if !slices.ContainsFunc(h[name], said) {
		addValues(h, name, noTransformValue)
	}
}

// eventStream is the state of one stream on its way to the agent.
type eventStream struct {
	q        *request
	out      *output
	answered bool // the response to the call has passed
	unread   bool // it came in pieces: nobody knows what it was
	withID   bool // an event id has passed: a legacy client can resume
	inside   bool // the last piece was one of an event that goes on: nothing but the rest of it may follow
}

// relay passes events on until the stream ends, and ends it the way docs/design.md says under "Streams to agents".
func (s *eventStream) relay(events mcp.Events) {
	for {
		ev, err := events.Next()
		switch {
		case err != nil:
			s.end(err)
			return
		case ev.Failure != nil && s.inside:
			s.end(ev.Failure)
			return
		case ev.Failure != nil:
			ev = s.q.errorEvent(ev.Failure, ev.FailedID)
		default:
			s.note(ev)
		}
		if s.out.event(ev) != nil {
			s.q.noteAgentLeft()
			return
		}
	}
}

// note keeps what an event says of the stream. Of one that came in pieces nobody knows what it says.
func (s *eventStream) note(ev mcp.Event) {
	if len(ev.ID) > 0 {
		s.withID = true
	}
	if ev.Answer {
		s.answered, s.unread = true, ev.Last
		if s.q.outcome = outcomeOK; !s.inside {
			s.q.outcome = outcomeOfMessage(ev.Message.Kind)
			s.q.noteResult(ev.Data, &ev.Message)
		}
	}
	s.inside = ev.Partial
}

// end finishes the agent's stream. A call that got no answer gets an error as its last event, unless its client can
// resume: TypeScript clients would wait a minute for a response after a mere close.
func (s *eventStream) end(err error) {
	q, lane, clean := s.q, s.q.call.Lane, err == io.EOF
	f := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "the server's stream ended without a response",
	}
	if !clean {
		f = failureOf(q.in.Context(), err)
	}
	switch {
	case f.Reason == mcp.ReasonCanceled:
		q.note(f)
	case s.inside:
		q.breakOff(f) // whatever followed, an end too, would be taken for the rest of the event
	case lane == mcp.LaneStream && !clean: // an end all the same: its client opens another. The stage behind has tried
		q.note(f)
	case lane == mcp.LaneListen && f.Reason == mcp.ReasonDraining:
		q.note(f)
	case s.unread && !clean:
		q.breakOff(f) // what came in pieces need not have been the answer
	case s.answered, clean && !isRequest(lane):
	case clean && q.status == http.StatusAccepted: // the answer comes elsewhere
	case q.call.Era == mcp.EraLegacy && s.withID && f.Reason == mcp.ReasonBrokeOff:
		q.outcome = outcomeResumable
	case !isRequest(lane):
		q.breakOff(f) // no call of which the daemon could name the id: a break stays a break
	default:
		q.note(f)
		_ = s.out.event(q.errorEvent(f, q.call.ID())) // an agent that has left reads nothing
	}
}

// errorEvent makes an event of the daemon's own of a failure.
func (q *request) errorEvent(f *mcp.Failure, id []byte) mcp.Event {
	return mcp.Event{Raw: slices.Concat([]byte("event: message\ndata: "), q.errorMessage(f, id), []byte("\n\n"))}
}
