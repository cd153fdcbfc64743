// Package batch lets equal calls that are under way at the same time go to the server once.
//
// Flights is a mcp.Caller. It promises:
//   - calls with the same Call.Flight share one call of the stage behind, which is the first one's as it came, id included;
//     the others get the answer under their own ids;
//   - a flight belongs to those who wait for it: its context is the daemon's, each waiter leaves alone, the last one out
//     cancels it. One that takes longer than MaxAge takes nobody along any more;
//   - nothing is remembered: a failure reaches those who waited for it, and the next call starts anew. A panic is the
//     leader's alone;
//   - an answer that may not be shared goes to the leader as it came, and the others go by themselves, all at once. For a
//     while after that nobody waits for anybody under that key.
//
// It leaves to others: which calls may share and under which key (Call.Flight), which answers (Result.Shareable), every
// timeout of a call that it waits for, and what is stored.
package batch

import (
	"bytes"
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
	// Partition says whose a call is, for cancellations without a session; nil: those name nobody who waits here.
	Partition func(*mcp.Call) [32]byte
	Buffers   *mcp.BufferPool // for the bodies of answers; nil: none is used again
	Metrics   *Metrics        // nil: not counted
	Log       *slog.Logger    // nil: silent
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
	fences  fences
	pending pendingCalls
	shards  [shardCount]shard
	wg      sync.WaitGroup // the flights under way
}

// New returns Flights for the calls of one upstream. It panics without a Next.
func New(o Options) *Flights {
	if o.Next == nil {
		panic("batch: Flights without a Next (this is a bug)")
	}
	o.complete()
	g := &Flights{opts: o, meters: o.Metrics.upstream(o.Upstream)}
	g.pending.by = map[string][]*pendingCall{}
	for i := range g.shards {
		g.shards[i].init()
	}
	return g
}

// Call answers the call, with the answer of an equal one under way if there is one. A call that does not say with whom it
// may share, one that is no request, and one whose id is null go to the stage behind as they are.
//
// The first of equal calls leads: it calls the stage behind itself, under the flight's context, and returns no sooner than
// that does, though its own ctx has ended and others wait on. A follower fails at once with its ctx. Either fails with the
// *mcp.Failure that is ctx's cause, Sent unknown, or else as ReasonCanceled with code 0.
//
// A legacy `notifications/cancelled` goes on as it is. Where it names a call that leads a flight, those who follow it go by
// themselves first; where it names one that follows, that gets a 202 without a body, as the notification does.
//
// Followers, whose Result is Collapsed, get the status, the body and of the header what is in sharedFields. The leader has
// its own answer as it came, which lives until ctx ends or it is closed.
//
// A follower whose flight has passed MaxAge joins, once, the flight that has begun since, or begins it, and takes the
// first answer of the two; if both fail, the failure that is the likelier to have been sent. So nobody waits in vain for one
// that is stalled unless the server takes no other, nobody loses the answer of one that is merely slow, and there is at
// most one call more per key and MaxAge.
func (g *Flights) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	switch {
	case c.IsCancel():
		return g.cancel(ctx, c)
	case !mayShare(c):
		return g.opts.Next.Call(ctx, c)
	}
	w := g.join(c)
	switch {
	case w.f == nil:
		return g.opts.Next.Call(ctx, c)
	case w.leads:
		return g.lead(ctx, c, w)
	}
	return g.follow(ctx, c, w)
}

// lead runs the flight of the call. The flight outlives ctx where others wait for it, and the caller with it: the call's
// body is the caller's.
func (g *Flights) lead(ctx context.Context, c *mcp.Call, w waiter) (*mcp.Result, error) {
	p := g.pending.begin(mcp.CancelKey(c, c.ID(), g.opts.Partition), w)
	stays := context.AfterFunc(ctx, func() { w.leave(context.Cause(ctx)) })
	w.f.run(c)
	p.end()
	if !stays() {
		return nil, mcp.Left(ctx, mcp.SentUnknown)
	}
	return g.take(ctx, c, w)
}

// follow waits for the flight of another call.
func (g *Flights) follow(ctx context.Context, c *mcp.Call, w waiter) (*mcp.Result, error) {
	p := g.pending.begin(mcp.CancelKey(c, c.ID(), g.opts.Partition), w)
	select {
	case <-w.ready():
		return g.deliver(ctx, c, w, p)
	case <-p.gone():
		return mcp.Accepted(), nil
	case <-ctx.Done():
		return depart(ctx, p, w)
	case <-w.f.aged:
		return g.callAgain(ctx, c, w, p)
	}
}

// callAgain is follow for a flight that is over its age.
func (g *Flights) callAgain(ctx context.Context, c *mcp.Call, first waiter, p *pendingCall) (*mcp.Result, error) {
	if first.isReady() { // at the same moment
		return g.deliver(ctx, c, first, p)
	}
	second := g.join(c)
	if second.f == nil {
		if !p.end() {
			return mcp.Accepted(), nil
		}
		first.leave(context.Cause(ctx))
		return g.opts.Next.Call(ctx, c)
	}
	if second.leads {
		own := *c
		own.Body = bytes.Clone(c.Body) // the caller may have the first one's answer, and be gone, before this ends
		go second.f.run(&own)
	}
	if !p.also(second) {
		second.leave(errCancelled)
		return mcp.Accepted(), nil
	}
	return g.eitherOf(ctx, c, first, second, p)
}

// eitherOf waits for two flights until one has something for the caller, or neither will. A channel becomes nil when its
// flight has ended with nothing.
func (g *Flights) eitherOf(ctx context.Context, c *mcp.Call, first, second waiter, p *pendingCall) (*mcp.Result, error) {
	one, two := first.ready(), second.ready()
	for one != nil || two != nil {
		select {
		case <-p.gone():
			return mcp.Accepted(), nil
		case <-ctx.Done():
			return depart(ctx, p, first, second)
		case <-one:
			if first.shared() != nil || first.failure() == nil && !second.leads && two != nil {
				return g.deliverOne(ctx, c, first, second, p)
			}
			one = nil
		case <-two:
			if second.failure() == nil {
				return g.deliverOne(ctx, c, second, first, p)
			}
			two = nil
		}
	}
	if f := first.failure(); f != nil && likelier(f.Sent, second.failure().Sent) {
		return g.deliverOne(ctx, c, first, second, p)
	}
	return g.deliverOne(ctx, c, second, first, p)
}

// likelier reports whether what has failed as a is likelier to have been sent than what has failed as b.
func likelier(a, b mcp.Sent) bool {
	return a != b && a.Likelier(b) == a
}

// depart leaves the flights of a call whose ctx has ended.
func depart(ctx context.Context, p *pendingCall, waiters ...waiter) (*mcp.Result, error) {
	if !p.end() {
		return mcp.Accepted(), nil
	}
	for _, w := range waiters {
		w.leave(context.Cause(ctx))
	}
	return nil, mcp.Left(ctx, mcp.SentUnknown)
}

// deliverOne is deliver for one flight of two.
func (g *Flights) deliverOne(ctx context.Context, c *mcp.Call, w, other waiter, p *pendingCall) (*mcp.Result, error) {
	if !p.end() {
		return mcp.Accepted(), nil
	}
	other.leave(context.Cause(ctx))
	return g.take(ctx, c, w)
}

// deliver takes what there is for the waiter, if its call still waits.
func (g *Flights) deliver(ctx context.Context, c *mcp.Call, w waiter, p *pendingCall) (*mcp.Result, error) {
	if !p.end() {
		return mcp.Accepted(), nil
	}
	return g.take(ctx, c, w)
}

// take takes what there is for a waiter that is ready. A follower without anything gives its place up and goes by itself.
func (g *Flights) take(ctx context.Context, c *mcp.Call, w waiter) (*mcp.Result, error) {
	if f := w.failure(); f != nil {
		own := *f
		return nil, &own
	}
	if w.leads {
		if goesOn(w.f.own) {
			w.f.bind(ctx, w.f.own)
		}
		return w.f.own, nil
	}
	if s := w.shared(); s != nil {
		g.meters.coalesced.Inc()
		return s.result(c.ID(), g.opts.Buffers), nil
	}
	w.leave(nil)
	return g.opts.Next.Call(ctx, c)
}

// cancel takes a cancellation to those who wait here, and on to the server where it is not a follower's alone.
func (g *Flights) cancel(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	name := mcp.CancelKey(c, c.Message.RequestID.Of(c.Body), g.opts.Partition)
	led, released := g.pending.cancelled(name, c.Message.IsPlain())
	for _, f := range led {
		f.letGo()
	}
	if released == nil {
		return g.opts.Next.Call(ctx, c)
	}
	for _, w := range released {
		w.leave(errCancelled)
	}
	return mcp.Accepted(), nil
}

// Fence lets no call join the flights of the scope that are under way: whoever comes from now on gets an answer that
// was asked for later. Those that have joined wait on.
func (g *Flights) Fence(scope mcp.Scope) { g.fences.raise(scope) }

// Wait returns when the last flight has ended. No call comes after it has been called; the end of Base makes it soon.
func (g *Flights) Wait() { g.wg.Wait() }

// mayShare reports whether the call is one of which the answer can be given under another id, and says with whom it may
// share.
func mayShare(c *mcp.Call) bool {
	if c.Flight == (mcp.FlightKey{}) || c.Lane != mcp.LaneRequest || c.Message.Kind != mcp.KindRequest {
		return false
	}
	id := c.ID()
	return len(id) > 0 && id[0] != 'n'
}
