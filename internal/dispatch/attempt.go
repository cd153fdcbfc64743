package dispatch

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// attempt is what a call holds at an endpoint: its place there, and the breaker's permit, of the last sending where there were
// several. What came of that one is reported when the endpoint is let go. The zero attempt holds nothing. It is used by
// one goroutine at a time, and moves with the answer.
type attempt struct {
	stage    *Stage
	at       *endpoint // nil: none, or let go
	permit   Permit
	health   health // what the last sending said of the endpoint, as far as it is known
	cause    error  // of that, if it failed
	reported bool
	forced   bool      // the breaker was not asked, or said no
	begun    time.Time // where somebody wants to know how long it takes, else zero; the wait for a connection is not the server's
}

// take makes t an attempt at the one of these endpoints with the least in flight of which the breaker allows one for the call,
// and reports whether there is one.
func (s *Stage) take(t *attempt, c *mcp.Call, among set) bool {
	for e := s.endpoints.least(among); e != nil; e = s.endpoints.least(among) {
		if p, ok := s.endpoints.allow(e, c); ok {
			e.inFlight.Add(1)
			*t = attempt{stage: s, at: e, permit: p}
			return true
		}
		among = among.without(only(e))
	}
	return false
}

// renew reports whether the call may be sent to the same endpoint once more. The permit that it had, which must not be a
// probe's, is forgotten: what came of it is not reported.
func (t *attempt) renew(c *mcp.Call) bool {
	p, ok := t.stage.endpoints.allow(t.at, c)
	if ok {
		t.permit = p
	}
	return ok
}

// learn notes what the last sending said.
func (t *attempt) learn(h health, cause error) {
	if t.at == nil {
		return
	}
	if h == healthy && t.slow() {
		h, cause = failing, errSlow
	}
	t.health, t.cause = h, cause
	t.stage.note(t.at, h, cause)
}

// learnFailure notes that the last sending failed.
func (t *attempt) learnFailure(f *mcp.Failure) {
	h := healthOfFailure(f)
	if h == unknown && !f.Counted && isTimeout(f.Reason) && t.slow() {
		h = failing
	}
	t.learn(h, f)
}

// report tells the breaker what came of the last sending. Only the first report counts.
func (t *attempt) report() {
	if t.at == nil || t.reported {
		return
	}
	t.reported = true
	switch t.health {
	case healthy:
		t.permit.Done(nil)
		if t.forced {
			t.at.Breaker.Alive()
		}
	case failing:
		t.permit.Done(t.cause)
	default:
		t.permit.Ignore()
	}
}

// slow reports whether the call has taken longer than it may by the operator's word.
func (t *attempt) slow() bool {
	longest := t.stage.opts.SlowCall
	return longest > 0 && time.Since(t.begun) > longest
}

// leave reports, and lets the endpoint go. Where nothing was learnt, that is no news.
func (t *attempt) leave() {
	if t.at == nil {
		return
	}
	t.report()
	t.at.inFlight.Add(-1)
	t.at = nil
}

// send sends the run's call to where t is, and learns what came of it. Of an answer that goes on that is not known yet,
// but for a bad status.
func (t *attempt) send(ctx context.Context, r *run) outcome {
	s := t.stage
	if s.opts.SlowCall > 0 || s.hedges {
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
	if h == unknown && t.permit.Probe() && losesSession(c, o.result) {
		h = healthy // a server that has lost a session is there
	}
	switch {
	case !o.goesOn() || h == failing:
		t.learn(h, cause)
	case t.permit.Probe():
		// A probe is over with the head of a stream: a tool may run for minutes, and nobody else may try meanwhile.
		t.learn(h, cause)
		t.report()
	}
}

// failed is the outcome of a sending that failed.
func (t *attempt) failed(f *mcp.Failure) outcome {
	t.learnFailure(f)
	return outcome{failure: f}
}
