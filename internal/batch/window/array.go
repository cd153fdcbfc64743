package window

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// array is one array: first those who wait for it to go, then the call that it is.
type array struct {
	stage  *Stage
	again  bool // its calls may be sent again
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	once   sync.Once // it goes once

	calls []*pendingCall // guarded by Stage.mu until the array is closed; then, without those who have left, owned by send
	size  int            // bytes of their bodies; guarded by Stage.mu

	mu     sync.Mutex // guards the following and what pendingCall says
	closed bool       // it has gone, or goes
	live   int        // calls that have gone with it and still wait
}

// pendingCall is one call in an array. Its agent may cancel it by `notifications/cancelled`, which names an id that the
// server has not seen.
type pendingCall struct {
	call  *mcp.Call
	name  string       // mcp.CancelKey
	array *array       // nil in what Stage.keep keeps
	done  chan outcome // has room for one

	// Guarded by array.mu.
	id        []byte // under which the server knows it; nil until it goes with others, does not change after that
	left      bool   // its caller has left
	answered  bool   // the outcome has been delivered
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

// errNobody is why an array ends for which nobody waits.
var errNobody = errors.New("nobody waits for the answers")

// leave lets the caller of a call leave, and says whether the server may have seen the call, and by which id. The last one
// to leave ends the array.
func (a *array) leave(p *pendingCall) (sent mcp.Sent, id []byte) {
	a.mu.Lock()
	p.left = true
	if a.closed && !p.answered {
		a.live--
	}
	closed, answered, last := a.closed, p.answered, a.closed && a.live == 0
	a.mu.Unlock()
	if answered {
		(<-p.done).drop() // it came at the same moment
	}
	if last {
		a.cancel(errNobody)
	}
	if !closed {
		return mcp.SentNo, nil
	}
	return mcp.SentUnknown, p.id
}

// drop closes a result that nobody wants. How it ends does not matter.
func (o outcome) drop() {
	if o.result != nil {
		_ = o.result.Close()
	}
}

// deliver gives a call its outcome, if it still waits for one, with a failure of its own. One that was cancelled has no use for a failure, and is not
// sent again.
func (a *array) deliver(p *pendingCall, o outcome) {
	a.mu.Lock()
	if p.answered || p.left {
		a.mu.Unlock()
		o.drop()
		return
	}
	p.answered = true
	a.live--
	if p.cancelled && o.result == nil {
		o = outcome{result: mcp.Accepted()}
	}
	a.mu.Unlock()
	if o.failure != nil {
		own := *o.failure
		o.failure = &own
	}
	p.done <- o
}

// deliverAll gives all that still wait an outcome.
func (a *array) deliverAll(o outcome) {
	for _, p := range a.calls {
		a.deliver(p, o)
	}
}

// flush sends the array, once.
func (a *array) flush() {
	a.once.Do(func() {
		a.timer.Stop()
		go a.send()
	})
}

// send sends the calls of those who still wait, and gives everybody what came of it.
func (a *array) send() {
	w := a.stage
	defer w.wg.Done()
	defer a.cancel(nil)
	a.close()
	switch len(a.calls) {
	case 0:
		return
	case 1:
		a.deliverAll(outcome{single: true})
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

// close lets nobody in any more, and leaves those who have not left. If they are more than one they get their ids.
func (a *array) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	stay := a.calls[:0]
	for _, p := range a.calls {
		if !p.left {
			stay = append(stay, p)
		}
	}
	a.calls, a.live = stay, len(stay)
	if len(stay) > 1 {
		for _, p := range stay {
			p.id = a.stage.ids.Next()
		}
	}
}

// rescue gives everybody a failure who would wait for ever after a panic.
func (a *array) rescue() {
	panicked := recover()
	if panicked == nil {
		return
	}
	a.stage.opts.Log.Error("an array of calls ended in the middle (this is a bug)",
		slog.String("upstream", a.stage.opts.Upstream), slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
	a.deliverAll(outcome{failure: mcp.Inside(fmt.Errorf("panic: %v", panicked))})
}

// call makes the call that all are together: under ids of its own, with the first one's header but what belongs to that call
// alone.
func (a *array) call() *mcp.Call {
	first := a.calls[0].call
	out := *first
	out.Body = a.encode()
	out.Lane, out.Again, out.Whole = mcp.LaneBatch, a.again, true
	// The method says how long the server may take: all calls of an array are of one mind there.
	out.Message = mcp.Message{Kind: mcp.KindBatch, Method: first.Method(), Whole: mcp.Span{End: uint32(len(out.Body))}}
	out.Header = maps.Clone(first.Header)
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		delete(out.Header, name)
	}
	return &out
}

func (a *array) encode() []byte {
	size := 2
	for _, p := range a.calls {
		size += len(p.call.Body) + len(p.id) + 1
	}
	body := append(make([]byte, 0, size), '[')
	for i, p := range a.calls {
		if i > 0 {
			body = append(body, ',')
		}
		body = mcp.Splice(body, p.call.Body, p.call.Message.ID, p.id)
	}
	return append(body, ']')
}
