package batch

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"fluentd-perf/internal/mcp"
)

// waiters are the calls of legacy sessions that wait for flights, by session and id: their agents may cancel them by
// `notifications/cancelled`, which names an id that the server never saw (2025-11-25, basic/utilities/cancellation).
type waiters struct {
	mu sync.Mutex
	by map[string]*waiter
}

// waiter is one call that waits. Its seats and over are guarded by waiters.mu.
type waiter struct {
	all      *waiters
	name     string
	seats    []seat
	over     bool          // it has its answer, or has been released
	released chan struct{} // closed when its agent has cancelled it; its seats have been left then
}

// errCancelled is why a flight ends whose last waiter was cancelled.
var errCancelled = errors.New("the agent cancelled the request")

// nameOf returns under what a call of a legacy session waits, "" for another one.
func nameOf(c *mcp.Call, id []byte) string {
	session := c.Header["Mcp-Session-Id"]
	if c.Era != mcp.EraLegacy || len(session) != 1 || session[0] == "" || len(id) == 0 {
		return ""
	}
	text, ok := mcp.Text(id)
	if ok {
		return session[0] + "\n\"" + text
	}
	return session[0] + "\n" + string(id)
}

// begin notes a call that waits in a seat. It is nil for one that nobody can cancel, or whose id waits already.
func (w *waiters) begin(c *mcp.Call, s seat) *waiter {
	name := nameOf(c, c.ID())
	if name == "" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by[name] != nil {
		return nil
	}
	own := &waiter{all: w, name: name, seats: []seat{s}, released: make(chan struct{})}
	w.by[name] = own
	return own
}

// also notes another seat of the same call, and reports whether the call still waits.
func (w *waiter) also(s seat) bool {
	if w == nil {
		return true
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if !w.over {
		w.seats = append(w.seats, s)
	}
	return !w.over
}

// end takes the call off, and reports whether it still waited.
func (w *waiter) end() bool {
	if w == nil {
		return true
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	return w.endLocked()
}

func (w *waiter) endLocked() bool {
	if w.over {
		return false
	}
	w.over = true
	delete(w.all.by, w.name)
	return true
}

// gone is closed when the call has been cancelled; nil for one that cannot be.
func (w *waiter) gone() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.released
}

// isCancel reports whether a call is the cancellation of a request in a legacy session.
func isCancel(c *mcp.Call) bool {
	return c.Lane == mcp.LaneNotification && c.Method() == mcp.MethodCancelled && !c.Message.Ambiguous
}

// cancel releases the waiter that a cancellation names. The server is told, by the flight's id, only if it was the last
// one. For any other id the notification goes on as it is.
func (g *Flights) cancel(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	seats := g.waiters.take(nameOf(c, c.Message.RequestID.Of(c.Body)))
	if seats == nil {
		return g.opts.Next.Call(ctx, c)
	}
	res, err := accepted(), error(nil)
	for _, s := range seats {
		if !s.leave(errCancelled) {
			continue
		}
		out := *c
		at, id := c.Message.RequestID, s.f.call.ID()
		out.Body = splice(make([]byte, 0, len(c.Body)+len(id)), c.Body, at, id)
		if err := mcp.Scan(out.Body, &out.Message); err != nil {
			continue // cannot be: a JSON value stands in another's place
		}
		res, err = g.opts.Next.Call(ctx, &out)
	}
	return res, err
}

// take releases a waiter and returns its seats, which are the caller's to leave.
func (w *waiters) take(name string) []seat {
	if name == "" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	own := w.by[name]
	if own == nil || !own.endLocked() {
		return nil
	}
	close(own.released)
	return own.seats
}

// accepted is what a request gets that its agent has cancelled, and a notification that had nowhere to go.
func accepted() *mcp.Result { return &mcp.Result{Status: http.StatusAccepted, Header: http.Header{}} }
