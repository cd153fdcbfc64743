package window

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// passenger is a call in an array that its agent may cancel by `notifications/cancelled`, which names an id that the server
// has not seen. Guarded by Window.mu.
type passenger struct {
	name  string // of nameOf
	group *group
	rider *rider // nil: its caller has left
	id    []byte // then: by which the server knows it; nil: it was never sent
}

// goneFor is how long a call is known whose caller has left: where that is a flight whose last waiter was cancelled, the
// server is told right after.
const goneFor = 10 * time.Second

// noteLocked makes a call known under its name, unless another waits under it.
func (w *Stage) noteLocked(name string, g *group, r *rider) {
	if first := w.known[name]; name == "" || first != nil && first.rider != nil {
		return
	}
	r.known = &passenger{name: name, group: g, rider: r}
	w.known[name] = r.known
}

// forget ends what noteLocked began.
func (w *Stage) forget(p *passenger) {
	if p == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[p.name] == p {
		delete(w.known, p.name)
	}
}

// gone keeps of a call whose caller has left what a cancellation needs, for a while.
func (w *Stage) gone(p *passenger, id []byte) {
	if p == nil {
		return
	}
	w.mu.Lock()
	p.group, p.rider, p.id = nil, nil, id
	w.mu.Unlock()
	time.AfterFunc(goneFor, func() { w.forget(p) })
}

// cancel takes a cancellation to the call that it names, if that rides. All other bytes of it stay as they are.
func (w *Stage) cancel(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	id, rides := w.cancelled(mcp.CancelKey(c, c.Message.RequestID.Of(c.Body), nil))
	switch {
	case !rides:
		return w.opts.Next.Call(ctx, c)
	case id == nil:
		return mcp.Accepted(), nil
	}
	out, at := *c, c.Message.RequestID
	out.Body = out.Message.Splice(make([]byte, 0, len(c.Body)+len(id)), c.Body, at, id)
	return w.opts.Next.Call(ctx, &out)
}

// cancelled returns by which id the server knows the call of a name, nil for one that it never gets, and whether the call
// rides at all.
func (w *Stage) cancelled(name string) (id []byte, rides bool) {
	if name == "" {
		return nil, false
	}
	w.mu.Lock()
	var p passenger
	if known := w.known[name]; known != nil {
		p, rides = *known, true
	}
	w.mu.Unlock()
	if p.rider == nil {
		return p.id, rides
	}
	return p.group.cancelled(p.rider)
}

// cancelled is Window.cancelled of a rider. One that has not left never does, and has its 202.
func (g *group) cancelled(r *rider) (id []byte, rides bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case r.id != nil && (r.left || !r.answered):
		r.cancelled = true
		return r.id, true
	case r.answered:
		return nil, false
	case r.left:
		return nil, true
	case g.away: // it goes by itself, under its own id
		return nil, false
	}
	r.left, r.answered = true, true
	r.done <- outcome{result: mcp.Accepted()} // there is room
	return nil, true
}
