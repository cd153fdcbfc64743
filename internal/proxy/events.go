package proxy

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// linger is how long bytes wait for company before they leave: the head of a stream for its first event, the last event
// for the end of the stream. Each saves a system call here and a wake-up at the agent.
const linger = time.Millisecond

// comment keeps a quiet stream alive through whatever stands between; clients do not see it (WHATWG, server-sent events).
var comment = []byte(":\n\n")

// answerEvents relays a stream of events, each flushed as it comes.
func (x *exchange) answerEvents(res *mcp.Result) {
	h := x.w.Header()
	h["X-Accel-Buffering"] = noBuffers
	noTransform(h)
	delete(h, "Content-Length")
	x.serverTiming(h, res.Timing)
	x.w.WriteHeader(res.Status)

	ew := newEventWriter(x)
	defer ew.stop()
	r := relay{x: x, out: ew, legacy: x.call.Era == mcp.EraLegacy}
	r.run(res.Events)
}

// noTransform asks intermediaries to leave the stream as it is.
func noTransform(h http.Header) {
	const name = "Cache-Control"
	values := h[name]
	if len(values) == 1 && values[0] == "no-cache, no-transform" {
		return
	}
	for _, v := range values {
		if containsToken(v, "no-transform") {
			return
		}
	}
	h[name] = append(values[:len(values):len(values)], "no-transform")
}

// relay is the state of one stream on its way to the agent.
type relay struct {
	x        *exchange
	out      *eventWriter
	legacy   bool
	answered bool // the response to the call has passed
	unread   bool // it came in pieces: nobody knows what it was
	withID   bool // an event id has passed: a legacy client can resume
	inside   bool // the last piece was one of an event that goes on: nothing but the rest of it may follow
}

// run passes events on until the stream ends, and ends it the way design/wire.md says under "Streams".
func (r *relay) run(events mcp.Events) {
	for {
		ev, err := events.Next()
		if err != nil {
			r.end(err)
			return
		}
		if ev.Failure != nil {
			if r.inside {
				r.end(ev.Failure)
				return
			}
			r.out.message(r.x.errorMessage(ev.Failure, ev.FailedID))
			continue
		}
		r.take(ev)
		if r.out.event(ev) != nil {
			r.x.note(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes})
			return
		}
	}
}

// take notes what an event says of the stream. Of one that came in pieces nobody knows what it says.
func (r *relay) take(ev mcp.Event) {
	if len(ev.ID) > 0 {
		r.withID = true
	}
	if ev.Answer {
		r.answered, r.unread = true, ev.Last
		if r.x.outcome = outcomeOK; !r.inside {
			r.x.outcome = outcomeOfMessage(ev.Message.Kind)
			r.x.noteResult(ev.Data, &ev.Message)
		}
	}
	r.inside = ev.Partial
}

// end finishes the agent's stream. A call that got no answer gets an error as its last event, unless its client can
// resume: TypeScript clients would wait a minute for a response after a mere close.
func (r *relay) end(err error) {
	x := r.x
	lane := x.call.Lane
	var f *mcp.Failure
	if isEOF(err) {
		f = &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes,
			Message: "the server's stream ended without a response",
		}
	} else {
		f = x.withReason(x.r.Context(), err)
	}
	switch {
	case f.Reason == mcp.ReasonCanceled:
		x.note(f)
	case r.inside:
		// Whatever followed, an end too, would be taken for the rest of the event.
		x.note(f)
		x.abort()
	case lane == mcp.LaneStream:
		// Clean or not, the end of a GET stream is an end: its client opens another. The stage behind has tried.
		if !isEOF(err) {
			x.note(f)
		}
	case lane == mcp.LaneListen && f.Reason == mcp.ReasonDraining:
		x.note(f)
	case r.unread && !isEOF(err):
		// What came in pieces need not have been the answer.
		x.note(f)
		x.abort()
	case r.answered || isEOF(err) && lane != mcp.LaneRequest && lane != mcp.LaneListen:
	case isEOF(err) && x.status == http.StatusAccepted: // the answer comes elsewhere
	case r.legacy && r.withID && f.Reason == mcp.ReasonBrokeOff:
		x.outcome = outcomeResumable
	case lane != mcp.LaneRequest && lane != mcp.LaneListen:
		// No call of which the daemon could name the id: a break stays a break.
		x.note(f)
		x.abort()
	default:
		x.note(f)
		r.out.message(x.errorMessage(f, x.call.ID()))
	}
}

// eventWriter writes events to the agent, and comments when there are none. Its timer runs in a goroutine of its own, so
// all writing is under mu.
type eventWriter struct {
	x       *exchange
	flusher *http.ResponseController
	timer   *time.Timer
	every   time.Duration // how long a stream may be quiet
	started atomic.Int64  // when the write that is going on began, in Unix nanoseconds; 0 between writes

	mu     sync.Mutex
	dirty  bool      // written, or the head, and not flushed
	inside bool      // the rest of an event is to come: no comment may stand in it
	last   time.Time // of the last write
	done   bool
	err    error
}

func newEventWriter(x *exchange) *eventWriter {
	w := &eventWriter{
		x: x, flusher: http.NewResponseController(x.w), every: x.door.opts.KeepAlive, dirty: true, last: time.Now(),
	}
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Reset(linger) // only now: tick uses the timer
	return w
}

// tick flushes what has waited, or writes a comment into a stream that was quiet, and breaks a write off that an agent
// does not read.
func (w *eventWriter) tick() {
	if !w.mu.TryLock() {
		const soon = 20 * time.Millisecond
		if t := w.started.Load(); t != 0 && time.Since(time.Unix(0, t)) > writeTimeout {
			w.x.setWriteDeadline(time.Now())
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
	w.begin()
	// Nobody watches this write, so it has a deadline.
	w.x.setWriteDeadline(w.last.Add(writeTimeout))
	if !w.dirty {
		w.put(comment)
	}
	w.flush()
	w.x.setWriteDeadline(time.Time{})
	w.started.Store(0)
	w.timer.Reset(w.every)
}

// event writes one event, or a piece of one. It is flushed unless another one is already there, or it is the answer and the end of the
// stream is about to take it along.
func (w *eventWriter) event(ev mcp.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin()
	w.put(ev.Raw)
	w.inside = ev.Partial
	switch {
	case ev.More:
	case ev.Answer:
		w.timer.Reset(linger)
	default:
		w.flush()
	}
	w.started.Store(0)
	return w.err
}

// message writes a JSON-RPC message of the daemon's own as an event.
func (w *eventWriter) message(body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begin()
	w.put(append(append([]byte("event: message\ndata: "), body...), "\n\n"...))
	w.flush()
	w.started.Store(0)
}

func (w *eventWriter) begin() {
	w.last = time.Now()
	w.started.Store(w.last.UnixNano())
}

// put writes in pieces: the bound is on an agent that does not read, not on one that reads slowly.
func (w *eventWriter) put(b []byte) {
	const piece = 64 << 10
	for w.err == nil && len(b) > 0 {
		n := min(len(b), piece)
		w.err = w.x.write(b[:n])
		w.dirty = true
		if b = b[n:]; len(b) > 0 {
			w.begin()
		}
	}
}

func (w *eventWriter) flush() {
	if w.err == nil && w.dirty {
		w.err = w.flusher.Flush()
		w.dirty = false
	}
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
