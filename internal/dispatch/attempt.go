package dispatch

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// attempt is what a call holds at an endpoint: its place there, and what its breaker is to be told of the last sending, where
// there were several. That is reported when the endpoint is let go. The zero attempt holds nothing. It is used by
// one goroutine at a time, and moves with the answer.
type attempt struct {
	stage *Stage
	at    *endpoint // nil: none, or let go
	ticket
	forced bool         // the breaker said no
	health health       // what the last sending said of the endpoint, as far as it is known
	cause  *mcp.Failure // of that, if it failed
	begun  time.Time    // where there is a SlowCall, else zero; the wait for a connection is not the server's
}

// ticket is what the breaker has allowed the call as.
type ticket struct {
	number uint64
	untold bool // what came of it has to be reported still
	probe  bool // it tries whether the endpoint works again
}

// take makes t an attempt at the one of these endpoints with the least in flight of which the breaker allows one for the call,
// and reports whether there is one.
func (s *Stage) take(t *attempt, c *mcp.Call, among set) bool {
	for e := s.endpoints.least(among); e != nil; e = s.endpoints.least(among) {
		if allowed, ok := s.endpoints.allow(e, c); ok {
			e.inFlight.Add(1)
			*t = attempt{stage: s, at: e, ticket: allowed}
			return true
		}
		among = among.without(only(e))
	}
	return false
}

// learn notes what the last sending said, and the failure that it was, if it was one.
func (t *attempt) learn(h health, f *mcp.Failure) {
	switch {
	case t.at == nil:
		return
	case h == healthy && t.slow():
		h, f = failing, errSlow
	case h == unknown && f != nil && !f.Counted && isTimeout(f.Reason) && t.slow():
		h = failing
	}
	t.health, t.cause = h, f
	t.stage.note(t.at, h, f)
}

// tell tells the breaker what came of the last sending. Only the first time counts.
func (t *attempt) tell() {
	if t.forced && t.health == healthy {
		t.at.Breaker.Alive()
	}
	if !t.untold {
		return
	}
	t.untold = false
	switch t.health {
	case healthy:
		t.at.Breaker.Report(t.number, nil)
	case failing:
		t.at.Breaker.Report(t.number, t.cause)
	default:
		t.at.Breaker.Report(t.number, context.Canceled)
	}
}

// slow reports whether the call has taken longer than it may by the operator's word.
func (t *attempt) slow() bool {
	longest := t.stage.opts.SlowCall
	return longest > 0 && time.Since(t.begun) > longest
}

// leave tells the breaker, and lets the endpoint go.
func (t *attempt) leave() {
	if t.at == nil {
		return
	}
	t.tell()
	t.at.inFlight.Add(-1)
	t.at = nil
}

// send sends the run's call to where t is, and learns what came of it. Of an answer that goes on that is not known yet,
// but for a bad status.
func (t *attempt) send(ctx context.Context, r *run) outcome {
	if t.stage.opts.SlowCall > 0 {
		t.begun = time.Now()
	}
	t.health, t.cause = unknown, nil
	res, err := t.at.Caller.Call(ctx, r.call)
	if err != nil {
		f := failureOf(err)
		if r.counted {
			own := *f
			own.Counted, f = true, &own
		}
		return t.failed(f)
	}
	t.begun = t.begun.Add(res.Timing.Queue)
	o := outcome{result: res}
	t.judge(r.call, &o)
	if res.Events != nil && answerDue(r.call, res.Status) && r.waits() {
		if f := o.await(); f != nil {
			return t.failed(f)
		}
	}
	return o
}

// judge learns what an answer's head, or all of it, says.
func (t *attempt) judge(c *mcp.Call, o *outcome) {
	h, cause := healthOfAnswer(c, o.result)
	if h == unknown && t.probe && losesSession(c, o.result) {
		h = healthy // a server that has lost a session is there
	}
	switch {
	case !o.goesOn() || h == failing:
		t.learn(h, cause)
	case t.probe:
		// A probe is over with the head of a stream: a tool may run for minutes, and nobody else may try meanwhile.
		t.learn(h, cause)
		t.tell()
	}
}

// failed is the outcome of a sending that failed.
func (t *attempt) failed(f *mcp.Failure) outcome {
	t.learn(healthOfFailure(f), f)
	return outcome{failure: f}
}
