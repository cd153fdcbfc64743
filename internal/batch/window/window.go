// Package window sends calls to a server that takes arrays together: plain JSON-RPC 2.0 (section 6), or MCP 2025-03-26
// (basic/transports), the one version that has them. Those that come within the window of the first go as one array, or as
// soon as there are Max.
//
// It promises:
//   - calls of two partitions, sessions or versions never meet in one array, nor do such that may be sent again with others;
//   - each call gets its own answer under its own id, and its own failure: nobody's deadline or leaving touches another;
//   - a call runs twice only if that was allowed: an array that the server refused whole ran nothing, and what of a spoilt
//     answer nobody knows goes again by itself only where Repeatable says so;
//   - a legacy `notifications/cancelled` reaches the server with the id by which the server knows the call.
//
// What is a stream in itself, a notification or a request of the server's before an array's answers, has no reader and is
// dropped and counted.
package window

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// Options are those of a Stage. Next, Max, Window, Partition and Repeatable are required.
type Options struct {
	Upstream   string                       // the upstream's configured name: a label of metrics
	Next       mcp.Caller                   // takes arrays, and the calls that go by themselves
	Max        int                          // calls in one array, at least 2
	Window     time.Duration                // how long the first call of an array waits for others
	Partition  func(*mcp.Call) [32]byte     // whose a call is: calls of two never meet in one array
	Repeatable func(*mcp.Call) bool         // what may be sent again though it may have run
	Refusal    func(*mcp.Call) *mcp.Failure // why Next would refuse such a call at once, nil if it would not; nil: it never would
	Base       context.Context              // the daemon's: its end ends all arrays, with its cause; nil: no end
	Buffers    *mcp.BufferPool              // for the bodies of answers; nil: none is used again
	Metrics    *Metrics                     // nil: not counted
	Log        *slog.Logger                 // nil: silent
}

const (
	maxArray  = 1 << 20   // bytes of calls: an array that would have more goes before
	singleFor = time.Hour // how long a server that could not take an array is sent single calls
)

// Stage puts calls into arrays. It is a mcp.Caller, safe for concurrent use.
type Stage struct {
	opts   Options
	meters meters
	ids    *mcp.IDs
	single atomic.Int64   // until when calls go by themselves, in Unix milliseconds
	wg     sync.WaitGroup // the arrays that wait or are under way

	mu       sync.Mutex // guards the following, and what arrays and pendingCalls say
	draining bool
	open     map[arrayKey]*array
	known    map[string]*pendingCall // those that can be cancelled, by mcp.CancelKey
}

// New returns a Stage. It panics without what is required.
func New(o Options) *Stage {
	if o.Next == nil || o.Max < 2 || o.Window <= 0 || o.Partition == nil || o.Repeatable == nil {
		panic("window: no Next, Max, Window, Partition or Repeatable (this is a bug)")
	}
	o.Base = cmp.Or(o.Base, context.Background())
	o.Metrics = cmp.Or(o.Metrics, NewMetrics(nil))
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &Stage{
		opts: o, meters: o.Metrics.of(o.Upstream), ids: mcp.NewIDs(), open: map[arrayKey]*array{}, known: map[string]*pendingCall{},
	}
}

// Call answers one call, in an array if it may be sent in one.
//
// An end of ctx fails the call at once, whatever becomes of the array: with the *mcp.Failure that is ctx's cause, or else as
// ReasonCanceled with code 0. Sent is no for one that had not left.
//
// A legacy `notifications/cancelled` of a call whose array has not gone goes nowhere: the call gets a 202 without a body and
// is not sent. While the array is under way it goes on with the call's id in the array; the call waits on, and gets that 202
// where it would have failed.
func (w *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.IsCancel() && c.Message.IsPlain() {
		return w.cancel(ctx, c)
	}
	until := w.single.Load()
	if !batchable(c) || until != 0 && time.Now().UnixMilli() < until {
		return w.opts.Next.Call(ctx, c)
	}
	if w.opts.Refusal != nil {
		if f := w.opts.Refusal(c); f != nil {
			return nil, f // now, and not when the window has passed
		}
	}
	p := w.enqueue(c)
	select {
	case <-ctx.Done():
		return nil, mcp.Canceled(ctx, w.leave(p))
	case o := <-p.done:
		switch {
		case o.single:
			res, err := w.opts.Next.Call(ctx, c)
			return res, sentBefore(err, o.sent)
		case o.failure != nil:
			return nil, o.failure
		}
		return o.result, nil
	}
}

// batchable reports whether a call may be one of an array: a request with an id that the answer can name, of a method that
// brings one answer and nothing else.
func batchable(c *mcp.Call) bool {
	if !c.Regular() || len(c.Body) > maxArray/2 {
		return false
	}
	if c.Era != mcp.EraLegacy || c.Version != "" && c.Version != mcp.Version20250326 {
		return c.Era == mcp.EraPlain
	}
	switch c.Method() {
	case mcp.MethodToolsList, mcp.MethodPromptsList, mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList,
		mcp.MethodResourcesRead, mcp.MethodPromptsGet, mcp.MethodCompletionComplete, mcp.MethodToolsCall:
		return true
	}
	return false
}

// goSingle sends calls by themselves for a while (singleFor): the server could not take an array.
func (w *Stage) goSingle(why string) {
	was := w.single.Swap(time.Now().Add(singleFor).UnixMilli())
	if was < time.Now().UnixMilli() {
		w.opts.Log.Warn("the server cannot take arrays of calls: they go one by one",
			slog.String("upstream", w.opts.Upstream), slog.String("why", why), slog.String("for", singleFor.String()))
	}
}

// sentBefore is the failure of a call that has gone by itself after it went in an array: it may have run there.
func sentBefore(err error, sent mcp.Sent) error {
	if err == nil || sent == "" {
		return err
	}
	own := *mcp.AsFailure(err)
	own.Sent = own.Sent.Likelier(sent)
	return &own
}

// Drain ends the waiting for other calls: open arrays are sent now, and later calls at once.
func (w *Stage) Drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	for _, a := range w.open {
		a.flushLocked()
	}
}

// Wait returns when the last array has ended. No call comes after it has been called; the end of Base makes it soon.
func (w *Stage) Wait() { w.wg.Wait() }
