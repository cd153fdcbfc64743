package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"fluentd-perf/internal/mcp"
)

// facts is what is known of how far a call came. Times are counted from the exchange's start. Reading the clock costs as
// much as much else here, so one reading serves where the next would be a few microseconds later.
type facts struct {
	queue   time.Duration // waited for a slot
	connect time.Duration // waited for new connections
	asked   time.Duration // when the transport last began to look for a connection
	looked  bool          // it did
	counted bool          // the exchange counts as active
	heard   bool          // the server began to answer an earlier sending, by a redirect

	// Of this sending.
	conn  bool         // it has a connection, and may have written to it
	head  bool         // the answer's head came
	wrote atomic.Int64 // when the request was written, as an int64 of time.Duration: when there was a connection, or later
	first atomic.Int64 // when the first byte of an answer came; 0: none
}

// again begins the facts of a further sending.
func (f *facts) again() {
	f.heard = f.heard || f.head
	f.conn, f.head = false, false
	f.first.Store(0)
}

// sent says whether the server may have seen the request.
func (f *facts) sent() mcp.Sent {
	switch {
	case f.heard || f.head || f.first.Load() != 0:
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
	f := &x.facts
	if x.call.Lane.Verb() != http.MethodGet {
		f.conn = false
	}
	now := f.queue // the first time: just now
	if f.looked {
		now = x.watch.now()
	}
	f.asked, f.looked = now, true
	d := x.u.opts.Timeouts.Connect
	x.watch.waitAt(now, d, expired{phase: connecting, after: d})
}

func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	f := &x.facts
	now := x.watch.now()
	stale := false
	if x.conn, _ = countedOf(info.Conn); x.conn != nil {
		stale = x.conn.retire(info, x.watch.start.Add(now))
	}
	f.conn = true
	f.wrote.Store(int64(now))
	if stale {
		// The first write fails, and another connection is looked for.
	} else if info.Reused {
		x.u.meters.reused.Inc()
	} else {
		f.connect += now - f.asked
		x.u.meters.fresh.Inc()
	}
	if !f.counted {
		f.counted = true
		x.u.pool.active.Add(1)
	}
	if l := &x.limits; l.head > 0 {
		x.watch.waitAt(now, l.head, expired{phase: waitingForHead, after: l.head, key: l.headKey})
	} else {
		x.watch.off()
	}
}

// wroteRequest is called when the request is in net/http's buffer, as far as it has not left: the next write is its end.
func (x *exchange) wroteRequest(info httptrace.WroteRequestInfo) {
	x.facts.wrote.Store(int64(x.watch.now()))
	if info.Err != nil || x.call.Written == nil {
		return
	}
	if x.conn == nil {
		x.tellWritten()
		return
	}
	tell := x.tellWritten
	x.conn.wrote.Store(&tell)
}

// tellWritten tells who waits for it that the request has been written, or that the call has ended.
func (x *exchange) tellWritten() {
	if x.call.Written != nil {
		x.written.Do(x.call.Written)
	}
}

func (x *exchange) gotFirstByte() {
	x.u.heard.Add(1)
	x.facts.first.Store(int64(x.watch.now()))
	x.tellWritten()
}

// fail ends the exchange and says why: because its context ended, else because of err.
func (x *exchange) fail(err error) *mcp.Failure {
	f := x.failure(err)
	f.Sent, f.Counted = x.facts.sent(), x.givenUp.Load()
	x.end(f)
	return f
}

// refuse ends the exchange because of what the server answered.
func (x *exchange) refuse(reason mcp.Reason, message string, cause error) *mcp.Failure {
	f := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: reason, Sent: x.facts.sent(), Message: message, Cause: cause}
	x.end(f)
	return f
}

func (x *exchange) end(f *mcp.Failure) {
	if x.done {
		return
	}
	x.finish()
	if f.Code == mcp.CodeDeadlinePassed && f.Sent != mcp.SentNo && !x.answered {
		x.u.tellCancelled(x.call)
	}
	if f.Reason == mcp.ReasonConnect || f.Reason == mcp.ReasonConnectTimeout {
		x.u.forget()
	}
}

func (x *exchange) failure(err error) *mcp.Failure {
	if cause := context.Cause(x); cause != nil {
		return x.ended(cause)
	}
	err = bare(err)
	if !x.facts.conn && !x.facts.head {
		return x.notConnected(err)
	}
	f := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Cause: err}
	switch {
	case x.facts.head:
		f.Message = "the server broke off in the middle of its answer"
	case x.facts.first.Load() != 0 && !brokenOff(err):
		f.Reason, f.Message = mcp.ReasonBadAnswer, "the server's answer is not HTTP"
	default:
		f.Message = "the server closed the connection without an answer"
	}
	return f
}

// ended is the failure of a context that ended.
func (x *exchange) ended(cause error) *mcp.Failure {
	var e *expired
	if errors.As(cause, &e) {
		return e.failure()
	}
	var f *mcp.Failure
	if errors.As(cause, &f) {
		own := *f // the cause is shared by all calls that it ended
		return &own
	}
	return x.left(cause)
}

// left is the failure of a call whose caller left.
func (x *exchange) left(cause error) *mcp.Failure {
	left := &mcp.Failure{Reason: mcp.ReasonCanceled, Message: "the caller left", Cause: cause}
	if left.Waited, left.Silent = x.watch.unanswered(); left.Silent {
		left.Message = "the server sent nothing for " + left.Waited.Round(time.Second).String() + ", and the caller gave up"
	}
	return left
}

// notReached begins the message of every failure to connect.
const notReached = "could not reach the server"

func (x *exchange) notConnected(err error) *mcp.Failure {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		e := expired{phase: connecting, after: x.u.opts.Timeouts.Connect, silent: x.watch.silent()}
		f := e.failure()
		f.Message, f.Cause = notReached+": the attempt timed out", err
		return f
	}
	f := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonConnect, Message: notReached, Cause: err}
	if why := unreachable(err); why != "" {
		f.Message += ": " + why
	}
	return f
}

// bare takes the URL off an error of http.Client's: its query may hold a secret.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// brokenOff reports whether the error is of the connection, and not of what came over it.
func brokenOff(err error) bool {
	var ne net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.As(err, &ne)
}
