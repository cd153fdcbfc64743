package dispatch

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// Endpoint is one URL of an upstream.
type Endpoint struct {
	Caller  mcp.Caller // calls it
	Breaker Breaker    // nil: none, it is always called

	// GivenUp takes a notifications/cancelled to the call under way there that it names, and returns the failure of one that has
	// waited in vain for least or longer, once for each call. nil: agents only give up by leaving.
	GivenUp func(c *mcp.Call, least time.Duration) *mcp.Failure
}

// Breaker is the breaker of one endpoint. See internal/breaker, which says what each method promises.
type Breaker interface {
	Closed() bool  // it lets everything through
	State() string // closed, half-open or open, for people
	// Allow reports whether a call may go there now, an early one whatever the backoff, and whether it is the probe. Then Report
	// has to be called once with the ticket and what came of it: nil, a failure, or context.Canceled where nothing was learnt.
	Allow(early bool) (ticket uint64, probe, ok bool)
	Report(ticket uint64, err error)
	RetryAfter(early bool) time.Duration // until the next probe, 100 ms where one is due or under way; 0: closed
	Alive()                              // something that does not count went well there
	Last() error                         // the last failure
}

// BreakerOff is what Status says of an endpoint without a breaker.
const BreakerOff = "off"

// noBreaker is the breaker of an endpoint that has none.
type noBreaker struct{}

func (noBreaker) Closed() bool                    { return true }
func (noBreaker) State() string                   { return BreakerOff }
func (noBreaker) Allow(bool) (uint64, bool, bool) { return 0, false, true }
func (noBreaker) Report(uint64, error)            {}
func (noBreaker) RetryAfter(bool) time.Duration   { return 0 }
func (noBreaker) Alive()                          {}
func (noBreaker) Last() error                     { return nil }

// maxEndpoints is what a set holds.
const maxEndpoints = 64

// anyEndpoint is where a call goes that no session binds.
const anyEndpoint = -1

// endpoint is an Endpoint and how much it has to do.
type endpoint struct {
	Endpoint
	index    int
	inFlight atomic.Int64
	trouble  atomic.Pointer[Trouble] // its failures since it last worked; nil: none
}

// uncounted reports whether a call says nothing of the server, whatever comes of it, and so is never the probe: old
// servers answer server/discover (2026-07-28) with all sorts of errors, and clients go on to initialize.
func uncounted(c *mcp.Call) bool {
	return c.Era != mcp.EraPlain && c.Message.Method == mcp.MethodServerDiscover
}

// opens reports whether a call begins a session: a client that is refused here does not connect at all, so that the backoff
// is not for it.
func opens(c *mcp.Call) bool {
	return c.Era != mcp.EraPlain && c.Message.Method == mcp.MethodInitialize
}

// set is a set of endpoints, by index.
type set uint64

func only(e *endpoint) set          { return 1 << e.index }
func (s set) has(e *endpoint) bool  { return s&only(e) != 0 }
func (s set) with(e *endpoint) set  { return s | only(e) }
func (s set) without(other set) set { return s &^ other }

// endpoints are those of one upstream.
type endpoints []*endpoint

func newEndpoints(list []Endpoint) endpoints {
	if len(list) == 0 || len(list) > maxEndpoints {
		panic("dispatch: no endpoint, or more than 64 (this is a bug)")
	}
	var s endpoints
	for i, e := range list {
		if e.Breaker == nil {
			e.Breaker = noBreaker{}
		}
		s = append(s, &endpoint{Endpoint: e, index: i})
	}
	return s
}

// several reports whether there is more than one.
func (s endpoints) several() bool { return len(s) > 1 }

// of are those to which a call may go that is bound to one, or to none.
func (s endpoints) of(bound int) (among set) {
	for _, e := range s {
		if bound == anyEndpoint || bound == e.index {
			among = among.with(e)
		}
	}
	return among
}

// least returns the one among these with the least in flight, one of those at random if there are some; nil for none.
func (s endpoints) least(among set) (best *endpoint) {
	var load int64
	from := 0
	if s.several() {
		from = rand.IntN(len(s))
	}
	for i := range s {
		e := s[(from+i)%len(s)]
		if n := e.inFlight.Load(); among.has(e) && (best == nil || n < load) {
			best, load = e, n
		}
	}
	return best
}

// allow asks the breaker. A call that does not count reports nothing, and is allowed only while the breaker is closed.
func (s endpoints) allow(e *endpoint, c *mcp.Call) (t ticket, ok bool) {
	if uncounted(c) {
		return ticket{}, e.Breaker.Closed()
	}
	t.untold = true
	t.number, t.probe, ok = e.Breaker.Allow(opens(c))
	if !ok && s.mayNotBackOff(e) {
		t.number, t.probe, ok = e.Breaker.Allow(true)
	}
	return t, ok
}

// retryAfter is how long it is until an endpoint may be sent this call: 0 if it may be now.
func (s endpoints) retryAfter(e *endpoint, c *mcp.Call) time.Duration {
	after := e.Breaker.RetryAfter(opens(c))
	if after > 0 && s.mayNotBackOff(e) {
		after = min(after, e.Breaker.RetryAfter(true))
	}
	return after
}

// mayNotBackOff reports whether one that fails is tried again within a second: of several endpoints at most half may back off
// for longer, the first ones that fail.
func (s endpoints) mayNotBackOff(e *endpoint) bool {
	failing := 0
	for _, other := range s[:e.index] {
		if !other.Breaker.Closed() {
			failing++
		}
	}
	return s.several() && failing >= len(s)/2
}

// closed returns those of them whose breakers are closed.
func (s endpoints) closed(among set) (closed set) {
	for _, e := range s {
		if among.has(e) && e.Breaker.Closed() {
			closed = closed.with(e)
		}
	}
	return closed
}

// soonest returns how long it is until one of them, of which there is at least one, may be sent this call: 0 if one may be now.
func (s endpoints) soonest(c *mcp.Call, among set) time.Duration {
	least := time.Duration(-1)
	for _, e := range s {
		if after := s.retryAfter(e, c); among.has(e) && (least < 0 || after < least) {
			least = after
		}
	}
	return least
}
