package proxy

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	// writeTimeout bounds one write to an agent that does not read, where an upstream's connection waits behind it.
	writeTimeout = time.Minute

	// flushDelay is how long bytes wait for others before they leave: the head of a stream for its first event, the last event
	// for the end of the stream. Each saves a system call here and a wake-up at the agent.
	flushDelay = time.Millisecond

	// keepAlive is how long a stream of events may be quiet.
	keepAlive = 15 * time.Second
)

// comment keeps a quiet stream alive through whatever stands between; clients do not see it (WHATWG, server-sent events).
var comment = []byte(":\n\n")

// output writes to the agent what comes bit by bit, or is large: events, and comments when there are none, or the pieces of a
// body. An agent that does not read ends it. Its timer runs in a goroutine of its own.
type output struct {
	q       *request
	control *http.ResponseController
	timer   *time.Timer
	started atomic.Int64 // when the write that is going on began, in Unix nanoseconds; 0 between writes

	mu     sync.Mutex // guards the following, and every write to q.w
	dirty  bool       // written, or the head, and not flushed
	inside bool       // the rest of an event or of a body is to come: no comment may stand in it
	last   time.Time  // of the last write
	done   bool
	err    error
}

// newOutput begins an answer of which the head is written. inside says that it is a body, which has no comments.
func newOutput(q *request, inside bool) *output {
	o := &output{q: q, control: http.NewResponseController(q.w), dirty: true, inside: inside, last: time.Now()}
	o.timer = time.AfterFunc(time.Hour, o.tick)
	o.timer.Reset(flushDelay) // only now: tick uses the timer
	return o
}

// tick flushes what has waited, or writes a comment into a stream that was quiet, and breaks a write off that an agent
// does not read.
func (o *output) tick() {
	if !o.mu.TryLock() {
		const soon = 20 * time.Millisecond
		if t := o.started.Load(); t != 0 && time.Since(time.Unix(0, t)) > writeTimeout {
			setWriteDeadline(o.control, time.Now())
		}
		// Soon, not after a quiet time: the writer may have asked for a flush just before this Reset.
		o.timer.Reset(soon)
		return
	}
	defer o.mu.Unlock()
	if o.done || o.err != nil {
		return
	}
	if quiet := time.Since(o.last); !o.dirty && (o.inside || quiet < keepAlive) {
		o.timer.Reset(keepAlive - quiet%keepAlive)
		return
	}
	setWriteDeadline(o.control, time.Now().Add(writeTimeout)) // nobody watches this write
	var b []byte
	if !o.dirty {
		b = comment
	}
	o.writeLocked(b, true)
	setWriteDeadline(o.control, time.Time{})
	o.timer.Reset(keepAlive)
}

// event writes one event, or a piece of one. It is flushed unless another one is already there, or it is the answer, which
// the end of the stream is about to flush.
func (o *output) event(ev mcp.Event) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inside = ev.Partial
	o.writeLocked(ev.Raw, !ev.More && !ev.Answer)
	if ev.Answer && !ev.More {
		o.timer.Reset(flushDelay)
	}
	return o.err
}

// piece writes a piece of a body, and flushes it.
func (o *output) piece(b []byte) error { return o.event(mcp.Event{Raw: b, Partial: true}) }

// writeLocked writes in pieces, since the bound is on an agent that does not read, not on one that reads slowly. Then it flushes,
// if that is asked for.
func (o *output) writeLocked(b []byte, flush bool) {
	const piece = 256 << 10
	o.beginLocked()
	for o.err == nil && len(b) > 0 {
		n := min(len(b), piece)
		o.err = o.q.write(b[:n])
		o.dirty = true
		if b = b[n:]; len(b) > 0 {
			o.beginLocked()
		}
	}
	if flush && o.err == nil && o.dirty {
		o.err = o.control.Flush()
		o.dirty = false
	}
	o.started.Store(0)
}

func (o *output) beginLocked() {
	o.last = time.Now()
	o.started.Store(o.last.UnixNano())
}

// stop ends the timer. Nothing is written after it.
func (o *output) stop() {
	o.mu.Lock()
	o.done = true
	o.timer.Stop()
	o.mu.Unlock()
}

func setWriteDeadline(c *http.ResponseController, t time.Time) {
	// A recorder in a test has no deadlines, and a connection that is gone is found out by the next write.
	_ = c.SetWriteDeadline(t)
}
