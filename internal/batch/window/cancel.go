package window

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// keptFor is how long a call is known whose caller has left: where that is a flight whose last waiter was cancelled, the
// server is told right after.
const keptFor = 10 * time.Second

// keepLocked keeps of a call whose caller has left what a cancellation needs, for a while: by which id the server knows it,
// nil if it was never sent.
func (w *Stage) keepLocked(p *pendingCall) {
	if w.known[p.name] != p {
		return
	}
	kept := &pendingCall{name: p.name, id: p.id, ended: true}
	w.known[p.name] = kept
	time.AfterFunc(keptFor, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forgetLocked(kept)
	})
}

func (w *Stage) forgetLocked(p *pendingCall) {
	if w.known[p.name] == p {
		delete(w.known, p.name)
	}
}

// cancel takes a cancellation to the call that it names, if that is in an array. All other bytes of it stay as they are.
func (w *Stage) cancel(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	id, in := w.cancelPending(mcp.CancelKey(c, c.Message.RequestID.Of(c.Body), nil))
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

// cancelPending returns by which id the server knows the call, nil for one that it never gets, and whether it is in an array
// at all. One whose array has not gone never goes, and has its 202.
func (w *Stage) cancelPending(name string) (id []byte, in bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.known[name]
	switch {
	case p == nil:
		return nil, false
	case p.id != nil:
		p.cancelled = true
	case p.ended: // its caller left before it went
	case p.array.closed: // it goes by itself, under its own id
		return nil, false
	default:
		w.deliverLocked(p, outcome{result: mcp.Accepted()})
	}
	return p.id, true
}
