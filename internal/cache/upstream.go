package cache

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache/listener"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// Upstream is the caching stage of one upstream, a mcp.Caller that is safe for concurrent use. Make one with Store.Upstream.
type Upstream struct {
	store     *Store
	opts      UpstreamOptions
	metrics   *upstreamMetrics
	times     *mcp.RecentTimes
	questions questions
	peers     peers
	streams   streams
	views     views
	unkept    keySet // of askers' own: whose last answer could not be kept
	fetching  fetching
	failing   atomic.Bool // expired answers stand in for the server
	changes   *listener.Listener
	next      mcp.Caller // the way to the server
	flights   flights
	fly       func(context.Context, *lead, flight.Key) (*mcp.Result, error) // flights.call
	find      func(context.Context, *mcp.Call, *plan) (served, error)       // lookUp

	*serverState
}

// serverState is what is known of one server, under whatever names it is configured: what is kept has one key for all of them.
type serverState struct {
	seen       credentials
	publics    keySet // whose last answer was everybody's: flights for them may be as well
	refused    refusedCursors
	server     [2]identity // by era: they say it in different words
	kept       writers
	onTools    bool // the operator has answers kept that a tools/call makes old
	writesSeen writesSeen
	families   [familyCount]tier.Generation
}

func newServerState(identity string, remembered map[Partition]time.Time) *serverState {
	s := new(serverState)
	s.seen.last, s.seen.no = make(map[Partition]acceptance), make(map[Partition]time.Time)
	s.seen.inherit(remembered)
	for f := range familyCount {
		s.families[f] = generationOf("family", identity, f.String())
	}
	return s
}

// Upstream makes the stage of one upstream. server is the way to it.
func (s *Store) Upstream(o UpstreamOptions, server mcp.Caller) *Upstream {
	o.complete()
	u := &Upstream{
		store: s, opts: o, next: server, metrics: s.metrics.upstream(o.Name), times: s.Times(o.Name), serverState: s.servers[o.Identity],
	}
	if u.serverState == nil {
		u.serverState = newServerState(o.Identity, s.state.credentials(o.Identity))
		s.servers[o.Identity] = u.serverState
	}
	u.onTools = u.onTools || o.keepsOnTools()
	u.flights = flights{
		Group: flight.New[*mcp.Call, *copied](flight.Options{Base: o.Base, MaxAge: o.MaxAge, Hold: o.Hold}), buffers: s.buffers,
		partition: s.Partition,
	}
	u.fly, u.find = u.flights.call, u.lookUp
	for _, t := range s.slow {
		u.metrics.add(t.label)
	}
	u.peers.by = make(map[string]*peer)
	u.streams.open, u.streams.broken = make(map[string]int), make(map[string]bool)
	u.fetching.by = make(map[tier.Key]struct{})
	s.memory.Tokens.Pin(u.families[:])
	u.changes = listener.New(listener.Options{
		Upstream: o.Name, Next: server, Received: u.heard,
		Off: !o.Listen || o.Plain, Base: s.life, Log: s.log,
	})
	s.mu.Lock()
	s.upstreams = append(s.upstreams, u)
	s.mu.Unlock()
	for _, t := range s.slow {
		s.resumeFor(t, u)
	}
	return u
}

// saved notes that the server was spared a call: by a tier, or by another caller's.
func (u *Upstream) saved(c *mcp.Call) {
	u.metrics.savedCalls.Inc()
	u.metrics.savedSeconds.Add(u.times.Seconds(c.Method().Group()))
}

// savedBySession notes that an answer to another session was given to one.
func (u *Upstream) savedBySession(q *question) {
	if q.scoped {
		u.views.hits.Add(1)
	}
}

// peerOf returns what is known of a call's session, nil for nothing.
func (u *Upstream) peerOf(c *mcp.Call) *peer {
	if session := first(c.Header["Mcp-Session-Id"]); session != "" { // whatever era the call itself is of
		return u.peers.get(session)
	}
	return nil
}

// Times returns where the upstream of that name notes how long its answers take: by that is known what a hit saves.
func (s *Store) Times(upstream string) *mcp.RecentTimes {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == nil {
		s.times = make(map[string]*mcp.RecentTimes)
	}
	t := s.times[upstream]
	if t == nil {
		t = new(mcp.RecentTimes)
		s.times[upstream] = t
	}
	return t
}

// Wait returns when the last flight has landed. No call comes after it has been called; the end of Base makes it soon.
func (u *Upstream) Wait() { u.flights.Wait() }

func (u *Upstream) family(f Family) tier.Generation { return u.families[f] }

func (u *Upstream) uri(uri string) tier.Generation { return generationOf("uri", u.opts.Identity, uri) }

// asker guards all that one credential may see: dropped when the server refuses it.
func (u *Upstream) asker(bearer Partition) tier.Generation {
	return generationOf("asker", u.opts.Identity, string(bearer[:]))
}

// writes guards what a tools/call of the credential may have changed.
func (u *Upstream) writes(bearer Partition) tier.Generation {
	return generationOf("writes", u.opts.Identity, string(bearer[:]))
}

// streamOf guards what is kept because a change of it would come on a stream.
func (u *Upstream) streamOf(name string) tier.Generation {
	return generationOf("stream", u.opts.Identity, name)
}

// isServer notes who the server says it is.
func (u *Upstream) isServer(era mcp.Era, info []byte) {
	u.server[era].heard(info, func() { u.bump(causeServer, u.families[:]...) })
}

// bump makes generations of this upstream old.
func (u *Upstream) bump(why cause, generations ...tier.Generation) {
	u.metrics.bumped(why)
	u.store.log.Debug("answers are old", "upstream", u.opts.Name, "cause", causeNames[why], "generations", len(generations))
	u.store.bump(u.families[:], generations...)
}

// bumpWrites makes old what is kept by the operator's word and may be another after a tools/call of the asker. Tiers that
// are this daemon's alone need not be told where nothing of that kind went to one since they were last told.
func (u *Upstream) bumpWrites(p Partition) {
	u.metrics.bumped(causeCall)
	g := []tier.Generation{u.writes(p)}
	u.store.bumpMemory(g)
	u.kept.clear(p, func(wrote bool) { // after that: whoever still found the old token has said so by now, see outlivesWrites
		for _, t := range u.store.slow {
			if wrote || !t.Alone() {
				t.Invalidate(g, u.families[:])
			}
		}
	})
}

// writers are the askers of whom no answer that a tools/call makes old went to a tier since the tiers were told of the last
// one: nothing of theirs is kept there.
type writers struct {
	mu    sync.Mutex
	clean map[Partition]struct{}
}

// begin notes that such an answer is about to go to a tier.
func (w *writers) begin(p Partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.clean, p)
}

// clear has the tiers told, and says whether all of them are to be. Nobody relies on it before they are.
func (w *writers) clear(p Partition, tell func(wrote bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, clean := w.clean[p]
	tell(!clean)
	if w.clean == nil || len(w.clean) >= maxCredentials {
		w.clean = make(map[Partition]struct{})
	}
	w.clean[p] = struct{}{}
}

// credentials are those that had a 2xx answer of the server's lately: only they are given public entries, so that others
// meet the server's 401, which starts OAuth.
type credentials struct {
	mu   sync.RWMutex
	last map[Partition]acceptance
	no   map[Partition]time.Time // by bearer: when the server last refused one
}

// acceptance is when the server took a partition's call.
type acceptance struct {
	at     time.Time
	bearer Partition // the zero one where that was in an earlier run
}

// stands reports whether nothing of the bearer was refused since.
func (a acceptance) stands(no map[Partition]time.Time, bearer Partition) bool {
	refused, ok := no[bearer]
	return !ok || a.at.After(refused)
}

const (
	credentialLife = 10 * time.Minute
	maxCredentials = 10_000
)

// inherit adds the times of an earlier run. What this one saw itself is later.
func (c *credentials) inherit(last map[Partition]time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, at := range last {
		if _, ok := c.last[p]; !ok {
			c.makeRoomLocked(now)
			c.last[p] = acceptance{at: at}
		}
	}
}

// accepted notes an answer of now to a call that was sent then. One that was sent before a refusal says nothing.
func (c *credentials) accepted(p, bearer Partition, sent, now time.Time) {
	c.mu.RLock()
	last, ok := c.last[p]
	recent := ok && now.Sub(last.at) < time.Second && !now.Before(last.at) && last.bearer == bearer && last.stands(c.no, bearer)
	c.mu.RUnlock()
	if recent {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if no, refused := c.no[bearer]; refused && sent.Before(no) {
		return
	}
	if _, ok := c.last[p]; !ok {
		c.makeRoomLocked(now)
	}
	c.last[p] = acceptance{now, bearer}
}

// makeRoomLocked forgets who is too old, and somebody where nobody is.
func (c *credentials) makeRoomLocked(now time.Time) {
	if len(c.last) < maxCredentials {
		return
	}
	maps.DeleteFunc(c.last, func(_ Partition, a acceptance) bool { return now.Sub(a.at) >= credentialLife })
	for some := range c.last {
		if len(c.last) < maxCredentials {
			return
		}
		delete(c.last, some)
	}
}

// refused notes that the server refused a call of a partition: nothing stands of all that have its bearer.
func (c *credentials) refused(p, bearer Partition, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, p)
	for some := range c.no {
		if len(c.no) < maxCredentials {
			break
		}
		delete(c.no, some)
	}
	c.no[bearer] = now
}

func (c *credentials) known(p, bearer Partition, now time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	last, ok := c.last[p]
	return ok && now.Sub(last.at) < credentialLife && now.Add(skew*time.Millisecond).After(last.at) && last.stands(c.no, bearer)
}

func (c *credentials) all() map[Partition]time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make(map[Partition]time.Time, len(c.last))
	for p, last := range c.last {
		if last.stands(c.no, last.bearer) {
			all[p] = last.at
		}
	}
	return all
}

// keySet is a set of keys that forgets some where there are too many. The zero one is empty.
type keySet struct {
	mu sync.RWMutex
	by map[tier.Key]struct{}
}

const maxKeySet = 10_000

// set puts a key in or takes it out.
func (s *keySet) set(k tier.Key, in bool) {
	if s.has(k) == in {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !in {
		delete(s.by, k)
		return
	}
	for some := range s.by {
		if len(s.by) < maxKeySet {
			break
		}
		delete(s.by, some)
	}
	if s.by == nil {
		s.by = make(map[tier.Key]struct{})
	}
	s.by[k] = struct{}{}
}

func (s *keySet) has(k tier.Key) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.by[k]
	return ok
}

// refusedCursors are the lists of which the server refused a cursor, by whose they are: that credential is not served their
// pages any more.
type refusedCursors struct {
	some atomic.Bool // most servers refuse none
	mu   sync.Mutex  // guards by
	by   map[tier.Key]uint64
}

func (r *refusedCursors) add(list tier.Key, id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil || len(r.by) >= maxKeySet {
		r.by = make(map[tier.Key]uint64) // what is forgotten is refused once more
	}
	r.by[list] = id
	r.some.Store(true)
}

func (r *refusedCursors) has(list tier.Key, id uint64) bool {
	if !r.some.Load() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	refused, ok := r.by[list]
	return ok && refused == id
}

// identity is who the server says it is. Another one at the same address makes everything old, when it has answered twice in a
// row: replicas that differ do not for ever.
type identity struct {
	mu           sync.Mutex
	info, lately string
}

// heard notes a serverInfo. Where it is another server's than before it calls changed first: nobody takes the new one for
// known before that.
func (i *identity) heard(info []byte, changed func()) {
	if len(info) == 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.info != string(info) && i.lately == string(info) {
		changed()
	}
	if i.info == "" || i.lately == string(info) {
		i.info = string(info)
	}
	if i.lately != string(info) {
		i.lately = string(info)
	}
}

// fetching are the keys for which a call goes on, or may, without anybody who waits for it.
type fetching struct {
	mu sync.Mutex
	by map[tier.Key]struct{}
}

// begin reports whether nobody was at it.
func (f *fetching) begin(k tier.Key) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.by[k]; ok {
		return false
	}
	f.by[k] = struct{}{}
	return true
}

func (f *fetching) end(k tier.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.by, k)
}

// failed reports whether a call came back with what a stale answer may stand in for: the server or the way to it is in
// trouble. A refusal of the agent's own is none.
func failed(res *mcp.Result, err error) bool {
	if err == nil {
		return res.Status == http.StatusTooManyRequests || res.Status >= http.StatusInternalServerError
	}
	var f *mcp.Failure
	if !errors.As(err, &f) {
		return false
	}
	switch f.Code {
	case mcp.CodeOverloaded, mcp.CodeBadGateway, mcp.CodeUnavailable, mcp.CodeDeadlinePassed:
		return f.Reason != mcp.ReasonDraining
	}
	return false
}
