package dispatch

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

const (
	firstBackoff  = 50 * time.Millisecond // at most, before a call is sent again; twice as much before each further time
	maxBackoff    = time.Second
	maxRetryAfter = 2 * time.Second // of a server's Retry-After: one that asks for more is not asked again
)

// The reasons why a call is sent again, beside mcp's: a label of metrics.
const (
	resendHedge     = "hedge"
	resendExhausted = "budget_exhausted" // it is not: the budget is spent
)

// resendStatuses are the statuses after which a call may be sent again, and their reasons.
var resendStatuses = map[int]string{
	http.StatusTooManyRequests:    "http_429",
	http.StatusBadGateway:         "http_502",
	http.StatusServiceUnavailable: "http_503",
	http.StatusGatewayTimeout:     "http_504",
}

var resendReasons = []string{
	string(mcp.ReasonConnect), string(mcp.ReasonConnectTimeout), string(mcp.ReasonBrokeOff),
	"http_429", "http_502", "http_503", "http_504", resendHedge, resendExhausted,
}

// resend is how a call is sent again.
type resend struct {
	why       string
	least     time.Duration // not before
	elsewhere bool          // and not to an endpoint that had it
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

// again decides whether the call is sent once more, and waits until then. If so, the outcome is thrown away and r.attempt is
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
	p, ok := r.resendAfter(o)
	if !ok {
		return false
	}
	r.tried = r.tried.with(r.attempt.at)
	wait := max(backoff(r.resent), p.least)
	if !r.worthWaiting(ctx, p, wait) || !s.takeBudget() {
		return false
	}
	here := sleep(ctx, wait)
	if !here && o.failure != nil { // an answer stays
		o.failure = mcp.Canceled(ctx, o.failure.Sent.Likelier(r.seen))
	}
	if !here || !r.takeAnother(p) {
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

// takeBudget reports whether a call may be sent a second time, and counts where it may not.
func (s *Stage) takeBudget() bool {
	ok := s.budget.take(time.Now())
	if !ok {
		s.meter.count(resendExhausted)
	}
	return ok
}

// resendAfter says how the call may be sent again after this outcome, and whether it may.
func (r *run) resendAfter(o *outcome) (resend, bool) {
	if f := o.failure; f != nil {
		return r.resendAfterFailure(f)
	}
	why, known := resendStatuses[o.result.Status]
	if !known || !r.repeats() || answered(r.call, o.result) {
		return resend{}, false
	}
	asked, said := retryAfter(o.result.Header)
	p := resend{why: why, least: asked}
	// An old server answers server/discover with any status, always the same, and its client goes on to initialize meanwhile.
	if asked > maxRetryAfter || r.call.Method() == mcp.MethodServerDiscover {
		p.least, p.elsewhere = 0, true
	}
	if o.result.Status == http.StatusTooManyRequests && (!said || p.elsewhere) {
		return resend{}, false // the limit may be the credential's, at all endpoints
	}
	return p, true
}

func (r *run) resendAfterFailure(f *mcp.Failure) (resend, bool) {
	p := resend{why: string(f.Reason), elsewhere: f.Reason == mcp.ReasonConnectTimeout}
	switch f.Reason {
	case mcp.ReasonConnect, mcp.ReasonConnectTimeout:
		var bad *tls.CertificateVerificationError // it will be no better
		return p, !errors.As(f, &bad) && (f.Sent == mcp.SentNo || r.repeats())
	case mcp.ReasonBrokeOff:
		return p, r.repeats()
	}
	return p, false
}

// worthWaiting reports whether, as things are, the call could be sent after the wait.
func (r *run) worthWaiting(ctx context.Context, p resend, wait time.Duration) bool {
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
func (r *run) candidates(p resend) set {
	fresh := r.among.without(r.tried)
	if p.elsewhere || r.attempt.probe {
		return fresh
	}
	return fresh.with(r.attempt.at)
}

// takeAnother takes an endpoint that has not had the call, else the one that had it last. What came of it is reported where
// it is left; one that has it again counts it once.
func (r *run) takeAnother(p resend) bool {
	var next attempt
	fresh := r.among.without(r.tried)
	if !r.stage.take(&next, r.call, fresh) && !r.stage.take(&next, r.call, r.candidates(p).without(fresh)) {
		return false
	}
	if next.at == r.attempt.at {
		r.attempt.untold = false
	}
	r.attempt.leave()
	r.attempt = next
	return true
}

// backoff is full jitter: anything up to a bound that doubles.
func backoff(resent int) time.Duration {
	return rand.N(min(firstBackoff<<min(resent, 10), maxBackoff))
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
func retryAfter(h header.List) (time.Duration, bool) {
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
