package http

import (
	"context"
	"io"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// exchange is one call under way. It is owned by the goroutine that called Call, then by whoever has the Result; only
// the watch's timer, what tells how far the request is, and GivenUp touch it from elsewhere.
type exchange struct {
	context.Context // the call's own: ends with the caller's; over http.Transport with a timeout and with the exchange, too

	u      *Upstream
	call   *mcp.Call
	watch  watch
	facts  facts
	direct directCall  // what it has more over internal/http1
	compat *compatCall // what it has more over http.Transport; nil: it does not go over that

	fetching *fetching // nil: nothing is fetched

	slot   holding
	pooled int  // the kind of the connection, where it holds one
	long   bool // it goes over the connections for what lasts
	active bool // it was given a connection, and counts as active

	lasting *url.URL // where the permanent redirects at the start led; nil: nowhere
	written sync.Once
	givenUp atomic.Bool // GivenUp has said so

	result   mcp.Result    // of the answer that counts
	body     io.ReadCloser // its
	stream   bool          // it is of events that pass
	prefix   bodyPrefix
	bound    time.Duration // when the body or event has to be whole; 0: no bound
	since    uint64        // what Upstream.progress was when that bound was set
	paused   time.Duration // when the reader was last given something
	begun    bool          // bytes of an event have come, and bound is not set yet
	answered bool          // the answer has come whole
	done     bool          // finished
}

func newExchange(ctx context.Context, u *Upstream, c *mcp.Call) *exchange {
	x := &exchange{Context: ctx, u: u, call: c}
	x.watch.start, x.watch.progress, x.watch.limits = time.Now(), &u.progress, limitsOf(c, &u.opts.Timeouts)
	u.pool.client.prepare(x)
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
	if x.call.Lane == mcp.LaneStream && x.u.pool.enterWarm() { // one that is open already, as a rule
		x.slot = warmPlace
		return nil
	}
	if x.call.Lane.Long() {
		x.long = true
		return nil
	}
	kind, waited, f := x.u.opts.Connections.Enter(x, x.call.Lane)
	x.facts.queue = waited
	if f != nil {
		x.end(f)
		return f
	}
	x.slot, x.pooled = oneConnection, kind
	x.long = kind != 0
	return nil
}

// leave gives back what the exchange holds of the pool.
func (x *exchange) leave() {
	switch x.slot {
	case warmPlace:
		x.u.pool.leaveWarm()
	case oneConnection:
		x.u.opts.Connections.Leave(x.pooled)
	}
}

// send sends the request to the target and returns the answer's head.
func (x *exchange) send(target *url.URL) (head, error) {
	if fetched(x.call) {
		return x.fetch(target)
	}
	return x.sendOnce(target)
}

func (x *exchange) sendOnce(target *url.URL) (head, error) {
	x.facts.again()
	x.u.waiting.begin(x)
	h, err := x.u.pool.client.send(x, target)
	x.u.waiting.end(x)
	x.watch.off()
	if err != nil {
		return head{}, err
	}
	x.body = h.body
	x.facts.head = true
	return h, nil
}

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
	if x.compat != nil {
		x.compat.cancel(nil)
	}
	if x.body != nil {
		_ = x.body.Close() // after the end nobody cares, before it the connection is closed anyway
	}
	if x.active {
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
