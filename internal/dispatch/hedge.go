package dispatch

import (
	"cmp"
	"context"
	"sync/atomic"
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

// race is a call and the one beside it. What sends them only reads it, but for its own sending.
type race struct {
	run           run
	first, second sending
	winner        atomic.Pointer[sending] // the first with a good answer, or a panic
	last          atomic.Pointer[sending] // the last without
}

// sending is one of the two and how it ended.
type sending struct {
	attempt
	outcome
	cancel   context.CancelCauseFunc
	panicked any // for the caller's goroutine
}

// errOutrun ends the call that was slower. As a failure it is no agent's giving up.
var errOutrun = &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Message: "another endpoint was faster"}

// hedge sends the call, and after that long to a second endpoint as well: one whose breaker is closed, once, from
// the budget. The first good answer counts, and the other call is cancelled and waited for. It takes no second slot. The context
// of a call lives as long as its answer.
func (r *run) hedge(ctx context.Context, after time.Duration) outcome {
	c := &race{run: *r, first: sending{attempt: r.attempt}} // a copy: r is not for other goroutines
	r.attempt = attempt{}
	var contexts [2]context.Context
	contexts[0], c.first.cancel = context.WithCancelCause(ctx)
	contexts[1], c.second.cancel = context.WithCancelCause(ctx)
	ended := make(chan struct{})
	timer := time.AfterFunc(after, func() {
		defer close(ended)
		if c.winner.Load() == nil && c.run.stage.takeSecond(&c.second.attempt, &c.run, c.first.at) {
			c.send(contexts[1], &c.second, &c.first)
		}
	})
	c.send(contexts[0], &c.first, &c.second)
	if !timer.Stop() {
		<-ended
	}
	return r.keep(c)
}

// takeSecond takes an endpoint for the call beside the first.
func (s *Stage) takeSecond(t *attempt, r *run, first *endpoint) bool {
	among := s.endpoints.closed(r.among.without(only(first)))
	if among == 0 || !s.takeBudget() {
		return false
	}
	if !s.take(t, r.call, among) {
		s.budget.giveBack()
		return false
	}
	s.meter.count(resendHedge)
	s.hedged.Add(1)
	return true
}

// send sends one of the two, and cancels the other if it is the first that came to something.
func (c *race) send(ctx context.Context, own, other *sending) {
	defer func() {
		own.panicked = recover()
		if !own.good() && own.panicked == nil {
			c.last.Store(own)
		} else if c.winner.CompareAndSwap(nil, own) {
			other.cancel(errOutrun)
		}
	}()
	own.outcome = own.attempt.send(ctx, &c.run)
}

// keep makes what the one that counts holds the run's again, lets go of the other's, and returns the outcome, or panics as its
// goroutine did. The one that counts is the winner, but for a panic of the other; without a winner it is the last.
func (r *run) keep(c *race) outcome {
	counts, other := cmp.Or(c.winner.Load(), c.last.Load()), &c.second
	if counts == other {
		other = &c.first
	}
	if other.panicked != nil {
		counts, other = other, counts
	}
	if other.at != nil {
		r.tried = r.tried.with(counts.at).with(other.at)
		r.seen = r.seen.Likelier(other.sent())
		other.drop()
		other.attempt.leave()
	}
	other.cancel(errOutrun)
	r.attempt = counts.attempt
	if counts.result != nil && counts.panicked == nil {
		counts.result.OnClose(func() { counts.cancel(errOutrun) })
		return counts.outcome
	}
	counts.cancel(errOutrun)
	if counts.panicked != nil {
		panic(counts.panicked)
	}
	return counts.outcome
}
