package window

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// keptFor is how long a call is known whose caller has left: where that is a flight whose last waiter was cancelled, the
// server is told right after.
const keptFor = 10 * time.Second

// noteLocked makes a call known under its name, unless another waits under it.
func (w *Stage) noteLocked(p *pendingCall) {
	if first := w.known[p.name]; p.name != "" && (first == nil || first.array == nil) {
		w.known[p.name] = p
	}
}

// forget ends what noteLocked or keep began.
func (w *Stage) forget(p *pendingCall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[p.name] == p {
		delete(w.known, p.name)
	}
}

// keep keeps of a call whose caller has left what a cancellation needs, for a while: by which id the server knows it, nil if
// it was never sent.
func (w *Stage) keep(p *pendingCall, id []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[p.name] != p {
		return
	}
	kept := &pendingCall{name: p.name, id: id}
	w.known[p.name] = kept
	time.AfterFunc(keptFor, func() { w.forget(kept) })
}

// cancel takes a cancellation to the call that it names, if that is in an array. All other bytes of it stay as they are.
func (w *Stage) cancel(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	w.mu.Lock()
	p := w.known[mcp.CancelKey(c, c.Message.RequestID.Of(c.Body), nil)]
	w.mu.Unlock()
	id, in := p.cancel()
	switch {
	case !in:
		return w.opts.Next.Call(ctx, c)
	case id == nil:
		return mcp.Accepted(), nil
	}
	out := *c
	out.Body = out.Message.Splice(make([]byte, 0, len(c.Body)+len(id)), c.Body, c.Message.RequestID, id)
	return w.opts.Next.Call(ctx, &out)
}

// cancel returns by which id the server knows the call, nil for one that it never gets, and whether it is in an array at
// all. One whose array has not gone never goes, and has its 202.
func (p *pendingCall) cancel() (id []byte, in bool) {
	switch {
	case p == nil:
		return nil, false
	case p.array == nil:
		return p.id, true
	}
	a := p.array
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case p.id != nil && (p.left || !p.answered):
		p.cancelled = true
		return p.id, true
	case p.answered:
		return nil, false
	case p.left:
		return nil, true
	case a.closed: // it goes by itself, under its own id
		return nil, false
	}
	p.left, p.answered = true, true
	p.done <- outcome{result: mcp.Accepted()} // there is room
	return nil, true
}
