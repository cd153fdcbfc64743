package cache

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache/listener"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// Stage is the caching stage of one upstream, a mcp.Caller that is safe for concurrent use. Make one with Store.Stage.
type Stage struct {
	store        *Store
	opts         StageOptions
	metrics      *upstreamMetrics
	times        *mcp.RecentTimes
	requests     [requestShards]recentTable[[32]byte, *request] // see maxRequests
	sessions     table[string, *session]
	agentStreams agentStreams
	views        views
	notKept      keySet         // private keys whose last answer could not be kept
	fetching     sync.Map       // the tier.Keys for which a call of the daemon's own is under way
	fetches      sync.WaitGroup // those calls
	failing      atomic.Bool    // expired answers are served instead of the server's
	listener     *listener.Listener
	next         mcp.Caller                                                      // the next stage
	flights      *flight.Group[*mcp.Call, *sharedAnswer]                         // the calls that equal ones may join
	joinOrLead   func(context.Context, *leader, flight.Key) (*mcp.Result, error) // joinFlight, but in tests
	answerer     func(context.Context, *mcp.Call, *variant) (served, error)      // answer, but in tests

	*serverState
}

// serverState is what is known of one server. Upstreams with one identity share it, as they share what is kept.
type serverState struct {
	credentials    credentials
	publicKeys     keySet                  // public keys whose last answer was public: their flights may be everybody's
	refusedCursors table[tier.Key, uint64] // by listKey: the list of which the server refused a cursor. Its pages are not served to that principal any more
	identities     [2]identity             // by era: they say it in different words
	writers        writers
	staleOnCall    atomic.Bool // an operator has answers kept that a tools/call invalidates
	writeCounts    writeCounts
	families       [familyCount]tier.Generation
}

func newServerState(identity string, remembered map[partition]time.Time) *serverState {
	s := new(serverState)
	s.credentials.inherit(remembered)
	for f := range familyCount {
		s.families[f] = generationOf(guardFamily, identity, familyNames[f])
	}
	return s
}

// Stage makes the stage of one upstream. server is the next stage.
func (s *Store) Stage(o StageOptions, server mcp.Caller) *Stage {
	o.complete()
	u := &Stage{
		store: s, opts: o, next: server, metrics: s.metrics.upstream(o.Name), times: s.Times(o.Name), serverState: s.server(o.Identity),
	}
	if o.keepsOnTools() {
		u.staleOnCall.Store(true)
	}
	u.flights = flight.New[*mcp.Call, *sharedAnswer](flight.Options{Base: o.Base, MaxAge: o.MaxAge, Hold: o.Hold})
	u.joinOrLead, u.answerer = u.joinFlight, u.answer
	for _, t := range s.slowTiers {
		u.metrics.add(t.label)
	}
	u.agentStreams.open = make(map[string]int)
	s.memory.Tokens.Pin(u.families[:])
	u.listener = listener.New(listener.Options{
		Upstream: o.Name, Next: server, Received: func(m *mcp.Message, data []byte) { u.notified(nil, m, data) },
		Off: !o.Listen || o.Plain, Base: s.life, Log: s.log,
	})
	s.mu.Lock()
	s.upstreams = append(slices.Clip(s.upstreams), u) // parts has handed out the list
	s.mu.Unlock()
	for _, t := range s.slowTiers {
		s.resumeFor(t, u)
	}
	return u
}

// server returns what is known of a server.
func (s *Store) server(identity string) *serverState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers[identity] == nil {
		s.servers[identity] = newServerState(identity, s.state.credentials(identity))
	}
	return s.servers[identity]
}

// saved notes that the server was spared a call: by a tier, or by the answer of another call.
func (u *Stage) saved(c *mcp.Call) {
	u.metrics.savedCalls.Inc()
	u.metrics.savedSeconds.Add(u.times.Seconds(c.Method().Group()))
}

// savedBySession notes that a session got the answer of another one.
func (u *Stage) savedBySession(q *request) {
	if q.forView {
		u.views.hits.Add(1)
	}
}

// Times returns where the upstream of that name notes how long its answers take, which says how much time a hit saves.
func (s *Store) Times(upstream string) *mcp.RecentTimes {
	t, _ := s.times.LoadOrStore(upstream, new(mcp.RecentTimes))
	return t.(*mcp.RecentTimes)
}

// Close returns when the last flight and what goes on behind the calls have ended, which the end of Base makes soon, and the streams
// of the upstream's own are closed. No call comes after it has been called. What is kept of the server stays.
func (u *Stage) Close() {
	u.flights.Wait()
	u.fetches.Wait()
	u.listener.Close()
	s := u.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upstreams = slices.DeleteFunc(slices.Clone(s.upstreams), func(other *Stage) bool { return other == u })
}
