package cache

import (
	"crypto/sha256"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Scope says who may share the lists that a legacy server gives its sessions. Nothing but lists is ever shared between
// sessions, and nothing between credentials, but where the server is told of none (StageOptions.Impersonal).
type Scope uint8

// The scopes.
const (
	ScopeAuto       Scope = iota // all sessions of a credential, once it was seen that they get the same list
	ScopeSession                 // nobody
	ScopeCredential              // all sessions of a credential, by the operator's word
)

// Bounds of learning.
const (
	maxViews       = 4096           // of an upstream; one that is forgotten is learned anew
	equalAnswers   = 2              // in a row, of different sessions, until a view is shared
	equalAfterward = 3              // the same after a difference
	maxDifferences = 3              // within a day: so many end sharing for a day
	learningPeriod = 24 * time.Hour //
)

// views are the lists of an upstream's legacy sessions that may be the same for all sessions of a credential: they are compared, and
// shared once they were seen not to differ. Views do not outlive the process.
type views struct {
	hits        atomic.Uint64 // lists that sessions got from a shared answer
	differences atomic.Uint64

	mu              sync.Mutex // guards the following
	by              boundedMap[tier.Key, *view]
	lastDifferences []time.Time // of the last differences
	endedUntil      time.Time   // until when nothing is shared
}

// view is one list as the sessions of one kind of client see it.
type view struct {
	learned atomic.Bool // sessions were seen not to differ

	// Guarded by views.mu.
	known       bool // there was an answer
	result      [32]byte
	lastSession *history // of the session that got it; nil where there are no sessions
	tokens      []tier.Token
	equal       int // answers in a row that were the same, of different sessions
	needed      int
	logged      bool // that sessions differ was logged
}

// of returns the view of a key.
func (v *views) of(k tier.Key) *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.by[k]
	if one != nil {
		return one
	}
	for some, old := range v.by {
		if len(v.by) < maxViews {
			break
		}
		delete(v.by, some)
		old.learned.Store(false) // it is never shared again by whoever still holds it
		old.needed = math.MaxInt
	}
	one = &view{needed: equalAnswers}
	v.by.put(k, one, maxViews)
	return one
}

// observation is the answer that a session got for a view.
type observation struct {
	result  []byte       // raw
	history *history     // of the session; nil where there are no sessions
	tokens  []tier.Token // of what invalidates the view, from before the server was called
}

// comparison is the result of an observation.
type comparison uint8

const (
	same        comparison = iota // or nothing new
	different                     // sessions get different lists, for the first time in this view
	sharingEnds                   // sessions get different lists too often
)

// observe compares an answer with the last one of another session.
func (v *views) observe(one *view, o observation, now time.Time) comparison {
	sum := sha256.Sum256(o.result)
	v.mu.Lock()
	defer v.mu.Unlock()
	if now.Before(v.endedUntil) {
		return same
	}
	changed := !slices.Equal(one.tokens, o.tokens) // there was an invalidation between the two
	equal, again := one.known && one.result == sum, one.lastSession != nil && one.lastSession == o.history
	differs := one.known && !equal && !changed && !again
	one.known, one.result, one.lastSession = true, sum, o.history
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
	what := v.noteDifferenceLocked(now)
	if what == different {
		if one.logged {
			return same
		}
		one.logged = true
	}
	return what
}

// noteDifferenceLocked notes a difference, and ends sharing where there were too many.
func (v *views) noteDifferenceLocked(now time.Time) comparison {
	v.differences.Add(1)
	v.lastDifferences = slices.DeleteFunc(v.lastDifferences, func(at time.Time) bool { return now.Sub(at) >= learningPeriod })
	if v.lastDifferences = append(v.lastDifferences, now); len(v.lastDifferences) < maxDifferences {
		return different
	}
	v.lastDifferences, v.endedUntil = nil, now.Add(learningPeriod)
	for _, one := range v.by {
		one.learned.Store(false)
		one.known, one.equal, one.needed = false, 0, equalAfterward
	}
	return sharingEnds
}

// ScopeReport says how far legacy sessions get the same lists.
type ScopeReport struct {
	Views       int    `json:"views"`                 // lists that were compared
	Learned     int    `json:"learned"`               // of these, shared by now
	Differences uint64 `json:"differences"`           // between sessions, since the start
	Hits        uint64 `json:"hits"`                  // lists that sessions got from a shared answer
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
	if now.Before(v.endedUntil) {
		r.EndedUntil = v.endedUntil.UTC().Format(time.RFC3339)
	}
	return r
}

// viewRequestOf returns the same request made for all sessions of its view. Its answers are kept in memory alone: other daemons have
// not seen that they may be shared.
func (u *Stage) viewRequestOf(q *request, s keyInput, params []byte) *request {
	v := *q
	v.usage, v.forView, v.cacheable, v.coalescable, v.memoryOnly = new(usage), true, true, true, true
	// A session that is told in its first seconds that a list has changed goes on to another view of it. What it asked for before that
	// still fills the view of those that were not told yet.
	s.view, s.sessionID, s.server = true, "", q.session.result
	if q.session.hasID {
		s.agent, s.earlyChanges = q.session.agent, q.earlyChanges
	}
	if u.opts.Impersonal {
		s.partition = anyone
	}
	credential := u.guarded(q)
	g := []tier.Generation{u.families[q.family], u.guard(guardCredential, credential)}
	if !q.override {
		g = append(g, u.guard(guardShown, credential))
	}
	v.setKeys(s, params, g, g, q.first != nil)
	if v.first != nil {
		v.firstView = u.views.of(v.first.private.Key)
	}
	v.view, v.viewRequest = u.views.of(v.private.Key), &v
	return &v
}

// guarded names whose refusal, and whose acts where there are no sessions, invalidate a request's private answers. A server that is
// told of no credential refuses none, and its lists have to have the same guards for all.
func (u *Stage) guarded(q *request) string {
	if u.opts.Impersonal && q.legacy && q.list {
		return ""
	}
	return string(q.credential[:])
}

// sharedRequest returns the request made for all sessions of its view, nil where the view is not shared with this one.
func (u *Stage) sharedRequest(q *request) *request {
	if q.view == nil || q.session.acted.Load() {
		return nil
	}
	of := q.viewRequest.firstView
	if u.opts.Scope == ScopeCredential || q.view.learned.Load() && (of == nil || of.learned.Load()) {
		return q.viewRequest
	}
	return nil
}

// compare learns from the answer to a session's request, and reports whether all sessions of the view may have it.
func (u *Stage) compare(q *request, tokens []tier.Token, result []byte) bool {
	if q.view == nil || q.session.acted.Load() {
		return false
	}
	if u.opts.Scope == ScopeCredential {
		return true
	}
	o := observation{result: result, tokens: tokens[:len(q.viewRequest.private.Generations)]}
	if q.session.hasID {
		o.history = q.session.history
	}
	switch u.views.observe(q.view, o, time.Now()) {
	case different:
		u.store.log.Info("sessions are given different lists: not shared", "upstream", u.opts.Name, "method", q.name)
	case sharingEnds:
		u.store.log.Warn("sessions are given different lists time and again: none is shared for a day",
			"upstream", u.opts.Name, "method", q.name)
	}
	return q.view.learned.Load()
}
