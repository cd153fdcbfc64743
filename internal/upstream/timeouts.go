package upstream

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// phase is what a call waits for.
type phase uint8

const (
	waitingForNothing phase = iota
	connecting
	waitingForHead
	waitingForBytes
	waitingForWhole
)

// expired is the cause of a call's context after a timeout: the phase that took too long, and the bound.
type expired struct {
	phase  phase
	after  time.Duration
	key    string        // the setting, where it does not follow from the phase
	from   time.Duration // when the wait began
	since  uint64        // what Upstream.heard was then
	silent bool          // it is the same still
}

// failure turns the timeout into what the caller gets. Sent is left to the caller.
func (e *expired) failure() *mcp.Failure {
	f := &mcp.Failure{Code: mcp.CodeDeadlinePassed, Silent: e.silent, Cause: e}
	switch {
	case e.phase == connecting:
		f.Reason, f.Message = mcp.ReasonConnectTimeout, notReached+": no connection within "+e.after.String()
	case e.phase == waitingForWhole || e.key == keyCall:
		f.Reason, f.Message = mcp.ReasonCallTimeout, "the server did not answer within "+e.after.String()
	case e.phase == waitingForHead:
		f.Reason, f.Message = mcp.ReasonFirstByte, "the server did not begin to answer within "+e.after.String()
	default:
		f.Reason, f.Message = mcp.ReasonIdle, "the server stopped in the middle of its answer for "+e.after.String()
	}
	return f
}

// Error names the setting to turn.
func (e *expired) Error() string {
	return cmp.Or(e.key, keys[e.phase]) + " of " + e.after.String() + " is over"
}

// keys are the settings that bound the phases of a call. keyHandshake and keyCall bound those of some methods in their place.
var keys = [...]string{
	connecting: "timeouts.connect", waitingForHead: "timeouts.first_byte",
	waitingForBytes: "timeouts.idle", waitingForWhole: keyCall,
}

const (
	keyHandshake = "timeouts.handshake"
	keyCall      = "timeouts.call"
)

// limits are the bounds that hold for one call. Zero: no bound.
type limits struct {
	head    time.Duration // from a connection to the answer's head
	idle    time.Duration // between two reads
	whole   time.Duration // a body, from its head; an event, from its first byte
	headKey string        // the setting that head is; "": timeouts.first_byte
	idleKey string        // the setting that idle is; "": timeouts.idle
}

// limitsOf returns the bounds of a call. `first_byte` and `idle` hold for known methods, and for all lanes that are no
// request; a request that may take its time has `call` in their place, one of the handshake `handshake` in that of `first_byte`. Streams without end have no bound at all until an
// answer turns out to be no stream.
func limitsOf(c *mcp.Call, t *Timeouts) limits {
	l := limits{head: t.FirstByte, idle: t.Idle, whole: t.Call}
	switch {
	case takesItsTime(c):
		l.head, l.idle, l.headKey, l.idleKey = t.Call, t.Call, keyCall, keyCall
	case c.Lane == mcp.LaneRequest && c.Message.Method.Handshake():
		l.head, l.headKey = t.Handshake, keyHandshake
	case c.Lane.Long():
		l.head = 0
	}
	return l
}

// takesItsTime reports whether a request may run for as long as the work takes. So may a body that
// nobody understands, and an array, unless whoever made it says
// by its method that all in it are quick.
func takesItsTime(c *mcp.Call) bool {
	m := c.Message.Method
	return (c.Lane == mcp.LaneRequest || c.Lane == mcp.LaneOpaque) && m.Unhurried() || c.Lane == mcp.LaneBatch && (m == mcp.MethodNone || m.Unhurried())
}

// watch cancels a call's context when the phase it is in takes too long. One timer serves the whole call: a later
// deadline is only noted, and the timer sets itself anew when it finds one.
type watch struct {
	start  time.Time // all times here are counted from it
	cancel context.CancelCauseFunc
	heard  *atomic.Uint64 // the upstream's

	mu       sync.Mutex // guards the following
	timer    *time.Timer
	set      time.Duration // when the timer fires; 0: it does not
	deadline time.Duration // 0: none
	current  expired       // what the deadline means
	stopped  bool          // nothing begins any more
}

func (w *watch) now() time.Duration { return time.Since(w.start) }

// waitAt begins a phase that may last d, at a time that is known already. A d of 0 or less has passed already.
func (w *watch) waitAt(now, d time.Duration, e expired) {
	e.since = w.heard.Load()
	w.waitOn(now, d, e)
}

// waitOn is waitAt for a bound that began before, when heard was e.since.
func (w *watch) waitOn(now, d time.Duration, e expired) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.deadline = max(now+d, 1)
	e.from = now
	w.current = e
	if w.set != 0 && w.set <= w.deadline {
		return
	}
	w.set = w.deadline
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
	} else {
		w.timer.Reset(d)
	}
}

// off ends the phase.
func (w *watch) off() {
	w.mu.Lock()
	w.deadline = 0
	w.mu.Unlock()
}

// silent reports whether no byte has come since the wait began that was begun last.
func (w *watch) silent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.Load() == w.current.since
}

// unanswered returns how long the call has waited for the first byte of its answer, on one connection or for one, and
// whether none of any call has come meanwhile. 0: it does not wait for that.
func (w *watch) unanswered() (waited time.Duration, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := &w.current; w.heard.Load() == e.since && (e.phase == connecting || e.phase == waitingForHead) {
		return w.now() - e.from, true
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
	e := w.current // a copy: the cause outlives the watch
	e.silent = w.heard.Load() == e.since
	w.cancel(&e)
}
