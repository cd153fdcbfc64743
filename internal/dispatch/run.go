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
	slot    func()
	waited  time.Duration // for the slot
	attempt attempt       // what it holds at an endpoint; nothing once a stream has it
	seen    mcp.Sent      // the most that is known of earlier sendings
	resent  int           // times
	hedged  bool          // it may be one of two

	counted bool // it has given up a call that was counted as failed: that it gets no answer either is not counted once more
}

// enter takes a slot and an endpoint. A call that all breakers refuse is told so before it waits for a slot, and one
// that is to try an endpoint is sure of that before it waits.
func (r *run) enter(ctx context.Context) (f *mcp.Failure) {
	s := r.stage
	if s.endpoints.closed(r.among) == 0 && !r.begin() {
		return s.refuse(r.call, r.among)
	}
	if r.slot, r.waited, f = s.opts.Admission.Enter(ctx, r.call); f != nil {
		return f
	}
	if r.attempt.at == nil && !r.begin() {
		return s.refuse(r.call, r.among)
	}
	s.budget.add(time.Now())
	return nil
}

// begin takes an endpoint for the first sending.
func (r *run) begin() bool {
	if r.stage.take(&r.attempt, r.call, r.among) {
		return true
	}
	if !passesOpenBreaker(r.call) {
		return false
	}
	r.attempt = attempt{stage: r.stage, at: r.stage.endpoints.least(r.among), forced: true}
	r.attempt.at.inFlight.Add(1)
	return true
}

// passesOpenBreaker reports whether calls that the server has begun to work on may be waiting for this one.
func passesOpenBreaker(c *mcp.Call) bool {
	return isAnswer(c.Message.Kind) || c.Lane == mcp.LaneResponse || c.Message.Method == mcp.MethodCancelled
}

// leave lets go of what the call holds still: it has ended, or left it to a stream.
func (r *run) leave() {
	r.attempt.leave()
	if r.slot != nil {
		r.slot()
	}
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
	o.result.Timing.Queue += r.waited
	if o.goesOn() {
		r.track(&o)
	}
	return o.result, nil
}
