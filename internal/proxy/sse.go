package proxy

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// flushDelay is how long bytes wait for others before they leave: the head of a stream for its first event, the last event
// for the end of the stream. Each saves a system call here and a wake-up at the agent.
const flushDelay = time.Millisecond

// comment keeps a quiet stream alive through whatever stands between; clients do not see it (WHATWG, server-sent events).
var comment = []byte(":\n\n")

// answerEvents relays a stream of events, each flushed as it comes.
func (q *request) answerEvents(res *mcp.Result) {
	h := q.w.Header()
	h["X-Accel-Buffering"] = noBuffering
	noTransform(h)
	delete(h, "Content-Length")
	q.serverTiming(h)
	q.w.WriteHeader(res.Status)

	out := newEventWriter(q)
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
	for _, v := range h[name] {
		if v == "no-cache, no-transform" || containsToken(v, "no-transform") {
			return
		}
	}
	addValues(h, name, noTransformValue)
}

// eventStream is the state of one stream on its way to the agent.
type eventStream struct {
	q        *request
	out      *eventWriter
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
	q, lane, clean := s.q, s.q.call.Lane, isEOF(err)
	f := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "the server's stream ended without a response",
	}
	if !clean {
		f = withReason(q.in.Context(), err)
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

// eventWriter writes events to the agent, and comments when there are none. Its timer runs in a goroutine of its own.
type eventWriter struct {
	q       *request
	flusher *http.ResponseController
	timer   *time.Timer
	every   time.Duration // how long a stream may be quiet
	started atomic.Int64  // when the write that is going on began, in Unix nanoseconds; 0 between writes

	mu     sync.Mutex // guards the following, and every write to q.w
	dirty  bool       // written, or the head, and not flushed
	inside bool       // the rest of an event is to come: no comment may stand in it
	last   time.Time  // of the last write
	done   bool
	err    error
}

func newEventWriter(q *request) *eventWriter {
	w := &eventWriter{
		q: q, flusher: http.NewResponseController(q.w), every: q.handler.opts.KeepAlive, dirty: true, last: time.Now(),
	}
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Reset(flushDelay) // only now: tick uses the timer
	return w
}

// tick flushes what has waited, or writes a comment into a stream that was quiet, and breaks a write off that an agent
// does not read.
func (w *eventWriter) tick() {
	if !w.mu.TryLock() {
		const soon = 20 * time.Millisecond
		if t := w.started.Load(); t != 0 && time.Since(time.Unix(0, t)) > writeTimeout {
			w.q.setWriteDeadline(time.Now())
		}
		// Soon, not after a quiet time: the writer may have asked for a flush just before this Reset.
		w.timer.Reset(soon)
		return
	}
	defer w.mu.Unlock()
	if w.done || w.err != nil {
		return
	}
	if quiet := time.Since(w.last); !w.dirty && (w.inside || quiet < w.every) {
		w.timer.Reset(w.every - quiet%w.every)
		return
	}
	w.q.setWriteDeadline(time.Now().Add(writeTimeout)) // nobody watches this write
	var b []byte
	if !w.dirty {
		b = comment
	}
	w.writeLocked(b, true)
	w.q.setWriteDeadline(time.Time{})
	w.timer.Reset(w.every)
}

// event writes one event, or a piece of one. It is flushed unless another one is already there, or it is the answer, which
// the end of the stream is about to flush.
func (w *eventWriter) event(ev mcp.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inside = ev.Partial
	w.writeLocked(ev.Raw, !ev.More && !ev.Answer)
	if ev.Answer && !ev.More {
		w.timer.Reset(flushDelay)
	}
	return w.err
}

// writeLocked writes in pieces, since the bound is on an agent that does not read, not on one that reads slowly. Then it flushes,
// if that is asked for.
func (w *eventWriter) writeLocked(b []byte, flush bool) {
	const piece = 64 << 10
	w.beginLocked()
	for w.err == nil && len(b) > 0 {
		n := min(len(b), piece)
		w.err = w.q.write(b[:n])
		w.dirty = true
		if b = b[n:]; len(b) > 0 {
			w.beginLocked()
		}
	}
	if flush && w.err == nil && w.dirty {
		w.err = w.flusher.Flush()
		w.dirty = false
	}
	w.started.Store(0)
}

func (w *eventWriter) beginLocked() {
	w.last = time.Now()
	w.started.Store(w.last.UnixNano())
}

// stop ends the timer. Nothing is written after it.
func (w *eventWriter) stop() {
	w.mu.Lock()
	w.done = true
	w.timer.Stop()
	w.mu.Unlock()
}

// isEOF reports a clean end. A failure that wraps an EOF is none.
func isEOF(err error) bool { return err == io.EOF }
