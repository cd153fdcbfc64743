package window

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// Options are those of a Window. Next, Max, Window and Partition are required.
type Options struct {
	Upstream   string                       // the upstream's configured name: a label of metrics
	Next       mcp.Caller                   // takes arrays, and the calls that go by themselves
	Max        int                          // calls in one array, at least 2
	Window     time.Duration                // how long the first call of an array waits for others
	Partition  func(*mcp.Call) [32]byte     // whose a call is: calls of two never meet in one array
	Repeatable func(*mcp.Call) bool         // what may be sent again though it may have run; nil: nothing
	Refusal    func(*mcp.Call) *mcp.Failure // why Next would refuse such a call at once, nil if it would not; nil: it never would
	Base       context.Context              // the daemon's: its end ends all arrays, with its cause; nil: no end
	Buffers    *mcp.BufferPool              // for the bodies of answers; nil: none is used again
	Metrics    *Metrics                     // nil: not counted
	Log        *slog.Logger                 // nil: silent
}

func (o *Options) complete() {
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.Repeatable == nil {
		o.Repeatable = func(*mcp.Call) bool { return false }
	}
	if o.Refusal == nil {
		o.Refusal = func(*mcp.Call) *mcp.Failure { return nil }
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

const (
	maxArray  = 1 << 20   // bytes of calls: an array that would have more leaves before
	singleFor = time.Hour // how long a server that could not take an array is sent single calls
)

// Window lets calls to a server that takes arrays travel together: plain JSON-RPC 2.0 (section 6), or MCP 2025-03-26
// (basic/transports), the one version that has them. Those that come within the window of the first leave as one array, or
// as soon as there are Max. It is a mcp.Caller, safe for concurrent use, and promises:
//   - calls of two partitions, sessions or versions never meet in one array, nor do such that may be sent again with others;
//   - each call gets its own answer under its own id, and its own failure: nobody's deadline or leaving touches another;
//   - a call runs twice only if that was allowed: an array that the server refused whole ran nothing, and what of a spoilt
//     answer nobody knows goes again by itself only where Repeatable says so;
//   - a legacy `notifications/cancelled` reaches the server with the id by which the server knows the call.
//
// What is a stream in itself, a notification or a request of the server's on the way to an array's answers, has no reader
// and is dropped and counted.
type Stage struct {
	opts     Options
	meters   meters
	ids      *mcp.IDs
	single   atomic.Int64 // until when calls go by themselves, in Unix milliseconds
	draining atomic.Bool
	wg       sync.WaitGroup // the arrays under way

	mu    sync.Mutex // guards the following
	open  map[groupKey]*group
	known map[string]*passenger // by nameOf
}

// groupKey is what the calls of one array have in common.
type groupKey struct {
	session   string
	version   string
	partition [32]byte
	again     bool
	unhurried bool
}

// New returns a Window. It panics without what is required.
func New(o Options) *Stage {
	if o.Next == nil || o.Max < 2 || o.Window <= 0 || o.Partition == nil {
		panic("window: a Window without Next, Max, Window or Partition (this is a bug)")
	}
	o.complete()
	w := &Stage{opts: o, meters: o.Metrics.of(o.Upstream), open: map[groupKey]*group{}, known: map[string]*passenger{}}
	w.ids = mcp.NewIDs()
	return w
}

// Call answers one call, in an array if it may ride in one.
//
// An end of ctx fails the call at once, whatever becomes of the array: with the *mcp.Failure that is ctx's cause, or else as
// ReasonCanceled with code 0. Sent is no for one that had not left.
//
// A legacy `notifications/cancelled` of a call that waits for its array to leave goes nowhere: the call gets a 202 without a
// body and is not sent. While the array is under way it goes on with the call's id in the array; the call waits on, and gets
// that 202 where it would have failed.
func (w *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.IsCancel() && c.Message.IsPlain() {
		return w.cancel(ctx, c)
	}
	if !rides(c) || w.goesSingle() {
		return w.opts.Next.Call(ctx, c)
	}
	if f := w.opts.Refusal(c); f != nil {
		return nil, f // now, and not when the window has passed
	}
	g, r := w.board(c)
	select {
	case o := <-r.done:
		w.forget(r.known)
		return w.landed(ctx, c, o)
	case <-ctx.Done():
	}
	sent, id := g.leave(r)
	w.gone(r.known, id)
	f := mcp.Left(ctx, mcp.SentUnknown)
	f.Sent = sent
	return nil, f
}

func (w *Stage) landed(ctx context.Context, c *mcp.Call, o outcome) (*mcp.Result, error) {
	switch {
	case o.alone:
		res, err := w.opts.Next.Call(ctx, c)
		return res, sentBefore(err, o.sent)
	case o.failure != nil:
		return nil, o.failure
	}
	return o.result, nil
}

// rides reports whether a call may be one of an array: a request with an id that the answer can name, of a method that
// brings one answer and nothing else.
func rides(c *mcp.Call) bool {
	if !c.Regular() || len(c.Body) > maxArray/2 {
		return false
	}
	if c.Era == mcp.EraPlain {
		return true
	}
	if c.Era != mcp.EraLegacy || c.Version != "" && c.Version != mcp.Version20250326 {
		return false
	}
	switch c.Method() {
	case mcp.MethodToolsList, mcp.MethodPromptsList, mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList,
		mcp.MethodResourcesRead, mcp.MethodPromptsGet, mcp.MethodCompletionComplete, mcp.MethodToolsCall:
		return true
	}
	return false
}

// goesSingle reports whether calls go by themselves: in the last hour (singleFor) the server could not take an array.
func (w *Stage) goesSingle() bool {
	until := w.single.Load()
	return until != 0 && time.Now().UnixMilli() < until
}

// spoilt remembers that the server cannot take arrays.
func (w *Stage) spoilt(why string) {
	was := w.single.Swap(time.Now().Add(singleFor).UnixMilli())
	if was < time.Now().UnixMilli() {
		w.opts.Log.Warn("the server cannot take arrays of calls: they go one by one",
			slog.String("upstream", w.opts.Upstream), slog.String("why", why), slog.String("for", singleFor.String()))
	}
}

// Drain lets nobody wait any more: what waits leaves now, and what comes goes at once.
func (w *Stage) Drain() {
	w.draining.Store(true)
	w.mu.Lock()
	groups := make([]*group, 0, len(w.open))
	for key, g := range w.open {
		delete(w.open, key)
		groups = append(groups, g)
	}
	w.mu.Unlock()
	for _, g := range groups {
		g.depart()
	}
}

// Wait returns when the last array has ended. No call comes after it has been called; the end of Base makes it soon.
func (w *Stage) Wait() { w.wg.Wait() }

// board puts the call into the array that is open for it, which leaves if it is full now.
func (w *Stage) board(c *mcp.Call) (*group, *rider) {
	key := w.keyOf(c)
	r := &rider{call: c, done: make(chan outcome, 1)}
	name := mcp.CancelKey(c, c.ID(), nil)
	w.mu.Lock()
	g := w.open[key]
	var full *group
	if g != nil && g.size+len(c.Body) > maxArray {
		full, g = g, nil
	}
	if g == nil {
		g = w.begin(key)
		w.open[key] = g
	}
	g.riders = append(g.riders, r)
	w.noteLocked(name, g, r)
	g.size += len(c.Body)
	leaves := len(g.riders) == w.opts.Max || w.draining.Load()
	if leaves {
		delete(w.open, key)
	}
	w.mu.Unlock()
	if full != nil {
		full.depart()
	}
	if leaves {
		g.depart()
	}
	return g, r
}

func (w *Stage) keyOf(c *mcp.Call) groupKey {
	key := groupKey{
		version: c.Version, partition: w.opts.Partition(c), again: w.opts.Repeatable(c), unhurried: c.Method().Unhurried(),
	}
	if id := c.Header["Mcp-Session-Id"]; len(id) > 0 {
		key.session = id[0]
	}
	return key
}

// begin opens an array. The caller holds the lock.
func (w *Stage) begin(key groupKey) *group {
	g := &group{window: w, again: key.again}
	g.ctx, g.cancel = context.WithCancelCause(w.opts.Base)
	w.wg.Add(1)
	g.timer = time.AfterFunc(w.opts.Window, func() {
		w.mu.Lock()
		if w.open[key] == g {
			delete(w.open, key)
		}
		w.mu.Unlock()
		g.depart()
	})
	return g
}
