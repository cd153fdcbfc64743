// Package batch lets calls share a way to the server: by Flights equal calls that are under way at the same time go once;
// a Window sends calls of one kind in one JSON array; an Array takes a client's own array apart, of which each element goes
// its own way.
//
// Flights is a mcp.Caller. It promises:
//   - calls with the same Call.Flight share one call of the stage behind, and each gets the answer under its own id;
//   - a flight belongs to those who wait for it: its context is the daemon's, each waiter leaves alone, the last one out
//     cancels it. One that takes longer than MaxAge takes nobody along any more;
//   - nothing is remembered: a failure reaches those who waited for it, and the next call starts anew. So does a panic;
//   - an answer that may not be shared goes to the one whose call it was, and the others go by themselves, all at once.
//     For a while after that nobody waits for anybody under that key.
//
// It leaves to others: which calls may share and under which key (Call.Flight), which answers (Result.Shareable), every
// timeout of a call that it waits for, and what is stored.
package batch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// Options are those of Flights. Next is required; a zero field stands for its default.
type Options struct {
	Upstream string          // the upstream's configured name: a label of metrics
	Next     mcp.Caller      // answers a flight's call, and those that go by themselves
	Base     context.Context // the daemon's: its end ends all flights, with its cause; nil: no end
	MaxAge   time.Duration   // how long a flight takes joiners, and how long those wait for it alone; 30 s
	Hold     time.Duration   // how long nobody shares under a key after an answer that may not be shared; 30 s
	// Repeatable says what may go again though it ran; nil: mcp's.
	Repeatable func(*mcp.Call) bool
	Buffers    *mcp.BufferPool // for the bodies of answers; nil: none is used again
	Metrics    *Metrics        // nil: not counted
	Log        *slog.Logger    // nil: silent
}

func (o *Options) complete() {
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 30 * time.Second
	}
	if o.Hold <= 0 {
		o.Hold = 30 * time.Second
	}
	if o.Repeatable == nil {
		o.Repeatable = (*mcp.Call).Repeatable
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Flights sends equal calls once. It is safe for concurrent use.
type Flights struct {
	opts    Options
	meters  meters
	ids     ids
	fences  fences
	waiters waiters
	shards  [shardCount]shard
	wg      sync.WaitGroup // the flights in the air
}

// New returns Flights for the calls of one upstream. It panics without a Next.
func New(o Options) *Flights {
	if o.Next == nil {
		panic("batch: Flights without a Next (this is a bug)")
	}
	o.complete()
	g := &Flights{opts: o, meters: o.Metrics.upstream(o.Upstream)}
	g.ids.init()
	g.waiters.by = map[string]*waiter{}
	for i := range g.shards {
		g.shards[i].init()
	}
	return g
}

// Call answers the call, with the answer of an equal one under way if there is one. A call that does not say with whom it
// may share, one that is no request, and one whose id is null go to the stage behind as they are.
//
// An end of ctx fails the call at once, whatever becomes of the flight: with the *mcp.Failure that is ctx's cause, Sent
// unknown, or else as ReasonCanceled with code 0.
//
// A legacy `notifications/cancelled` releases the call of its session that it names and that waits here, which gets a 202
// without a body. For a call that has the flight's own answer, until that is closed, it goes on with the flight's id.
//
// Followers, whose Result is Collapsed, get the status, the body and of the header what is in sharedFields. Where
// the call's own stream or its unshareable answer comes back it lives until ctx ends or it is closed.
//
// A follower whose flight has passed MaxAge joins, once, the flight that has begun since, or begins it, and takes the
// first answer of the two; if both fail, the failure that is the likelier to have been sent. So nobody waits in vain for one
// that is stalled unless the server takes no other, nobody loses the answer of one that is merely slow, and there is at
// most one call more per key and MaxAge.
func (g *Flights) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	switch {
	case isCancel(c):
		return g.cancel(ctx, c)
	case !mayShare(c):
		return g.opts.Next.Call(ctx, c)
	}
	s := g.board(c)
	if s.f == nil {
		return g.opts.Next.Call(ctx, c)
	}
	w := g.waiters.begin(c, s)
	select {
	case <-s.f.done:
		return g.land(ctx, c, s, w)
	case <-w.gone():
		return accepted(), nil
	case <-ctx.Done():
		return depart(ctx, w, s)
	case <-s.old():
		return g.callAgain(ctx, c, s, w)
	}
}

// callAgain is Call for a follower whose flight is over its age.
func (g *Flights) callAgain(ctx context.Context, c *mcp.Call, first seat, w *waiter) (*mcp.Result, error) {
	if first.f.hasLanded() { // at the same moment
		return g.land(ctx, c, first, w)
	}
	second := g.board(c)
	if second.f == nil {
		if !w.end() {
			return accepted(), nil
		}
		first.leave(context.Cause(ctx))
		return g.opts.Next.Call(ctx, c)
	}
	if !w.also(second) {
		second.leave(errCancelled)
		return accepted(), nil
	}
	return g.eitherOf(ctx, c, first, second, w)
}

// eitherOf waits for two flights until one has something for the caller, or neither will. A channel becomes nil when its
// flight has landed with nothing.
func (g *Flights) eitherOf(ctx context.Context, c *mcp.Call, first, second seat, w *waiter) (*mcp.Result, error) {
	one, two := first.f.done, second.f.done
	for one != nil || two != nil {
		select {
		case <-w.gone():
			return accepted(), nil
		case <-ctx.Done():
			return depart(ctx, w, first, second)
		case <-one:
			if first.f.shared != nil || first.f.failure == nil && !second.leads && two != nil {
				return g.landOn(ctx, c, first, second, w)
			}
			one = nil
		case <-two:
			if second.f.failure == nil {
				return g.landOn(ctx, c, second, first, w)
			}
			two = nil
		}
	}
	if f := first.f.failure; f != nil && likelier(f.Sent, second.f.failure.Sent) {
		return g.landOn(ctx, c, first, second, w)
	}
	return g.landOn(ctx, c, second, first, w)
}

// likelier reports whether what has failed as a is likelier to have been sent than what has failed as b.
func likelier(a, b mcp.Sent) bool {
	return a != b && a.Likelier(b) == a
}

// depart leaves the seats of a call whose ctx has ended.
func depart(ctx context.Context, w *waiter, seats ...seat) (*mcp.Result, error) {
	if !w.end() {
		return accepted(), nil
	}
	for _, s := range seats {
		s.leave(context.Cause(ctx))
	}
	return nil, departure(ctx)
}

// landOn is land for one seat of two.
func (g *Flights) landOn(ctx context.Context, c *mcp.Call, s, other seat, w *waiter) (*mcp.Result, error) {
	if !w.settle(s) {
		return accepted(), nil
	}
	other.leave(context.Cause(ctx))
	return g.take(ctx, c, s, w)
}

// land takes what a flight that has landed has for the seat, if the call still waits.
func (g *Flights) land(ctx context.Context, c *mcp.Call, s seat, w *waiter) (*mcp.Result, error) {
	if !w.settle(s) {
		return accepted(), nil
	}
	return g.take(ctx, c, s, w)
}

// take is land for a call that is settled.
func (g *Flights) take(ctx context.Context, c *mcp.Call, s seat, w *waiter) (*mcp.Result, error) {
	f := s.f
	switch {
	case f.failure != nil:
		own := *f.failure
		return nil, &own
	case s.leads && f.shared != nil:
		if f.own.Events != nil {
			f.bind(ctx, f.own, w)
		}
		return f.own, nil
	case s.leads:
		return f.handOver(ctx, c, w)
	case f.shared != nil:
		g.meters.coalesced.Inc()
		return f.shared.result(c.ID(), g.opts.Buffers), nil
	}
	return g.opts.Next.Call(ctx, c)
}

// Fence lets no call join the flights of the scope that are in the air: whoever comes from now on gets an answer that
// was asked for later. Those that have joined wait on.
func (g *Flights) Fence(scope mcp.Scope) { g.fences.raise(scope) }

// Wait returns when the last flight has ended. No call comes after it has been called; the end of Base makes it soon.
func (g *Flights) Wait() { g.wg.Wait() }

// mayShare reports whether the call is one that can be sent under another id and says with whom it may share.
func mayShare(c *mcp.Call) bool {
	if c.Flight == (mcp.FlightKey{}) || c.Lane != mcp.LaneRequest || c.Message.Kind != mcp.KindRequest {
		return false
	}
	id := c.ID()
	return len(id) > 0 && id[0] != 'n'
}

// departure is what a caller gets whose ctx has ended.
func departure(ctx context.Context) *mcp.Failure {
	if f := causeOf(ctx); f != nil {
		f.Sent = mcp.SentUnknown
		return f
	}
	return &mcp.Failure{
		Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Message: "the agent left", Cause: context.Cause(ctx),
	}
}
