package breaker

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	firstBackoff = 50 * time.Millisecond // at most, before a call is sent again; twice as much before each further time
	mostBackoff  = time.Second
	mostAskedFor = 2 * time.Second // of a server's Retry-After: one that asks for more is left alone
)

// resend is why a call is sent again: a label of metrics.
type resend uint8

const (
	resendConnect resend = iota
	resendConnectTimeout
	resendBrokeOff
	resend429
	resend502
	resend503
	resend504
	resendHedge
	resendExhausted // it is not: the budget is spent
	resendCount
)

var resendNames = [resendCount]string{
	resendConnect: "connect", resendConnectTimeout: "connect_timeout", resendBrokeOff: "broke_off",
	resend429: "http_429", resend502: "http_502", resend503: "http_503", resend504: "http_504",
	resendHedge: "hedge", resendExhausted: "budget_exhausted",
}

var resendOfStatus = map[int]resend{
	http.StatusTooManyRequests:    resend429,
	http.StatusBadGateway:         resend502,
	http.StatusServiceUnavailable: resend503,
	http.StatusGatewayTimeout:     resend504,
}

// plan is how a call is sent again.
type plan struct {
	why       resend
	least     time.Duration // not before
	elsewhere bool          // and not to an endpoint that had it
}

// send sends the call, and again where that may be.
func (r *run) send(ctx context.Context) outcome {
	o := r.sendFirst(ctx)
	for r.again(ctx, &o) {
		o = r.try.sendTo(ctx, r)
	}
	return o
}

// waits reports whether the first event of a stream is waited for: until then the call can be sent again, and it is not
// known which of two is faster.
func (r *run) waits() bool {
	return r.hedged || r.resent < r.stage.opts.Retry.Max && r.repeats()
}

// repeats reports whether the call may be sent again though it may have run.
func (r *run) repeats() bool {
	return r.stage.opts.Repeatable(r.call)
}

// again decides whether the call is sent once more, and waits until then. If so, the outcome is thrown away and r.try is
// where it goes.
//
// What surely was not sent is sent again whatever it is, and a call that may be repeated (R) after a failed connect, a
// break-off before the response, 502, 503, 504, and after 429 with a Retry-After of two seconds at most. Nothing is sent
// again after another answer, one in JSON-RPC at whatever status, or a timeout; after a connect timeout, and a 5xx that asks for a longer wait, only to an
// endpoint that has not had it. Each time takes from the budget, has to begin before the caller's deadline, and needs a
// breaker that allows it. A session stays at its endpoint. No call comes back to an endpoint that it has left, or was the
// probe of: what came of it there is known.
func (r *run) again(ctx context.Context, o *outcome) bool {
	s := r.stage
	if r.resent >= s.opts.Retry.Max {
		return false
	}
	p, ok := r.plan(o)
	if !ok {
		return false
	}
	r.tried = r.tried.with(o.from)
	wait := max(backoff(r.resent), p.least)
	if !r.worthWaiting(ctx, p, wait) {
		return false
	}
	if !s.budget.take(time.Now()) {
		s.meter.count(resendExhausted)
		return false
	}
	if !sleep(ctx, wait) {
		s.budget.giveBack()
		r.left(ctx, o)
		return false
	}
	if !r.takeAnother(p) {
		s.budget.giveBack()
		return false
	}
	s.meter.count(p.why)
	s.retries.Add(1)
	r.seen = r.seen.Likelier(o.sent())
	o.drop()
	r.resent++
	return true
}

// plan says how the call may be sent again after this outcome, and whether it may.
func (r *run) plan(o *outcome) (plan, bool) {
	if f := o.failure; f != nil {
		return r.planOfFailure(f)
	}
	why, known := resendOfStatus[o.result.Status]
	if !known || !r.repeats() || answered(r.call, o.result) {
		return plan{}, false
	}
	asked, said := retryAfter(o.result.Header)
	p := plan{why: why, least: asked}
	if r.call.Method() == mcp.MethodServerDiscover {
		// An old server answers it with any status, always the same, and its client goes on to initialize meanwhile.
		p.least, p.elsewhere = 0, true
	}
	if asked > mostAskedFor {
		p.least, p.elsewhere = 0, true
	}
	if why == resend429 && (!said || p.elsewhere) {
		return plan{}, false // the limit may be the credential's, at all endpoints
	}
	return p, true
}

func (r *run) planOfFailure(f *mcp.Failure) (plan, bool) {
	var p plan
	switch f.Reason {
	case mcp.ReasonConnect:
		var bad *tls.CertificateVerificationError
		if errors.As(f, &bad) {
			return p, false // it will be no better
		}
		p.why = resendConnect
	case mcp.ReasonConnectTimeout:
		p.why, p.elsewhere = resendConnectTimeout, true
	case mcp.ReasonBrokeOff:
		p.why = resendBrokeOff
		return p, r.repeats()
	default:
		return p, false
	}
	return p, f.Sent == mcp.SentNo || r.repeats()
}

// worthWaiting reports whether, as things are, the call could be sent after the wait.
func (r *run) worthWaiting(ctx context.Context, p plan, wait time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if by, ok := ctx.Deadline(); ok && time.Until(by) <= wait {
		return false
	}
	among := r.candidates(p)
	return among != 0 && r.stage.endpoints.soonest(r.call, among) <= wait
}

// candidates are the endpoints to which the call may go again.
func (r *run) candidates(p plan) set {
	fresh := r.among.without(r.tried)
	if p.elsewhere || r.try.permit.Probe() {
		return fresh
	}
	return fresh.with(r.try.at)
}

// takeAnother takes an endpoint that has not had the call, else the one that had it last. What came of it is reported where
// it is left.
func (r *run) takeAnother(p plan) bool {
	var next try
	if r.stage.take(&next, r.call, r.among.without(r.tried)) {
		r.try.leave()
		r.try = next
		return true
	}
	return r.candidates(p).has(r.try.at) && r.try.renew(r.call)
}

// left puts the end of ctx in the place of a failure after which the call would have been sent again. An answer stays.
func (r *run) left(ctx context.Context, o *outcome) {
	if o.failure == nil {
		return
	}
	sent := o.failure.Sent
	o.failure = left(ctx)
	o.failure.Sent = sent.Likelier(r.seen)
}

// backoff is full jitter: anything up to a bound that doubles.
func backoff(resent int) time.Duration {
	return rand.N(min(firstBackoff<<min(resent, 10), mostBackoff))
}

// sleep waits, and reports whether ctx is still there after that.
func sleep(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// retryAfter reads a Retry-After (RFC 9110, section 10.2.3), in seconds or as a date, and reports whether there is one.
func retryAfter(h http.Header) (time.Duration, bool) {
	v := h.Get("Retry-After")
	if v == "" {
		return 0, false
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0), true
	}
	return 0, false
}
