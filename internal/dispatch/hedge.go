package dispatch

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// sendFirst sends the call for the first time, with a second beside it where that may be.
func (r *run) sendFirst(ctx context.Context) outcome {
	s := r.stage
	if !s.hedges || !r.call.Hedgeable() {
		return r.attempt.send(ctx, r)
	}
	r.hedged = true
	begun := time.Now()
	var o outcome
	if after, known := s.latencies.p95(r.call.Message.Method); known && r.among.without(only(r.attempt.at)) != 0 {
		o = r.hedge(ctx, after)
	} else {
		o = r.attempt.send(ctx, r)
	}
	if o.good() {
		// Of a call that was outrun by its hedge, too: this is the least that it would have taken.
		s.latencies.add(r.call.Message.Method, time.Since(begun))
	}
	return o
}

// race is a call and the one beside it. The goroutines that send them only read it, but for their own attempt.
type race struct {
	run      run
	attempts [2]attempt
	cancels  [2]context.CancelCauseFunc
	started  int
	results  chan raced
}

// raced is how one of them ended.
type raced struct {
	outcome
	which    int // of the attempts
	panicked any // a panic of its goroutine, for the caller's
}

// hedge sends the call, and after that long to a second endpoint as well: one whose breaker is closed, once, from
// the budget. The first good answer counts, and the other call is cancelled and waited for. It takes no second slot.
func (r *run) hedge(ctx context.Context, after time.Duration) outcome {
	c := &race{run: *r, results: make(chan raced, 2)} // a copy: r stays where it is
	first := r.attempt.at
	c.start(ctx, r.attempt)
	r.attempt = attempt{}
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case got := <-c.results:
		return r.keep(c, got)
	case <-timer.C:
	}
	if second, ok := r.second(first); ok {
		r.tried = r.tried.with(first).with(second.at)
		c.start(ctx, second)
		return r.keep(c, r.winner(c))
	}
	return r.keep(c, <-c.results)
}

// second takes an endpoint for the call beside the first.
func (r *run) second(first *endpoint) (t attempt, ok bool) {
	s := r.stage
	among := s.endpoints.closed(r.among.without(only(first)))
	if among == 0 || !s.takeBudget() {
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

// start sends the call in a goroutine, which puts one result into the channel.
func (c *race) start(ctx context.Context, t attempt) {
	i := c.started
	c.started++
	c.attempts[i] = t
	ctx, c.cancels[i] = context.WithCancelCause(ctx)
	go func() {
		got := raced{which: i}
		defer func() {
			got.panicked = recover()
			c.results <- got
		}()
		got.outcome = c.attempts[i].send(ctx, &c.run)
	}()
}

// errOutrun ends the call that was slower. As a failure it is no agent's giving up.
var errOutrun = &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Message: "another endpoint was faster"}

// winner waits for both and returns the one that counts: the first good one, else the last. A panic comes before any answer.
func (r *run) winner(c *race) raced {
	winner := <-c.results
	over := winner.good() || winner.panicked != nil
	if over {
		c.cancels[1-winner.which](errOutrun)
	}
	loser := <-c.results
	if !over || loser.panicked != nil {
		winner, loser = loser, winner
	}
	r.seen = r.seen.Likelier(loser.sent())
	loser.drop()
	c.attempts[loser.which].leave()
	c.cancels[loser.which](errOutrun)
	return winner
}

// keep makes what the one that counts holds the run's again, and returns its outcome, or panics as its goroutine did. The
// context of the call lives as long as its answer.
func (r *run) keep(c *race, got raced) outcome {
	r.attempt = c.attempts[got.which]
	end := func() { c.cancels[got.which](errOutrun) }
	if got.panicked != nil {
		end()
		panic(got.panicked)
	}
	if got.result == nil {
		end()
		return got.outcome
	}
	release := got.result.Release
	got.result.Release = func() {
		end()
		if release != nil {
			release()
		}
	}
	return got.outcome
}
