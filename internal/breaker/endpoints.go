package breaker

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// Endpoint is one URL of an upstream.
type Endpoint struct {
	Caller  mcp.Caller // calls it
	Circuit *Circuit   // its breaker; nil: it is never left alone

	// GivenUp takes a notifications/cancelled to the call under way there that it names, and returns the failure of one that has
	// waited in vain for least or longer, once for each call. nil: agents only give up by leaving.
	GivenUp func(c *mcp.Call, least time.Duration) *mcp.Failure
}

// mostEndpoints is what a set holds.
const mostEndpoints = 64

// anyEndpoint is where a call goes that no session binds.
const anyEndpoint = -1

// endpoint is an Endpoint and how much it has to do.
type endpoint struct {
	Endpoint
	index    int
	inFlight atomic.Int64
	trouble  atomic.Pointer[Trouble] // its failures since it last worked; nil: none
	opened   uint64                  // which opening in the row of all was its last; 0: it is closed. Guarded by endpoints.mu
}

// allow asks the breaker. A call that does not count has no permit, and is allowed only while the breaker is closed.
func (e *endpoint) allow(c *mcp.Call) (Permit, bool) {
	switch {
	case e.Circuit == nil:
		return Permit{}, true
	case uncounted(c):
		return Permit{}, e.Circuit.State() == Closed
	case opens(c):
		return e.Circuit.AllowEarly()
	}
	return e.Circuit.Allow()
}

// refuses reports whether the breaker allows no such call now, as far as can be told without asking it for a permit.
func (e *endpoint) refuses(c *mcp.Call) bool {
	switch {
	case e.Circuit == nil:
		return false
	case uncounted(c):
		return e.Circuit.State() != Closed
	}
	return e.Circuit.machine.refuses(opens(c))
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

// state is the breaker's; Closed where there is none.
func (e *endpoint) state() string {
	if e.Circuit == nil {
		return Closed
	}
	return e.Circuit.State()
}

func (e *endpoint) retryAfter(c *mcp.Call) time.Duration {
	if e.Circuit == nil {
		return 0
	}
	return e.Circuit.machine.retryAfter(opens(c))
}

// counts notes what a call said of the endpoint. Of several that fail at once one may be missed: it is for people.
func (e *endpoint) counts(v Verdict, cause error) {
	switch before := e.trouble.Load(); {
	case v == Succeeded && before != nil:
		e.trouble.Store(nil)
	case v == Failed, v == Refused:
		now := Trouble{Since: time.Now(), Failures: 1, Reason: reasonOf(cause), Message: clauseOf(cause)}
		if before != nil {
			now.Since, now.Failures = before.Since, before.Failures+1
		}
		e.trouble.Store(&now)
	}
}

func (e *endpoint) alive() {
	if e.Circuit != nil {
		e.Circuit.Alive()
	}
}

// set is a set of endpoints, by index.
type set uint64

func (s set) has(e *endpoint) bool  { return s&(1<<e.index) != 0 }
func (s set) with(e *endpoint) set  { return s | 1<<e.index }
func only(index int) set            { return 1 << index }
func (s set) without(other set) set { return s &^ other }
func (s *endpoints) of(bound int) set {
	if bound != anyEndpoint {
		return only(bound)
	}
	return s.all
}

// endpoints are those of one upstream.
type endpoints struct {
	list []*endpoint
	all  set

	mu       sync.Mutex // guards the following, and is held only while one is failing
	openings uint64
}

func newEndpoints(list []Endpoint) *endpoints {
	if len(list) == 0 || len(list) > mostEndpoints {
		panic("breaker: no endpoint, or more than 64 (this is a bug)")
	}
	s := &endpoints{}
	for i, e := range list {
		own := &endpoint{Endpoint: e, index: i}
		s.list = append(s.list, own)
		s.all = s.all.with(own)
	}
	return s
}

// several reports whether there is more than one.
func (s *endpoints) several() bool { return len(s.list) > 1 }

// least returns the one among these with the least in flight, one of those at random if there are some; nil for none.
func (s *endpoints) least(among set) *endpoint {
	if !s.several() {
		if among == 0 {
			return nil
		}
		return s.list[0]
	}
	var best *endpoint
	var load int64
	from := rand.IntN(len(s.list))
	for i := range s.list {
		e := s.list[(from+i)%len(s.list)]
		if !among.has(e) {
			continue
		}
		if n := e.inFlight.Load(); best == nil || n < load {
			best, load = e, n
		}
	}
	return best
}

// take returns a try at the one with the least in flight among those of which the breaker allows one for this call, and
// false if there is none.
func (s *endpoints) take(c *mcp.Call, among set) (try, bool) {
	refused := 0
	for {
		e := s.least(among)
		if e == nil {
			return try{}, false
		}
		if p, ok := e.allow(c); ok {
			e.inFlight.Add(1)
			return try{at: e, permit: p}, true
		}
		if refused++; 2*refused > len(s.list) {
			s.spread() // a probe that hung may have failed without anybody's notice
		}
		among = among.without(only(e.index))
	}
}

// closed returns those of them that are not left alone.
func (s *endpoints) closed(among set) set {
	var closed set
	for _, e := range s.list {
		if among.has(e) && e.state() == Closed {
			closed = closed.with(e)
		}
	}
	return closed
}

// soonest returns how long it is until one of them may be sent this call: 0 if one may be now.
func (s *endpoints) soonest(c *mcp.Call, among set) time.Duration {
	least := time.Duration(-1)
	for _, e := range s.list {
		if !among.has(e) {
			continue
		}
		after := time.Duration(0)
		if e.state() != Closed {
			after = e.retryAfter(c)
		}
		if least < 0 || after < least {
			least = after
		}
	}
	return max(least, 0)
}

// spread keeps more than half of several endpoints from backing off for longer than a second: those that opened last are
// tried again within one. It is called when a failure was counted.
func (s *endpoints) spread() {
	if !s.several() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	down := make([]*endpoint, 0, len(s.list))
	for _, e := range s.list {
		switch {
		case e.state() == Closed:
			e.opened = 0
			continue
		case e.opened == 0:
			s.openings++
			e.opened = s.openings
		}
		down = append(down, e)
	}
	slices.SortFunc(down, func(a, b *endpoint) int { return cmp.Compare(a.opened, b.opened) })
	for i, e := range down {
		if i >= len(s.list)/2 {
			e.Circuit.ProbeWithin(time.Second)
		}
	}
}
