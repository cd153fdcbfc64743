package dispatch

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// run is one call on its way through the stage: a value of the goroutine that called Call.
type run struct {
	stage   *Stage
	call    *mcp.Call
	among   set // the endpoints to which it may go
	tried   set // those to which it went
	slot    Slot
	attempt attempt  // what it holds at an endpoint; nothing once a stream has it
	seen    mcp.Sent // the most that is known of earlier sendings
	resent  int      // times
	hedged  bool     // it may be one of two

	counted bool // it has given up a call that was counted as failed: that it gets no answer either is not counted once more
}

// enter takes a slot and an endpoint. A call that all breakers refuse does not wait for a slot before it hears so, and one
// that is to try an endpoint is sure of that before it waits.
func (r *run) enter(ctx context.Context) (f *mcp.Failure) {
	s := r.stage
	if s.endpoints.closed(r.among) == 0 && !r.begin() {
		return r.refuse()
	}
	slot, f := s.opts.Admission.Enter(ctx, r.call)
	if f != nil {
		r.leave()
		return f
	}
	r.slot = slot
	if r.attempt.at == nil && !r.begin() {
		r.leave()
		return r.refuse()
	}
	s.budget.add(time.Now())
	return nil
}

// begin takes an endpoint for the first sending.
func (r *run) begin() bool {
	if r.stage.take(&r.attempt, r.call, r.among) {
		return true
	}
	if passesOpenBreaker(r.call) {
		e := r.stage.endpoints.least(r.among)
		e.inFlight.Add(1)
		r.attempt = attempt{stage: r.stage, at: e, permit: noPermit{}, forced: true}
		return true
	}
	return false
}

// passesOpenBreaker reports whether calls that the server has begun to work on may be waiting for this one.
func passesOpenBreaker(c *mcp.Call) bool {
	return isAnswer(c.Message.Kind) || c.Lane == mcp.LaneResponse || c.Message.Method == mcp.MethodCancelled
}

// refuse is the failure of a call that no breaker allows.
func (r *run) refuse() *mcp.Failure {
	f := &mcp.Failure{
		Code: mcp.CodeUnavailable, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo,
		Message:    "the server failed too often just now and is not called for a while",
		RetryAfter: max(r.stage.endpoints.soonest(r.call, r.among), leastRetry),
	}
	if f.Cause = r.stage.endpoints.least(r.among).Breaker.Last(); f.Cause != nil {
		f.Message += ": " + clauseOf(f.Cause)
	}
	return f
}

// leastRetry is what a caller is told to wait at least.
const leastRetry = 100 * time.Millisecond

// leave lets go of what the call holds still: it has ended, or left it to a stream.
func (r *run) leave() {
	r.attempt.leave()
	r.slot.Leave()
}

// finish returns an outcome as Call does.
func (r *run) finish(o outcome) (*mcp.Result, error) {
	if f := o.failure; f != nil {
		if sent := f.Sent.Likelier(r.seen); sent != f.Sent {
			own := *f // it may be everybody's
			own.Sent = sent
			f = &own
		}
		return nil, f
	}
	r.stage.mark(r.call, o.result, r.attempt.at)
	o.result.Timing.Queue += r.slot.Waited()
	if o.goesOn() {
		r.track(&o)
	}
	return o.result, nil
}
