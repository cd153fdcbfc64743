package window

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// arrayKey is what the calls of one array have in common.
type arrayKey struct {
	session   string
	version   string
	partition [32]byte
	again     bool // they may be sent again
	unhurried bool // mcp.Method.Unhurried
}

func (w *Stage) keyOf(c *mcp.Call) arrayKey {
	return arrayKey{
		session: c.Header.Get("Mcp-Session-Id"), version: c.Version, partition: w.opts.Partition(c), again: w.opts.Repeatable(c),
		unhurried: c.Method().Unhurried(),
	}
}

// array is one array: calls that wait until it is sent, and then the one call that it is.
type array struct {
	stage  *Stage
	key    arrayKey
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer

	// Guarded by Stage.mu.
	calls  []*pendingCall // does not change once the array is closed
	size   int            // bytes of their bodies
	closed bool           // it is sent, with the calls whose callers had not left
}

// pendingCall is one call in an array. Its agent may cancel it by `notifications/cancelled`, which names an id that the
// server has not seen.
type pendingCall struct {
	call  *mcp.Call
	name  string // mcp.CancelKey
	array *array
	done  chan outcome // has room for one

	// Guarded by Stage.mu.
	id        []byte // under which the server knows it; nil until it goes with others, does not change after that
	ended     bool   // the outcome has been delivered, or its caller has left
	cancelled bool   // its agent has cancelled it under way

	found bool // its answer has been found; owned by send
}

// outcome is what a call gets: that it is to go by itself, a failure or a result.
type outcome struct {
	single  bool
	sent    mcp.Sent // with single: whether it may have run in the array, "" where it did not
	failure *mcp.Failure
	result  *mcp.Result
}

func (p *pendingCall) waits() bool { return !p.ended }

// errNoWaiters is why an array ends when no caller waits for it any more.
var errNoWaiters = errors.New("no caller waits for the answers")

// enqueue puts the call into the array that is open for it, which goes if it is full now.
func (w *Stage) enqueue(c *mcp.Call) *pendingCall {
	key := w.keyOf(c)
	p := &pendingCall{call: c, name: mcp.CancelKey(c, c.ID(), nil), done: make(chan outcome, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.open[key]
	if a != nil && a.size+len(c.Body) > maxArray {
		a.flushLocked()
		a = nil
	}
	if a == nil {
		a = w.beginLocked(key)
	}
	p.array, a.calls, a.size = a, append(a.calls, p), a.size+len(c.Body)
	if p.name != "" && (w.known[p.name] == nil || w.known[p.name].ended) { // no other waits under it
		w.known[p.name] = p
	}
	if len(a.calls) == w.opts.Max || w.draining {
		a.flushLocked()
	}
	return p
}

// beginLocked opens an array, which goes when the window has passed.
func (w *Stage) beginLocked(key arrayKey) *array {
	a := &array{stage: w, key: key}
	a.ctx, a.cancel = context.WithCancelCause(w.opts.Base)
	a.timer = time.AfterFunc(w.opts.Window, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		a.flushLocked()
	})
	w.wg.Add(1)
	w.open[key] = a
	return a
}

// flushLocked sends the array, unless it has gone.
func (a *array) flushLocked() {
	if a.stage.open[a.key] == a {
		delete(a.stage.open, a.key)
		a.timer.Stop()
		go a.send()
	}
}

// leave lets the caller of a call leave, and says whether the server may have seen the call. The last one to leave ends the
// array.
func (w *Stage) leave(p *pendingCall) mcp.Sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, sent := p.array, mcp.SentNo
	if a.closed {
		sent = mcp.SentUnknown
	}
	if p.ended {
		(<-p.done).drop() // it came at the same moment
		return sent
	}
	p.ended = true
	if a.closed && !slices.ContainsFunc(a.calls, (*pendingCall).waits) {
		a.cancel(errNoWaiters)
	}
	w.keepLocked(p)
	return sent
}

// drop closes a result that no caller gets. How it ends does not matter.
func (o outcome) drop() {
	if o.result != nil {
		_ = o.result.Close()
	}
}

// deliver gives calls their outcome.
func (a *array) deliver(o outcome, calls ...*pendingCall) {
	a.stage.mu.Lock()
	defer a.stage.mu.Unlock()
	for _, p := range calls {
		a.stage.deliverLocked(p, o)
	}
}

// deliverLocked gives a call its outcome, if it still waits for one, with a failure of its own. One that was cancelled has no
// use for a failure, and is not sent again.
func (w *Stage) deliverLocked(p *pendingCall, o outcome) {
	switch {
	case p.ended:
		o.drop()
		return
	case p.cancelled && o.result == nil:
		o = outcome{result: mcp.Accepted()}
	case o.failure != nil:
		own := *o.failure
		o.failure = &own
	}
	p.ended = true
	w.forgetLocked(p)
	p.done <- o // there is room
}

// send sends the calls that still wait, and delivers the outcome of each.
func (a *array) send() {
	w := a.stage
	defer w.wg.Done()
	defer a.cancel(nil)
	a.close()
	if len(a.calls) < 2 {
		a.deliver(outcome{single: true}, a.calls...)
		return
	}
	w.meters.size.Observe(float64(len(a.calls)))
	defer a.rescue()
	res, err := w.opts.Next.Call(a.ctx, a.call())
	if err != nil {
		a.failed(mcp.AsFailure(err))
		return
	}
	defer func() { _ = res.Close() }()
	a.answered(res)
}

// close fixes the calls of the array: those whose callers have not left. If they are more than one they get their ids.
func (a *array) close() {
	a.stage.mu.Lock()
	defer a.stage.mu.Unlock()
	a.closed = true
	a.calls = slices.DeleteFunc(a.calls, func(p *pendingCall) bool { return p.ended })
	if len(a.calls) > 1 {
		for _, p := range a.calls {
			p.id = a.stage.ids.Next()
		}
	}
}

// rescue gives the calls a failure that would wait for ever after a panic.
func (a *array) rescue() {
	if panicked := recover(); panicked != nil {
		a.stage.opts.Log.Error("an array of calls ended in the middle (this is a bug)", slog.String("upstream", a.stage.opts.Upstream),
			slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
		a.deliver(outcome{failure: mcp.InternalFailure(fmt.Errorf("panic: %v", panicked))}, a.calls...)
	}
}

// call makes one call of all: under ids of its own, with the first one's header but what belongs to that call only.
func (a *array) call() *mcp.Call {
	first := a.calls[0].call
	out := *first
	out.Body = a.encode()
	out.Lane, out.Again, out.Whole = mcp.LaneBatch, a.key.again, true
	// The method says how long the server may take. That is the same for all calls of an array: arrayKey.unhurried.
	out.Message = mcp.Message{Kind: mcp.KindBatch, Method: first.Method(), Whole: mcp.Span{End: uint32(len(out.Body))}}
	out.Header = first.Header.Clone()
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		out.Header.Del(name)
	}
	return &out
}

// encode joins the calls. A caller may have left since close: its call can still be read (mcp.Call).
func (a *array) encode() []byte {
	body := append(make([]byte, 0, a.size+len(a.calls)*(len(a.calls[0].id)+len(","))+len("]")), '[')
	for _, p := range a.calls {
		body = append(mcp.Splice(body, p.call.Body, p.call.Message.ID, p.id), ',')
	}
	body[len(body)-1] = ']'
	return body
}
