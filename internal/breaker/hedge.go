package breaker

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// sendFirst sends the call for the first time, with a second beside it where that may be.
func (r *run) sendFirst(ctx context.Context) outcome {
	s := r.stage
	if !s.hedges || !r.call.Hedgeable() {
		return r.try.sendTo(ctx, r)
	}
	r.hedged = true
	begun := time.Now()
	var o outcome
	if after, known := s.latencies.p95(r.call.Message.Method); known && r.among.without(only(r.try.at.index)) != 0 {
		o = r.hedge(ctx, after)
	} else {
		o = r.try.sendTo(ctx, r)
	}
	if o.good() {
		// Of a call that was outrun by its hedge, too: this is the least that it would have taken.
		s.latencies.add(r.call.Message.Method, time.Since(begun))
	}
	return o
}

// race is a call and the one beside it.
type race struct {
	run     *run
	ctx     context.Context
	results chan raced
	running int
	cancels [2]func()
}

// raced is how one of them ended.
type raced struct {
	outcome
	try
	which    int
	panicked any // a panic of its goroutine, for the caller's
}

// hedge sends the call, and after that long to a second endpoint as well: one that its breaker does not suspect, once, from
// the budget. The first good answer counts, and the other call is cancelled and waited for. It takes no second slot.
func (r *run) hedge(ctx context.Context, after time.Duration) outcome {
	own := *r // what the goroutines see; r stays where it is
	c := &race{run: &own, ctx: ctx, results: make(chan raced, 2)}
	first := r.try.at
	c.start(r.try)
	r.try, own.try = try{}, try{}
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case got := <-c.results:
		return r.keep(c.only(got))
	case <-timer.C:
	}
	if second, ok := own.second(first); ok {
		c.start(second)
		r.tried = r.tried.with(first).with(second.at)
	}
	got := c.settle()
	r.seen = r.seen.Likelier(c.run.seen)
	return r.keep(got)
}

// keep makes what the call holds at an endpoint the run's again.
func (r *run) keep(got raced) outcome {
	r.try = got.try
	return got.outcome
}

// second takes an endpoint for the call beside the first.
func (r *run) second(first *endpoint) (try, bool) {
	s := r.stage
	var t try
	among := s.endpoints.closed(r.among.without(only(first.index)))
	if among == 0 {
		return t, false
	}
	if !s.budget.take(time.Now()) {
		s.meter.count(resendExhausted)
		return t, false
	}
	if !s.take(&t, r.call, among) {
		s.budget.giveBack()
		return t, false
	}
	s.meter.count(resendHedge)
	s.hedged.Add(1)
	return t, true
}

// errOutrun ends the call that was slower. As a failure it is no agent's giving up.
var errOutrun = &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Message: "another endpoint was faster"}

// start sends the call in a goroutine, which puts one result into the channel.
func (c *race) start(t try) {
	which := c.running
	c.running++
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.cancels[which] = func() { cancel(errOutrun) }
	go func() {
		got := raced{which: which}
		defer func() {
			if got.panicked = recover(); got.panicked != nil {
				t.leave()
			}
			c.results <- got
		}()
		got.outcome = t.sendTo(ctx, c.run)
		got.try = t
	}()
}

// settle waits for all calls and returns the outcome that counts: the first good one, else the last. A panic comes before
// any answer.
func (c *race) settle() raced {
	winner := <-c.results
	if c.running == 1 {
		return c.only(winner)
	}
	over := winner.good() || winner.panicked != nil
	if over {
		c.cancels[1-winner.which]()
	}
	loser := <-c.results
	if !over || loser.panicked != nil {
		winner, loser = loser, winner
	}
	c.run.seen = loser.sent()
	loser.drop()
	loser.try.leave()
	c.cancels[loser.which]()
	return c.only(winner)
}

// only returns the outcome that is left, with its own context, or panics as its goroutine did.
func (c *race) only(got raced) raced {
	got.cancel = c.cancels[got.which]
	if got.result == nil {
		got.cancel()
	}
	if got.panicked != nil {
		panic(got.panicked)
	}
	return got
}
