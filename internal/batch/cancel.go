package batch

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"fluentd-perf/internal/mcp"
)

// waiters are the calls of legacy sessions that wait for flights, or for the rest of an answer that has begun, by session
// and id: their agents may cancel them by `notifications/cancelled`, which names an id that the server never saw
// (2025-11-25, basic/utilities/cancellation).
type waiters struct {
	mu sync.Mutex
	by map[string]*waiter
}

// waiter is one call that waits. Its seats, over and flight are guarded by waiters.mu.
type waiter struct {
	all      *waiters
	name     string
	seats    []seat
	over     bool          // it has its answer, or has been released
	flight   []byte        // over, and the answer has begun: the id of the flight, by which the server knows the call
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
	return session[0] + "\n" + number(string(id))
}

// number returns one spelling for all numbers of the same value, as mcp.SameID tells them: 1, 1.0 and 10e-1 are one id
// (JSON-RPC 2.0, section 4). What is no number is the same byte for byte, as a power of more than 17 digits is.
func number(id string) string {
	text, power, _ := strings.Cut(strings.ToLower(id), "e")
	exp, err := int64(0), error(nil)
	if power != "" {
		exp, err = strconv.ParseInt(power, 10, 64)
	}
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	if digits = whole + fraction; err != nil || strings.Trim(digits, "0123456789") != "" || exp < -maxPower || exp > maxPower {
		return "=" + id
	}
	exp -= int64(len(fraction))
	short := strings.TrimRight(digits, "0")
	exp += int64(len(digits) - len(short))
	if short = strings.TrimLeft(short, "0"); short == "" {
		return "0"
	}
	if negative {
		short = "-" + short
	}
	if exp == 0 {
		return short
	}
	return short + "e" + strconv.FormatInt(exp, 10)
}

// maxPower is the largest power of ten in a number that is compared by its value, as for mcp.SameID.
const maxPower int64 = 99_999_999_999_999_999

// begin notes a call that waits in a seat. It is nil for one that nobody can cancel, or whose id waits already. An id of
// which the answer has begun is free again: its agent may have had the answer before the daemon knows.
func (w *waiters) begin(c *mcp.Call, s seat) *waiter {
	name := nameOf(c, c.ID())
	if name == "" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if first := w.by[name]; first != nil && !first.over {
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
	w.forgetLocked()
	return true
}

// settle is end for a call that takes what its seat has. Where that is the flight's own answer, which may have only begun,
// the call is known by the flight's id until closed.
func (w *waiter) settle(s seat) bool {
	if w == nil {
		return true
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if !w.endLocked() {
		return false
	}
	if s.leads && s.f.goesOn() {
		w.flight = s.f.call.ID()
		w.all.by[w.name] = w
	}
	return true
}

// closed ends what settle began.
func (w *waiter) closed() {
	if w == nil {
		return
	}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	w.forgetLocked()
}

// forgetLocked takes the call off, if another has not taken its place.
func (w *waiter) forgetLocked() {
	if w.all.by[w.name] == w {
		delete(w.all.by, w.name)
	}
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
// one. A call of which the answer has begun is the server's to end: it is told by that id, and nothing else happens. For
// any other id the notification goes on as it is.
func (g *Flights) cancel(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	seats, flight := g.waiters.take(nameOf(c, c.Message.RequestID.Of(c.Body)))
	switch {
	case flight != nil:
		return g.tell(ctx, c, flight)
	case seats == nil:
		return g.opts.Next.Call(ctx, c)
	}
	res, err := accepted(), error(nil)
	for _, s := range seats {
		if !s.leave(errCancelled) && !s.wasted() {
			continue
		}
		if res != nil {
			closeQuietly(res)
		}
		res, err = g.tell(ctx, c, s.f.call.ID())
	}
	return res, err
}

// wasted reports, of a seat that has been left, whether the flight's answer was for it alone: it had landed, and nobody
// had taken it yet.
func (s seat) wasted() bool {
	s.f.shard.mu.Lock()
	defer s.f.shard.mu.Unlock()
	return s.leads && s.f.landed && s.f.own != nil && s.f.shared == nil
}

// tell sends a cancellation on with the id that the server knows. All other bytes stay as they are.
func (g *Flights) tell(ctx context.Context, c *mcp.Call, id []byte) (*mcp.Result, error) {
	out := *c
	at := c.Message.RequestID
	out.Body = splice(make([]byte, 0, len(c.Body)+len(id)), c.Body, at, id)
	move(&out.Message, at, len(id))
	return g.opts.Next.Call(ctx, &out)
}

// take releases a waiter and returns its seats, which are the caller's to leave; or, of a call of which the answer has
// begun, the flight's id.
func (w *waiters) take(name string) (seats []seat, flight []byte) {
	if name == "" {
		return nil, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	own := w.by[name]
	switch {
	case own == nil:
		return nil, nil
	case own.over:
		return nil, own.flight
	}
	own.endLocked()
	close(own.released)
	return own.seats, nil
}

// accepted is what a request gets that its agent has cancelled, and a notification that had nowhere to go.
func accepted() *mcp.Result { return &mcp.Result{Status: http.StatusAccepted, Header: http.Header{}} }
