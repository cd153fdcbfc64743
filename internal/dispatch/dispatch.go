// Package dispatch decides where a call goes, whether again, and what that says of the endpoint which it went to.
//
// A Stage is the last one before the connections of an upstream. It promises:
//   - a call goes to the endpoint with the least in flight among those whose breakers are closed, a session's to its own;
//   - nothing is sent again that may have run, but what may be repeated; and never more often than the budget allows;
//   - a call with its repeats counts once at each endpoint, by its last outcome there;
//   - what a call holds (a slot, an endpoint, a breaker's ticket) is let go once, whatever comes of it.
//
// It leaves to others: how a breaker works and how calls wait for a slot, which it knows as Breaker and Admission, and
// what a call is worth to its caller.
package dispatch

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// Admission bounds the calls under way. See internal/admission.
type Admission interface {
	// Enter gets a call a slot, for which it may have to wait, and returns how long it did. leave has to be called once when the
	// call is over; nil: it needs no slot.
	Enter(context.Context, *mcp.Call) (leave func(), waited time.Duration, f *mcp.Failure)
	// Stats says how many calls hold a slot and how many wait for one.
	Stats() (inFlight, queued int)
}

// RetryOptions say how often a call is sent.
type RetryOptions struct {
	Max    int     // times that one call is sent again; 0: never
	Budget float64 // the share of recent calls that may be sent again, besides three, hedges included; see budget
	Hedge  bool    // ask a second endpoint where the first one takes longer than 95 of a hundred calls of that method
}

// Options are those of a Stage. All but SlowCall and Metrics are required.
type Options struct {
	Upstream  string     // the configured name: a label of metrics
	Endpoints []Endpoint // up to 64
	Admission Admission
	Retry     RetryOptions
	SlowCall  time.Duration // a call that takes longer counts as failed, though its answer goes on; 0: none

	// Repeatable reports whether a request may be sent again though nobody knows whether it ran.
	Repeatable func(*mcp.Call) bool

	Metrics *Metrics // nil: not shown
}

// Stage decides when, where and how often a call goes to an upstream. It is a mcp.Caller, and safe for concurrent use.
//
// A request takes a slot of the Admission, then the endpoint with the least in flight among those that their breakers
// allow. It holds both until its answer has come: for a stream, the event that answers it, or the stream's end.
// If all breakers are open it is refused before it waits for a slot. server/discover counts for no breaker and is refused by
// one that is not closed; an initialize tries an open one whatever the backoff. A GET or listen stream and a document
// (LaneFetch) takes nothing, is never refused and counts for no breaker; one that is accepted lets an open breaker try again
// soon. Notifications, answers and session ends take no slot; answers and notifications/cancelled pass an open breaker.
//
// A Stage has no lock that others have. See again for what is sent a second time, and where for sessions.
type Stage struct {
	opts      Options
	endpoints endpoints
	budget    *budget
	latencies latencies
	hedges    bool
	meter     retryMeter

	retries atomic.Uint64
	hedged  atomic.Uint64
	last    atomic.Pointer[LastError]
}

// New returns a Stage. It panics without a required option, or with more than 64 endpoints.
func New(o Options) *Stage {
	if o.Upstream == "" || o.Admission == nil || o.Repeatable == nil || o.Retry.Max < 0 || !(o.Retry.Budget >= 0 && o.Retry.Budget <= 1) ||
		o.SlowCall < 0 {
		panic("dispatch: a stage without what it needs, or with an option that cannot be (this is a bug)")
	}
	s := &Stage{opts: o, endpoints: newEndpoints(o.Endpoints), budget: newBudget(o.Retry.Budget)}
	s.meter = cmp.Or(o.Metrics, NewMetrics(nil)).retry(o.Upstream)
	s.hedges = o.Retry.Hedge && s.endpoints.several()
	return s
}

// Call implements mcp.Caller. What it refuses itself fails with breaker_open (1503, RetryAfter: until the next probe) or as
// Admission.Enter says, always with Sent no. Any other failure or answer is the last one that an endpoint gave, with Sent
// true to all sendings of the call.
func (s *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	bound, c := s.where(c)
	if c.Lane.Long() || c.Lane == mcp.LaneFetch {
		return s.pass(ctx, c, bound)
	}
	r := run{stage: s, call: s.whole(c), among: s.endpoints.of(bound)}
	if c.Lane == mcp.LaneNotification && c.Message.Method == mcp.MethodCancelled {
		r.counted = s.giveUp(c, r.among)
	}
	defer r.leave()
	if f := r.enter(ctx); f != nil {
		return nil, f
	}
	o := r.sendFirst(ctx)
	for r.again(ctx, &o) {
		o = r.attempt.send(ctx, &r)
	}
	return r.finish(o)
}

// whole returns the call with its answer to be held whole, if it is the operator who says that it may be sent again: no byte of
// an answer may leave before that is over. Of the protocol's own methods the caller behind knows it.
func (s *Stage) whole(c *mcp.Call) *mcp.Call {
	if c.Whole || c.Repeatable() || !s.opts.Repeatable(c) {
		return c
	}
	own := *c
	own.Whole = true
	return &own
}

// pass is Call for what is never refused. It goes to an endpoint whose breaker is closed, if there is one.
func (s *Stage) pass(ctx context.Context, c *mcp.Call, bound int) (*mcp.Result, error) {
	among := s.endpoints.of(bound)
	if closed := s.endpoints.closed(among); closed != 0 {
		among = closed
	}
	e := s.endpoints.least(among)
	res, err := s.relay(ctx, c, e)
	if err == nil && res.Status < 500 {
		e.Breaker.Alive()
	}
	return res, err
}

// Direct sends a call past queue, breaker and retry: to the endpoint of its session, or to the one with the least to do. It
// holds nothing and tells no breaker. It is for what asks whether a session lives, on which calls wait that have their
// answer already.
func (s *Stage) Direct(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	bound, c := s.where(c)
	return s.relay(ctx, c, s.endpoints.least(s.endpoints.of(bound)))
}

func (s *Stage) relay(ctx context.Context, c *mcp.Call, e *endpoint) (*mcp.Result, error) {
	res, err := e.Caller.Call(ctx, c)
	if err != nil {
		return nil, err
	}
	s.mark(c, res, e)
	return res, nil
}

// Refusal returns the failure with which Call would refuse such a call now, without asking the server: every breaker is open and
// not due for a probe. It takes nothing. nil: Call would not, as far as can be told.
func (s *Stage) Refusal(c *mcp.Call) *mcp.Failure {
	bound, c := s.where(c)
	among := s.endpoints.of(bound)
	refused := s.endpoints.soonest(c, among) > leastRetry
	if uncounted(c) {
		refused = s.endpoints.closed(among) == 0
	}
	if !refused || passesOpenBreaker(c) {
		return nil
	}
	return s.refuse(c, among)
}

// leastRetry is what a caller is told to wait at least.
const leastRetry = 100 * time.Millisecond

// refuse is the failure of a call that no breaker of these endpoints allows.
func (s *Stage) refuse(c *mcp.Call, among set) *mcp.Failure {
	f := &mcp.Failure{
		Code: mcp.CodeUnavailable, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo,
		Message:    "the server failed too often just now and is not called for a while",
		RetryAfter: max(s.endpoints.soonest(c, among), leastRetry),
	}
	last := s.endpoints.least(among).Breaker.Last()
	if failed := new(mcp.Failure); errors.As(last, &failed) {
		f.Message += ": " + failed.Message // which holds no address, as its cause may
	} else if last != nil {
		f.Message += ": " + last.Error() // the breaker's own
	}
	f.Cause = last
	return f
}
