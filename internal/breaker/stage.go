package breaker

import (
	"context"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// RetryOptions say how often a call is sent.
type RetryOptions struct {
	Max    int     // times that one call is sent again; 0: never
	Budget float64 // the share of recent calls that may be sent again, besides three, hedges included; see New
	Hedge  bool    // ask a second endpoint where the first one takes longer than 95 of a hundred calls of that method
}

// Options are those of a Stage. Upstream and Endpoints are required.
type Options struct {
	Upstream  string     // the configured name: a label of metrics
	Endpoints []Endpoint // up to 64
	Admission *Admission // nil: no bound
	Retry     RetryOptions
	SlowCall  time.Duration // a call that takes longer counts as failed, though its answer goes on; 0: none

	// Repeatable reports whether a request may be sent again though nobody knows whether it ran. It is asked only once the
	// call has been sent, and when that matters. nil: mcp.Call.Repeatable.
	Repeatable func(*mcp.Call) bool

	Metrics *Metrics // nil: not shown
}

// Stage decides when, where and how often a call goes to an upstream. It is a mcp.Caller, and safe for concurrent use.
//
// A request takes a slot of the Admission, then the endpoint with the least in flight among those that their breakers do
// not leave alone. It holds both until its answer has come: for a stream, the event that answers it, or the stream's end.
// If all breakers are open it is refused before it waits for a slot. With all its repeats it counts once at an endpoint, by
// its last outcome there. server/discover counts for no breaker and is refused by one that is not closed; an initialize tries
// an open one whatever the backoff. A GET or listen stream and a document (LaneFetch) takes nothing, is never refused and counts for no breaker; one that is accepted lets an open breaker try again soon.
// Notifications, answers and session ends take no slot; answers and notifications/cancelled pass an open breaker.
//
// A Stage has no lock that others have. See again for what is sent a second time, and where for sessions.
type Stage struct {
	opts      Options
	endpoints *endpoints
	budget    *budget
	latencies latencies
	hedges    bool
	meter     retryMeter

	retries atomic.Uint64
	hedged  atomic.Uint64
	last    atomic.Pointer[LastError]
}

// New returns a Stage. It panics without a name or endpoints, or with more than 64 of them.
func New(o Options) *Stage {
	if o.Upstream == "" || o.Retry.Max < 0 || !(o.Retry.Budget >= 0 && o.Retry.Budget <= 1) || o.SlowCall < 0 {
		panic("breaker: a stage without a name, or with an option that cannot be (this is a bug)")
	}
	if o.Repeatable == nil {
		o.Repeatable = (*mcp.Call).Repeatable
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	s := &Stage{opts: o, endpoints: newEndpoints(o.Endpoints), budget: newBudget(o.Retry.Budget)}
	s.meter = o.Metrics.retry(o.Upstream)
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
	if f := r.enter(ctx); f != nil {
		return nil, f
	}
	defer r.leave()
	return r.finish(r.send(ctx))
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

// pass is Call for what is never refused. It goes to an endpoint that is not left alone, if there is one.
func (s *Stage) pass(ctx context.Context, c *mcp.Call, bound int) (*mcp.Result, error) {
	among := s.endpoints.of(bound)
	if s.endpoints.several() {
		if closed := s.endpoints.closed(among); closed != 0 {
			among = closed
		}
	}
	e := s.endpoints.least(among)
	res, err := e.Caller.Call(ctx, c)
	if err != nil {
		return nil, err
	}
	if res.Status < 500 {
		e.alive()
	}
	s.mark(c, res, e)
	return res, nil
}

// run is one call on its way through the stage: a value of the goroutine that called Call.
type run struct {
	stage  *Stage
	call   *mcp.Call
	among  set // the endpoints to which it may go
	tried  set // those to which it went
	ticket Ticket
	try    try      // what it holds at an endpoint; nothing once a stream has it
	seen   mcp.Sent // the most that is known of earlier sendings
	resent int      // times
	hedged bool     // it may be one of two

	counted bool // it has given up a call that was counted as failed: that it gets no answer either is not counted once more
}

// enter takes a slot and an endpoint. A call that all breakers refuse does not wait for a slot before it hears so, and one
// that is to try an endpoint is sure of that before it waits.
func (r *run) enter(ctx context.Context) *mcp.Failure {
	s := r.stage
	a := s.opts.Admission
	if a != nil && takesSlot(r.call) {
		if s.endpoints.closed(r.among) == 0 && !r.begin() {
			return r.refuse()
		}
		ticket, f := a.enter(ctx, r.call)
		if f != nil {
			r.leave()
			return f
		}
		r.ticket = ticket
	}
	if r.try.at == nil && !r.begin() {
		r.leave()
		return r.refuse()
	}
	s.budget.add(time.Now())
	return nil
}

// begin takes an endpoint for the first sending.
func (r *run) begin() bool {
	if r.stage.take(&r.try, r.call, r.among) {
		return true
	}
	if urgent(r.call) {
		r.try.force(r.stage, r.stage.endpoints.least(r.among))
		return true
	}
	return false
}

// urgent reports whether calls that the server has begun to work on may be waiting for this one, and so it goes to a
// server that is left alone as well.
func urgent(c *mcp.Call) bool {
	switch c.Message.Kind {
	case mcp.KindResult, mcp.KindError:
		return true
	}
	return c.Lane == mcp.LaneResponse || c.Message.Method == mcp.MethodCancelled
}

// refuse is the failure of a call that no breaker allows.
func (r *run) refuse() *mcp.Failure {
	s := r.stage
	f := &mcp.Failure{
		Code: mcp.CodeUnavailable, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo,
		Message:    "the server failed too often just now and is not called for a while",
		RetryAfter: max(s.endpoints.soonest(r.call, r.among), leastRetry),
	}
	if e := s.endpoints.least(r.among); e.Circuit != nil {
		if f.Cause, _ = e.Circuit.Last(); f.Cause != nil {
			f.Message += ": " + clauseOf(f.Cause)
		}
	}
	return f
}

// Refusal returns the failure with which Call would refuse such a call now, without asking the server: every breaker is open and
// not due for a probe. It takes nothing. nil: Call would not, as far as can be told.
func (s *Stage) Refusal(c *mcp.Call) *mcp.Failure {
	bound, c := s.where(c)
	among := s.endpoints.of(bound)
	if urgent(c) {
		return nil
	}
	for _, e := range s.endpoints.list {
		if among.has(e) && !e.refuses(c) {
			return nil
		}
	}
	r := run{stage: s, call: c, among: among}
	return r.refuse()
}

// leave lets go of what the call holds still: it has ended, or left it to a stream.
func (r *run) leave() {
	r.try.leave()
	r.ticket.Leave()
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
	r.stage.mark(r.call, o.result, o.from)
	o.result.Timing.Queue += r.ticket.Waited()
	if o.goesOn() {
		r.hold(&o)
	} else {
		o.end()
	}
	return o.result, nil
}
