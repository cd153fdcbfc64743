package http

import (
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// facts is what is known of how far a call came. Times are counted from the exchange's start. Reading the clock costs as
// much as much else here, so one reading serves where the next would be a few microseconds later.
type facts struct {
	queue          time.Duration // waited for a slot
	connect        time.Duration // waited for new connections
	asked          time.Duration // when the transport last began to look for a connection
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
	f.conn, f.head = false, false
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

// getConn is called when the transport looks for a connection. If it had one before, that one turned out dead before a
// byte was written: only then does net/http look for another. A GET may have been written, which makes no difference to
// the server, but to the facts.
func (x *exchange) getConn(string) {
	if x.call.Lane.Verb() != http.MethodGet {
		x.facts.conn = false
	}
	x.facts.asked = x.watch.now()
	x.watch.wait(x.facts.asked, &x.watch.limits.connect)
}

func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	f := &x.facts
	now := x.watch.now()
	if x.conn == nil {
		x.u.pool.active.Add(1)
	}
	x.conn = countedOf(info.Conn)
	f.conn = true
	f.wrote.Store(int64(now))
	if x.conn.retire(info, x.watch.start.Add(now)) {
		// The first write fails, and another connection is looked for.
	} else if info.Reused {
		x.u.meters.reused.Inc()
	} else {
		f.connect += now - f.asked
		x.u.meters.fresh.Inc()
	}
	if head := &x.watch.limits.head; head.after > 0 {
		x.watch.wait(now, head)
	} else {
		x.watch.off()
	}
}

// wroteRequest is called when the request is in net/http's buffer, as far as it has not left: the next write is its end.
func (x *exchange) wroteRequest(info httptrace.WroteRequestInfo) {
	x.facts.wrote.Store(int64(x.watch.now()))
	if info.Err == nil && x.call.Written != nil {
		report := x.reportWritten
		x.conn.wrote.Store(&report)
	}
}

// reportWritten reports to who waits for it that the request has been written, or that the call has ended.
func (x *exchange) reportWritten() {
	if x.call.Written != nil {
		x.written.Do(x.call.Written)
	}
}

func (x *exchange) gotFirstByte() {
	x.u.progress.Add(1)
	x.facts.first.Store(int64(x.watch.now()))
	x.reportWritten()
}
