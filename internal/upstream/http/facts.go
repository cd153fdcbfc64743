package http

import (
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// facts is what is known of how far a call came. Times are counted from the exchange's start. Reading the clock costs as
// much as much else here, so one reading serves where the next would be a few microseconds later.
type facts struct {
	queue          time.Duration // waited for a slot
	connect        time.Duration // waited for new connections
	asked          time.Duration // since when a connection is looked for; below 0: none is
	answeredBefore bool          // the server began to answer an earlier sending, by a redirect

	// Of this sending.
	conn  bool         // it has a connection, and may have written to it
	head  bool         // the answer's head came
	wrote atomic.Int64 // when the request was written, as an int64 of time.Duration: when there was a connection, or later
	first atomic.Int64 // when the first byte of an answer came; 0: none
}

// again begins the facts of a further sending.
func (f *facts) again() {
	f.answeredBefore = f.answeredBefore || f.head
	f.conn, f.head, f.asked = false, false, -1
	f.first.Store(0)
}

// sent says whether the server may have seen the request.
func (f *facts) sent() mcp.Sent {
	switch {
	case f.answeredBefore || f.head || f.first.Load() != 0:
		return mcp.SentYes
	case f.conn:
		return mcp.SentUnknown
	}
	return mcp.SentNo
}

// connecting is told when a connection is looked for, over internal/http1 only where none is idle. If there was one before, that one
// turned out dead; unsent: not a byte was written to it.
func (x *exchange) connecting(unsent bool) {
	if unsent {
		x.facts.conn = false
	}
	x.facts.asked = x.watch.now()
	x.watch.wait(x.facts.asked, &x.watch.limits.connect)
}

// connected is told that there is a connection, now. The wait for the head of the answer begins.
func (x *exchange) connected(now time.Duration, fresh bool) {
	if fresh && x.facts.asked >= 0 {
		x.facts.connect += now - x.facts.asked
	}
	x.facts.asked = -1
	if !x.active {
		x.active = true
		x.u.pool.active.Add(1)
	}
	x.facts.conn = true
	x.facts.wrote.Store(int64(now))
	if head := &x.watch.limits.head; head.after > 0 {
		x.watch.wait(now, head)
	} else {
		x.watch.off()
	}
}

// answering is told when the first byte of an answer comes.
func (x *exchange) answering() {
	x.u.progress.Add(1)
	x.facts.first.Store(int64(max(x.watch.now(), 1)))
	x.reportWritten()
}

// reportWritten reports to who waits for it that the request has been written, or that the call has ended.
func (x *exchange) reportWritten() {
	if x.call.Written != nil {
		x.written.Do(x.call.Written)
	}
}
