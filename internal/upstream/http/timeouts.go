package http

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// setting is one that bounds a wait.
type setting struct {
	key     string
	reason  mcp.Reason
	message string // of the failure, but for how long it was
}

// The settings.
var (
	connectTimeout   = setting{"timeouts.connect", mcp.ReasonConnectTimeout, notReached + ": no connection within "}
	handshakeTimeout = setting{"timeouts.handshake", mcp.ReasonFirstByte, firstByteTimeout.message}
	firstByteTimeout = setting{"timeouts.first_byte", mcp.ReasonFirstByte, "the server did not begin to answer within "}
	idleTimeout      = setting{"timeouts.idle", mcp.ReasonIdle, "the server stopped in the middle of its answer for "}
	callTimeout      = setting{"timeouts.call", mcp.ReasonCallTimeout, "the server did not answer within "}
)

// bound is how long a call waits for one thing. After 0 there is none.
type bound struct {
	after time.Duration
	*setting
}

// limits are the bounds that hold for one call.
type limits struct {
	connect bound // to a connection
	head    bound // from there to the answer's head
	idle    bound // between two reads
	whole   bound // a body, from its head; an event, from its first byte
}

// limitsOf returns the bounds of a call. `first_byte` and `idle` hold for known methods, and for all lanes that are no
// request; a request that may take its time has `call` in their place, one of the handshake `handshake` in that of
// `first_byte`. Streams without end have no bound at all until an answer turns out to be no stream.
func limitsOf(c *mcp.Call, t *Timeouts) limits {
	l := limits{
		connect: bound{t.Connect, &connectTimeout}, head: bound{t.FirstByte, &firstByteTimeout},
		idle: bound{t.Idle, &idleTimeout}, whole: bound{t.Call, &callTimeout},
	}
	switch {
	case takesItsTime(c):
		l.head, l.idle = l.whole, l.whole
	case c.Lane == mcp.LaneRequest && c.Message.Method.Handshake():
		l.head = bound{t.Handshake, &handshakeTimeout}
	case c.Lane.Long():
		l.head.after = 0
	}
	return l
}

// takesItsTime reports whether a request may run for as long as the work takes. So may a body that nobody understands, and an
// array, unless whoever made it says by its method that all in it are quick.
func takesItsTime(c *mcp.Call) bool {
	m := c.Message.Method
	return (c.Lane == mcp.LaneRequest || c.Lane == mcp.LaneOpaque) && m.Unhurried() || c.Lane == mcp.LaneBatch && (m == mcp.MethodNone || m.Unhurried())
}

// expired is the cause of a call's context after a timeout.
type expired struct {
	bound
	silent bool // no byte of any call came from the server meanwhile
}

// failure turns the timeout into what the caller gets. Sent is left to the caller.
func (e *expired) failure() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: e.reason, Silent: e.silent, Message: e.message + e.after.String(), Cause: e,
	}
}

// Error names the setting to turn.
func (e *expired) Error() string { return e.key + " of " + e.after.String() + " is over" }

// watch knows what a call waits for, and until when. Over internal/http1 whoever reads or dials has the deadline, and asks
// afterwards what has expired. Over http.Transport the watch cancels the call's context. There one timer serves the whole call:
// a later deadline is only noted, and the timer sets itself anew when it finds one.
type watch struct {
	start    time.Time               // all times here are counted from it
	cancel   context.CancelCauseFunc // nil: nothing is cancelled
	progress *atomic.Uint64          // the upstream's
	limits   limits

	mu       sync.Mutex // guards the following
	timer    *time.Timer
	set      time.Duration // when the timer fires; 0: it does not
	deadline time.Duration // 0: none
	bound    *bound        // of limits: what the deadline means
	from     time.Duration // when the wait for that began
	since    uint64        // what progress was then
	stopped  bool          // nothing begins any more
}

func (w *watch) now() time.Duration { return time.Since(w.start) }

// wait begins a wait that has a bound, at a time that is known already.
func (w *watch) wait(now time.Duration, b *bound) { w.waitFor(now, b.after, b, w.progress.Load()) }

// waitFor is wait for what is left of a bound that began when progress was since. 0 or less has passed already.
func (w *watch) waitFor(now, left time.Duration, b *bound, since uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.deadline = max(now+left, 1)
	w.bound, w.from, w.since = b, now, since
	if w.cancel == nil {
		return
	}
	if w.set != 0 && w.set <= w.deadline {
		return
	}
	w.set = w.deadline
	if w.timer == nil {
		w.timer = time.AfterFunc(left, w.fire)
	} else {
		w.timer.Reset(left)
	}
}

// expired returns what has expired, nil if the deadline has not passed.
func (w *watch) expired() *expired {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deadline == 0 || w.now() < w.deadline {
		return nil
	}
	return &expired{*w.bound, w.progress.Load() == w.since} // a copy: the cause outlives the watch
}

// off ends the wait.
func (w *watch) off() {
	w.mu.Lock()
	w.deadline = 0
	w.mu.Unlock()
}

// unanswered returns how long the call has waited for the first byte of its answer, on one connection or for one, and
// whether none of any call has come meanwhile. 0: it does not wait for that.
func (w *watch) unanswered() (waited time.Duration, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.progress.Load() == w.since && (w.bound == &w.limits.connect || w.bound == &w.limits.head) {
		return w.now() - w.from, true
	}
	return 0, false
}

// stop ends the watch.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline, w.stopped = 0, true
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set = 0
	if w.deadline == 0 {
		return
	}
	if left := w.deadline - w.now(); left > 0 {
		w.set = w.deadline
		w.timer.Reset(left)
		return
	}
	w.cancel(&expired{*w.bound, w.progress.Load() == w.since}) // a copy: the cause outlives the watch
}
