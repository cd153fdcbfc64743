package breaker

import (
	"context"
	"errors"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// try is what a call holds at an endpoint: its place there, and the breaker's permit, of the last sending where there were
// several. What came of that one is reported when the endpoint is let go. The zero try holds and owes nothing. It is used by
// one goroutine at a time, and moves with the answer.
type try struct {
	stage    *Stage
	at       *endpoint // nil: none, or let go
	permit   Permit
	verdict  Verdict // what came of the last sending, as far as it is known
	cause    error   // of that, if it failed
	reported bool
	forced   bool          // the breaker was not asked, or said no
	begun    time.Time     // where somebody wants to know how long it takes, else zero
	queued   time.Duration // of that, waiting for a connection
}

// take makes t a try at one of these endpoints, if a breaker allows one for the call.
func (s *Stage) take(t *try, c *mcp.Call, among set) bool {
	got, ok := s.endpoints.take(c, among)
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

// renew reports whether the call may be sent to the same endpoint once more. The permit that it had, which must not be a
// probe's, is forgotten: what came of it is not reported.
func (t *try) renew(c *mcp.Call) bool {
	p, ok := t.at.allow(c)
	if ok {
		t.permit = p
	}
	return ok
}

// learn notes what came of the last sending.
func (t *try) learn(v Verdict, cause error) {
	if t.at == nil {
		return
	}
	if v == Succeeded && t.slow() {
		v, cause = Failed, errSlow
	}
	t.verdict, t.cause = v, cause
	t.at.counts(v, cause)
	if cause != nil {
		t.stage.note(t.at, cause)
	}
}

// learnFailure notes that the last sending failed.
func (t *try) learnFailure(f *mcp.Failure) {
	v := verdictOf(f)
	if v == Ignored && !f.Counted && isTimeout(f.Reason) && t.slow() {
		v = Failed
	}
	t.learn(v, f)
}

// report tells the breaker what came of the last sending. Only the first report counts.
func (t *try) report() {
	if t.at == nil || t.reported {
		return
	}
	t.reported = true
	t.permit.Done(t.verdict, t.cause)
	switch t.verdict {
	case Succeeded:
		if t.forced {
			t.at.alive()
		}
	case Failed, Refused:
		t.stage.endpoints.spread()
	}
}

// slow reports whether the call has taken longer than it may by the operator's word. The wait for a connection is not the
// server's.
func (t *try) slow() bool {
	most := t.stage.opts.SlowCall
	return most > 0 && time.Since(t.begun)-t.queued > most
}

// leave reports, and lets the endpoint go. Where nothing was learnt, that is no news.
func (t *try) leave() {
	if t.at == nil {
		return
	}
	t.report()
	t.at.inFlight.Add(-1)
	t.at = nil
}

// sendTo sends the run's call to where t is, and learns what came of it. Of an answer that goes on that is not known yet,
// but for a bad status.
func (t *try) sendTo(ctx context.Context, r *run) outcome {
	s := t.stage
	if s.opts.SlowCall > 0 || s.hedges {
		t.begun = time.Now()
	}
	t.verdict, t.cause, t.queued = Ignored, nil, 0
	res, err := t.at.Caller.Call(ctx, r.call)
	if err != nil {
		f := failureOf(err)
		if r.counted {
			own := *f
			own.Counted, f = true, &own
		}
		return t.failed(f)
	}
	t.queued = res.Timing.Queue
	o := outcome{result: res, from: t.at}
	t.judge(r.call, &o)
	if res.Events != nil && owesAnswer(r.call, res.Status) && r.waits() {
		if f := o.await(); f != nil {
			return t.failed(f)
		}
	}
	return o
}

// judge learns what an answer's head, or all of it, says.
func (t *try) judge(c *mcp.Call, o *outcome) {
	v, cause := verdictOfAnswer(c, o.result)
	if v == Ignored && t.permit.Probe() && losesSession(c, o.result) {
		v = Succeeded // a server that has lost a session is there
	}
	switch {
	case !o.goesOn() || v == Failed:
		t.learn(v, cause)
	case t.permit.Probe():
		// A probe is over with the head of a stream: a tool may run for minutes, and nobody else may try meanwhile.
		t.learn(v, cause)
		t.report()
	}
}

// failed is the outcome of a sending that failed.
func (t *try) failed(f *mcp.Failure) outcome {
	t.learnFailure(f)
	return outcome{failure: f, from: t.at}
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
	var comments []byte
	for {
		ev, err := o.result.Events.Next()
		if err != nil {
			return endOfStream(err)
		}
		if !isComment(&ev) || time.Since(since) > patience {
			if comments != nil {
				ev.Raw = append(comments, ev.Raw...)
			}
			o.first = &ev
			return nil
		}
		if len(comments)+len(ev.Raw) <= maxComments {
			comments = append(comments, ev.Raw...)
		}
	}
}

// maxComments bounds the comments that are kept until the first event, in bytes.
const maxComments = 4 << 10

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
	return ev.Data == nil && !ev.HasID && ev.Retry == nil && len(ev.Name) == 0 && ev.Failure == nil && !ev.Partial && !ev.Answer
}

// owesAnswer reports whether the stream of a call is to carry its answer. A 202 says that it comes elsewhere.
func owesAnswer(c *mcp.Call, status int) bool {
	return c.Lane == mcp.LaneRequest && status >= http.StatusOK && status < http.StatusMultipleChoices && status != http.StatusAccepted
}
