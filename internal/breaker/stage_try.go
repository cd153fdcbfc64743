package breaker

import (
	"context"
	"errors"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// try is one sending: the place that it holds at an endpoint, and the report that it owes to the breaker. The zero try
// holds and owes nothing. It is used by one goroutine at a time, and moves with the answer.
type try struct {
	stage    *Stage
	at       *endpoint // nil: none, or let go
	permit   Permit
	reported bool
	forced   bool          // the breaker was not asked, or said no
	begun    time.Time     // where somebody wants to know how long it takes, else zero
	queued   time.Duration // of that, waiting for a connection
}

// take makes t a try at one of these endpoints, if a breaker allows one.
func (s *Stage) take(t *try, among set) bool {
	got, ok := s.endpoints.take(among)
	if ok {
		*t = got
		t.stage = s
	}
	return ok
}

// force makes t a try at e that no breaker has to allow.
func (t *try) force(s *Stage, e *endpoint) {
	e.inFlight.Add(1)
	*t = try{stage: s, at: e, forced: true}
}

// report tells the breaker what came of it. Only the first report counts.
func (t *try) report(v Verdict, cause error) {
	if t.at == nil || t.reported {
		return
	}
	t.reported = true
	if v == Succeeded && t.slow() {
		v, cause = Failed, errSlow
	}
	t.permit.Done(v, cause)
	if cause != nil {
		t.stage.note(t.at, cause)
	}
	switch v {
	case Succeeded:
		if t.forced {
			t.at.alive()
		}
	case Failed, Refused:
		t.stage.endpoints.spread()
	}
}

// reportFailure tells the breaker of a failure.
func (t *try) reportFailure(f *mcp.Failure) {
	v := verdictOf(f)
	if v == Ignored && isTimeout(f.Reason) && t.slow() {
		v = Failed
	}
	t.report(v, f)
}

// slow reports whether the call has taken longer than it may by the operator's word. The wait for a connection is not the
// server's.
func (t *try) slow() bool {
	most := t.stage.opts.SlowCall
	return most > 0 && time.Since(t.begun)-t.queued > most
}

// leave lets the endpoint go. What has not been reported is no news.
func (t *try) leave() {
	if t.at == nil {
		return
	}
	t.report(Ignored, nil)
	t.at.inFlight.Add(-1)
	t.at = nil
}

// sendTo sends the run's call to where t is. The outcome holds the endpoint only for an answer that goes on.
func (t *try) sendTo(ctx context.Context, r *run) outcome {
	s := t.stage
	if s.opts.SlowCall > 0 || s.hedges {
		t.begun = time.Now()
	}
	res, err := t.at.Caller.Call(ctx, r.call)
	if err != nil {
		return t.failed(failureOf(err))
	}
	t.queued = res.Timing.Queue
	v, cause := verdictOfStatus(res.Status)
	streams := res.Events != nil || res.Raw != nil
	if !streams || v == Failed || t.permit.Probe() {
		// A probe is over with the head of a stream: a tool may run for minutes, and nobody else may try meanwhile.
		t.report(v, cause)
	}
	o := outcome{result: res, from: t.at}
	if res.Events != nil && owesAnswer(r.call, res.Status) && r.waits() {
		if f := o.await(); f != nil {
			return t.failed(f)
		}
	}
	if streams {
		o.try = *t
		*t = try{}
	} else {
		t.leave()
	}
	return o
}

// failed ends t with a failure.
func (t *try) failed(f *mcp.Failure) outcome {
	t.reportFailure(f)
	from := t.at
	t.leave()
	return outcome{failure: f, from: from}
}

// patience is how long a stream may send nothing but comments before it is handed on as it is: an agent has to be kept
// company as well.
const patience = 5 * time.Second

// await takes the first event of a stream, comments before it excepted. Until then the call can be sent again without the
// agent's notice. A stream that fails is closed.
func (o *outcome) await() *mcp.Failure {
	defer func() {
		if o.first == nil { // or it panicked
			_ = o.result.Close()
		}
	}()
	since := time.Now()
	for {
		ev, err := o.result.Events.Next()
		if err != nil {
			return endOfStream(err)
		}
		if !isComment(&ev) || time.Since(since) > patience {
			o.first = &ev
			return nil
		}
	}
}

// endOfStream is the failure of a stream that ended before the response.
func endOfStream(err error) *mcp.Failure {
	var f *mcp.Failure
	if errors.As(err, &f) {
		return f
	}
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: errNoAnswer.Error(), Cause: err,
	}
}

// isComment reports whether an event means nothing to anybody.
func isComment(ev *mcp.Event) bool {
	return ev.Data == nil && !ev.HasID && ev.Retry == nil && len(ev.Name) == 0 && ev.Failure == nil
}

// owesAnswer reports whether the stream of a call is to carry its answer.
func owesAnswer(c *mcp.Call, status int) bool {
	return c.Lane == mcp.LaneRequest && status >= http.StatusOK && status < http.StatusMultipleChoices
}
