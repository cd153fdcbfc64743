package cache

import (
	"crypto/sha256"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// Scope says who may share the lists that a legacy server gives its sessions. Nothing but lists is ever shared between
// sessions, and nothing between credentials.
type Scope uint8

// The scopes.
const (
	ScopeAuto       Scope = iota // all sessions of a credential, once it was seen that they are given the same list
	ScopeSession                 // nobody
	ScopeCredential              // all sessions of a credential, by the operator's word
)

// Bounds of learning.
const (
	maxViews       = 4096            // of an upstream; one that is forgotten is learned anew
	equalAnswers   = 2               // in a row, of different sessions, until a view is shared
	equalAfterward = 3               // the same after a difference
	maxDifferences = 3               // within a day: so many end sharing for a day
	learningPeriod = 24 * time.Hour  //
	settling       = 2 * time.Second // in which a new session's list_changed is about that session alone
	maxAsked       = 64              // requests of a server's in one session that are told apart
)

// views are the lists of an upstream's legacy sessions as far as they may be the same for all of a credential: what is
// compared, and shared once it was seen not to differ. Nothing of it outlives the process.
type views struct {
	hits        atomic.Uint64 // answers that another session's list was
	differences atomic.Uint64

	mu    sync.Mutex // guards the following
	by    map[tier.Key]*view
	days  []time.Time // of the last differences
	ended time.Time   // until when nothing is shared
}

// view is one list as sessions of one kind see it.
type view struct {
	learned atomic.Bool // sessions were seen not to differ

	// Guarded by views.mu.
	known  bool // there was an answer
	result [32]byte
	whose  *deeds // of the session that had it; nil where there are none
	tokens []tier.Token
	equal  int // answers in a row that were the same, of different sessions
	needed int
	told   bool // that sessions differ was logged
}

// of returns the view of a key.
func (v *views) of(k tier.Key) *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.by[k]
	if one != nil {
		return one
	}
	if v.by == nil {
		v.by = make(map[tier.Key]*view)
	}
	for some, old := range v.by {
		if len(v.by) < maxViews {
			break
		}
		delete(v.by, some)
		old.learned.Store(false) // whoever still holds it is alone with that
		old.needed = math.MaxInt
	}
	one = &view{needed: equalAnswers}
	v.by[k] = one
	return one
}

// observation is an answer that a session was given for a view.
type observation struct {
	result  []byte       // raw
	session *deeds       // nil where there are none
	tokens  []tier.Token // of what makes the view old, from before the server was asked
}

// differ is what came of an observation.
type differ uint8

const (
	same        differ = iota
	different          // sessions are given different lists
	sharingEnds        // and that too often
)

// observe compares an answer with the last one of another session.
func (v *views) observe(one *view, o observation, now time.Time) differ {
	sum := sha256.Sum256(o.result)
	v.mu.Lock()
	defer v.mu.Unlock()
	if now.Before(v.ended) {
		return same
	}
	changed := !slices.Equal(one.tokens, o.tokens) // an invalidation lies between the two
	equal, again := one.known && one.result == sum, one.whose != nil && one.whose == o.session
	differs := one.known && !equal && !changed && !again
	one.known, one.result, one.whose = true, sum, o.session
	one.tokens = append(one.tokens[:0], o.tokens...)
	switch {
	case differs:
		one.equal, one.needed = 1, max(one.needed, equalAfterward)
	case !equal: // the first, or a list that has changed
		one.equal = 1
	case !again && one.equal < one.needed:
		one.equal++
	}
	one.learned.Store(one.equal >= one.needed)
	if !differs {
		return same
	}
	return v.differLocked(now)
}

// differLocked notes a difference, and ends sharing where there were too many.
func (v *views) differLocked(now time.Time) differ {
	v.differences.Add(1)
	v.days = slices.DeleteFunc(v.days, func(at time.Time) bool { return now.Sub(at) >= learningPeriod })
	if v.days = append(v.days, now); len(v.days) < maxDifferences {
		return different
	}
	v.days, v.ended = nil, now.Add(learningPeriod)
	for _, one := range v.by {
		one.learned.Store(false)
		one.known, one.equal, one.needed = false, 0, equalAfterward
	}
	return sharingEnds
}

// firstTime reports whether nobody was told yet that the view's sessions differ, and notes that somebody is.
func (v *views) firstTime(one *view) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	was := one.told
	one.told = true
	return !was
}

// ScopeReport is what was learned of how far legacy sessions are given the same lists.
type ScopeReport struct {
	Views       int    `json:"views"`                 // lists that were compared
	Learned     int    `json:"learned"`               // of these, shared by now
	Differences uint64 `json:"differences"`           // between sessions, since the start
	Hits        uint64 `json:"hits"`                  // lists that sessions were given from a shared answer
	EndedUntil  string `json:"ended_until,omitempty"` // nothing is shared until then (RFC 3339): sessions differed too often
}

func (v *views) report(now time.Time) ScopeReport {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := ScopeReport{Views: len(v.by), Differences: v.differences.Load(), Hits: v.hits.Load()}
	for _, one := range v.by {
		if one.learned.Load() {
			r.Learned++
		}
	}
	if now.Before(v.ended) {
		r.EndedUntil = v.ended.UTC().Format(time.RFC3339)
	}
	return r
}

// ofView is the same question asked on behalf of all sessions of its view.
func (u *Upstream) ofView(q *question, s scope, params []byte) *question {
	own := &question{
		method: q.method, name: q.name, family: q.family, legacy: true, own: true, asker: q.asker, bearer: q.bearer, peer: q.peer, list: true,
		keeps: true, shares: true, override: q.override, ttl: q.ttl, early: q.early,
		local:  true, // kept in memory alone: elsewhere nobody has seen that it may be shared
		scoped: true,
	}
	// A session that is told at its beginning that a list has changed has another view of it from then on. What it asked before
	// that, and was given since, is what others are given who were not told yet.
	s.view, s.session, s.server = true, "", q.peer.result
	if q.peer.session {
		s.agent, s.early = q.peer.agent, q.early
	}
	g := []tier.Generation{u.family(q.family), u.asker(q.bearer)}
	if !q.override {
		g = append(g, u.acts(q.bearer))
	}
	own.pair = pairOf(s, q.name, params, g, g)
	if q.first != nil {
		if params, err := withoutCursor(params); err == nil {
			one := pairOf(s, q.name, params, g, g)
			own.first = &one
			own.ofFirst = u.views.of(one.private.Key)
		}
	}
	own.view, own.all = u.views.of(own.private.Key), own
	return own
}

// shared returns the question as it is asked for all sessions of a credential, nil where it is not.
func (u *Upstream) shared(q *question) *question {
	if q.view == nil || q.peer.acted.Load() {
		return nil
	}
	of := q.all.ofFirst
	if u.opts.Scope == ScopeCredential || q.view.learned.Load() && (of == nil || of.learned.Load()) {
		return q.all
	}
	return nil
}

// compare learns from an answer to a question of a session's, and reports whether it is everybody's of the view.
func (u *Upstream) compare(q *question, tokens []tier.Token, result []byte) bool {
	if q.view == nil || q.peer.acted.Load() {
		return false
	}
	if u.opts.Scope == ScopeCredential {
		return true
	}
	o := observation{result: result, tokens: tokens[:len(q.all.private.Generations)]}
	if q.peer.session {
		o.session = q.peer.deeds
	}
	switch u.views.observe(q.view, o, time.Now()) {
	case different:
		if u.views.firstTime(q.view) {
			u.store.log.Info("sessions are given different lists: not shared", "upstream", u.opts.Name, "method", q.name)
		}
	case sharingEnds:
		u.store.log.Warn("sessions are given different lists time and again: none is shared for a day",
			"upstream", u.opts.Name, "method", q.name)
	}
	return q.view.learned.Load()
}

// acts guards the lists that are shared where there are no sessions: what any agent of the credential does may change them.
func (u *Upstream) acts(bearer Partition) tier.Generation {
	return generationOf("acts", u.opts.Identity, string(bearer[:]))
}

// acted notes what an agent does in its session: after anything that may change what the server shows it, its lists are its own.
// Where there are no sessions the credential's lists are stale, now and when the call has been answered; it reports whether that
// is so.
func (u *Upstream) acted(c *mcp.Call) bool {
	p := u.peerOf(c)
	if u.opts.Plain || u.opts.Scope == ScopeSession || p == nil && c.Era != mcp.EraLegacy || p.harmless(c) {
		return false
	}
	if p != nil {
		p.acted.Store(true)
	}
	return first(c.Header["Mcp-Session-Id"]) == "" // of which the era is legacy
}

// shownAnew makes stale what a call without a session may have changed of what the server shows.
func (u *Upstream) shownAnew(bearer Partition) {
	u.store.bumpMemory([]tier.Generation{u.acts(bearer)})
}

// harmless reports whether a call changes nothing of what the server shows the session; a nil one is none that is known.
func (p *peer) harmless(c *mcp.Call) bool {
	m := &c.Message
	switch c.Lane {
	case mcp.LaneStream, mcp.LaneEnd:
		return true
	case mcp.LaneNotification:
		name, ok := mcp.Text(m.MethodName.Of(c.Body))
		return ok && !m.Ambiguous && name == "notifications/initialized"
	case mcp.LaneResponse:
		return p != nil && !m.Ambiguous && p.answers(string(c.ID()))
	case mcp.LaneRequest:
		return !m.Ambiguous && onlyReads(c.Method())
	}
	return false
}

// onlyReads reports whether a request with this method leaves the session's lists as they are.
func onlyReads(m mcp.Method) bool {
	switch m {
	case mcp.MethodInitialize, mcp.MethodPing, mcp.MethodLoggingSetLevel:
		return true
	}
	return mayShare(m)
}

// asks notes a request of the server's to the agent, if its answer changes nothing.
func (p *peer) asks(m *mcp.Message, data []byte) {
	if p == nil || p.acted.Load() {
		return
	}
	name, ok := mcp.Text(m.MethodName.Of(data))
	id, changes := string(m.ID.Of(data)), !ok || m.Ambiguous || name != "ping" && name != "roots/list"
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case changes:
		delete(p.asked, id) // that of an earlier one, given again
	case p.asked == nil:
		p.asked = map[string]struct{}{id: {}}
	case len(p.asked) < maxAsked:
		p.asked[id] = struct{}{}
	}
}

// answers reports whether the id is that of such a request, which is answered now.
func (p *peer) answers(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.asked[id]
	delete(p.asked, id)
	return ok
}

// listChanged applies a server's word that the family's list has changed. That a session is told so at its beginning is about
// that session alone: servers that register their tools late say it to each.
func (u *Upstream) listChanged(p *peer, f Family) {
	if p != nil && u.opts.Scope != ScopeSession && time.Since(p.born) < settling {
		p.early[f].Add(1)
		return
	}
	u.bump(causeNotification, u.family(f))
}
