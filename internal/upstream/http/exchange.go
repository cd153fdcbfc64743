package http

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"fluentd-perf/internal/mcp"
)

// exchange is one call under way. It is owned by the goroutine that called Call, then by whoever has the Result; only
// the watch's timer and two hooks of the transport touch it from elsewhere.
//
// It is also the context of its HTTP requests: that is how the hooks of go-retryablehttp find it.
type exchange struct {
	context.Context // the call's own: ends with the caller's, with a timeout, and with the exchange

	u      *Upstream
	call   *mcp.Call
	cancel context.CancelCauseFunc
	watch  watch
	facts  facts
	trace  httptrace.ClientTrace

	slot    holding
	pooled  int // the kind of the connection, where it holds one
	rt      transport
	header  http.Header
	request retryablehttp.Request
	status  int // of a redirect, which http.Client must not see

	lasting *url.URL // where the permanent redirects at the start led; nil: nowhere
	written sync.Once
	givenUp atomic.Bool // GivenUp has said so
	conn    *counted    // the last that it was given; nil: none yet

	body     io.ReadCloser // of the answer that counts
	stream   bool          // it is of events that pass
	prefix   bodyPrefix
	bound    time.Duration // when the body or event has to be whole; 0: no bound
	since    uint64        // what Upstream.progress was when that bound was set
	paused   time.Duration // when the reader was last given something
	begun    bool          // bytes of an event have come, and bound is not set yet
	answered bool          // the answer has come whole
	done     bool          // finished
}

// longWrite is from how many bytes on it is worth knowing when a request was written. A smaller one goes into the socket's
// buffer at once.
const longWrite = 64 << 10

func newExchange(ctx context.Context, u *Upstream, c *mcp.Call) *exchange {
	x := &exchange{u: u, call: c, rt: u.calls}
	own, cancel := context.WithCancelCause(ctx)
	x.cancel = cancel
	x.watch.start, x.watch.cancel, x.watch.progress, x.watch.limits = time.Now(), cancel, &u.progress, limitsOf(c, &u.opts.Timeouts)
	x.trace = httptrace.ClientTrace{GetConn: x.getConn, GotConn: x.gotConn, GotFirstResponseByte: x.gotFirstByte}
	if len(c.Body) > longWrite || c.Written != nil {
		x.trace.WroteRequest = x.wroteRequest
	}
	x.Context = httptrace.WithClientTrace(own, &x.trace)
	x.header = outgoing(c.Header)
	return x
}

// holding is what an exchange holds of the pool.
type holding uint8

const (
	nothing       holding = iota
	warmPlace             // beside the calls, on a connection of theirs
	oneConnection         // of Connections
)

// enter takes a connection, if the lane needs one of those that are bounded.
func (x *exchange) enter() *mcp.Failure {
	if x.call.Lane == mcp.LaneStream && x.u.pool.room.widen(1) {
		// The transport for calls has a connection that is open already, as a rule. The stream takes none from the calls:
		// they may have one more meanwhile.
		x.slot = warmPlace
		return nil
	}
	if x.call.Lane.Long() {
		x.rt = x.u.long
		return nil
	}
	kind, waited, f := x.u.opts.Connections.Enter(x, x.call.Lane)
	x.facts.queue = waited
	if f != nil {
		x.end(f)
		return f
	}
	x.slot, x.pooled = oneConnection, kind
	if kind != 0 {
		x.rt = x.u.long
	}
	return nil
}

// leave gives back what the exchange holds of the pool.
func (x *exchange) leave() {
	switch x.slot {
	case warmPlace:
		x.u.pool.room.widen(-1)
	case oneConnection:
		x.u.opts.Connections.Leave(x.pooled)
	}
}

// send sends the request to the target and returns the answer's head.
func (x *exchange) send(target *url.URL) (*http.Response, error) {
	r := &x.request
	r.Request = (&http.Request{
		Method: x.call.Lane.Verb(), URL: target, Header: noHeader, // no Host: the URL's own
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(x)
	if len(x.call.Body) > 0 {
		// Bytes, and no reader of our own: net/http joins head and body in one write only for readers that it knows.
		if err := r.SetBody(x.call.Body); err != nil {
			return nil, err
		}
	}
	x.status = 0
	x.facts.again()
	x.u.waiting.begin(x)
	resp, err := x.u.client.Do(r)
	x.u.waiting.end(x)
	x.watch.off()
	if err != nil {
		return nil, err
	}
	if x.status != 0 {
		resp.StatusCode = x.status
	}
	x.facts.head = true
	return resp, nil
}

// noHeader is what http.Client sees, which copies it for redirects that it never follows; carrier puts the real header in. It is
// shared by all requests and never written to.
var noHeader = http.Header{}

// whole notes that the answer has come whole, now.
func (x *exchange) whole(now time.Duration) {
	x.answered = true
	took := now - x.facts.queue
	switch x.call.Lane {
	case mcp.LaneRequest:
		group := x.call.Method().Group()
		x.u.meters.observe(group, took)
		x.u.opts.Times.Observe(group, took)
	case mcp.LaneBatch: // of a plain server, as a rule, whose methods all are of this group
		x.u.opts.Times.Observe(mcp.GroupOther, took)
	}
}

// finish lets go of all that the exchange holds. It may be called twice.
func (x *exchange) finish() {
	if x.done {
		return
	}
	x.done = true
	x.reportWritten()
	x.watch.stop()
	x.cancel(nil)
	if x.body != nil {
		_ = x.body.Close() // after the end nobody cares, before it the connection is closed anyway
	}
	if x.conn != nil {
		x.u.pool.active.Add(-1)
	}
	x.leave()
}

// timing returns what is known so far.
func (x *exchange) timing(now time.Duration) mcp.Timing {
	f := &x.facts
	t := mcp.Timing{Queue: f.queue, Connect: f.connect, Upstream: now - f.queue}
	if wrote, first := f.wrote.Load(), f.first.Load(); first > wrote {
		t.FirstByte = time.Duration(first - wrote)
	}
	return t
}
