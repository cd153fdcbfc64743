package http

import (
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// waiting are the legacy requests that wait for the head of their answer. Their agents may give them up by
// notifications/cancelled, and leave the POST open (2025-11-25, basic/utilities/cancellation).
type waiting struct {
	mu    sync.Mutex // guards calls
	calls map[*exchange]struct{}
}

// begin notes an exchange, unless nobody can cancel it.
func (w *waiting) begin(x *exchange) {
	if !cancellable(x.call) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == nil {
		w.calls = map[*exchange]struct{}{}
	}
	w.calls[x] = struct{}{}
}

// cancellable reports whether notifications/cancelled may name the call: to a modern server the closed stream says it, and
// initialize must not be cancelled so (basic/utilities/cancellation).
func cancellable(c *mcp.Call) bool {
	return c.Lane == mcp.LaneRequest && c.Era == mcp.EraLegacy && c.Message.Method != mcp.MethodInitialize
}

func (w *waiting) end(x *exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.calls, x)
}

// GivenUp takes a notifications/cancelled to the call under way that it names. If that has waited for the first byte of its
// answer for least or longer, and none of any call has come meanwhile, it returns the failure that the call would have had if
// its agent had left, once for each call: the failure that it has later is Counted. Otherwise it returns nil. Where several
// calls have the name, each of them has to have waited so, and the oldest is taken for the one.
func (u *Upstream) GivenUp(c *mcp.Call, least time.Duration) *mcp.Failure {
	w := &u.waiting
	w.mu.Lock()
	defer w.mu.Unlock()
	var oldest *exchange
	for x := range w.calls {
		if x.givenUp.Load() || !names(c, x.call) {
			continue
		}
		if waited, silent := x.watch.unanswered(); !silent || waited < least {
			return nil
		}
		if oldest == nil || x.watch.start.Before(oldest.watch.start) {
			oldest = x
		}
	}
	if oldest == nil {
		return nil
	}
	oldest.givenUp.Store(true)
	f := oldest.left(nil)
	f.Sent = mcp.SentUnknown
	return f
}

// names reports whether a cancellation names the call: in the same session, or without one under the same credential.
func names(cancel, c *mcp.Call) bool {
	for _, field := range [...]string{"Mcp-Session-Id", "Authorization"} {
		if !slices.Equal(slices.Collect(cancel.Header.Values(field)), slices.Collect(c.Header.Values(field))) {
			return false
		}
	}
	return mcp.SameID(c.ID(), cancel.Message.RequestID.Of(cancel.Body))
}
