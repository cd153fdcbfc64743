package cache

import (
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// load is a call that memory did not answer at first: what is gathered for it on its way through the tiers to the server.
type load struct {
	*variant
	call    *mcp.Call
	sealKey func() (*sealKey, error) // see sealKeyOf

	// The tokens of what guards the entry that will be stored, from before the server was called.
	tokens     tokens
	slowTokens []tokens // of each slow tier; nil where it was not read

	subscribed   bool   // a change of the list would have been received since before the server was called
	stale        *entry // expired, but may be served where the server fails
	staleTier    int
	publicInTier bool // a slow tier has a public entry

	// Of a later page of a list: the first one, from before the server was called; nil where there is none that is fresh.
	// viewFirstPage is that of the view, where the request is made for one session.
	firstPage, viewFirstPage *entry
}

// forViewLoad returns the load as one for all sessions of its view.
func (q *load) forViewLoad() *load {
	l, p := *q, *q.variant
	p.request, l.firstPage = q.viewRequest, q.viewFirstPage
	l.variant, l.tokens.private = &p, q.tokens.private[:len(q.viewRequest.private.Generations)]
	return &l
}

// tokens are those that one tier has for what guards the two entries of a request.
type tokens struct{ private, public []tier.Token }

func (t *tokens) of(public bool) []tier.Token {
	if public {
		return t.public
	}
	return t.private
}

// readTokens reads memory's tokens, before anything else is read.
func (u *Stage) readTokens(q *load) {
	t := u.store.memory.Tokens
	room := make([]tier.Token, 0, 2*tier.MaxGuards)
	q.tokens.private = t.Read(q.private.Generations, room)
	q.tokens.public = t.Read(q.public.Generations, q.tokens.private[len(q.tokens.private):])
	q.slowTokens = make([]tokens, len(u.store.slowTiers))
	q.subscribed = u.subscribed(q.request)
}

// tokensHold reports whether nothing has invalidated answers since the tokens were read.
func (u *Stage) tokensHold(q *load, public bool) bool {
	return u.store.memory.Tokens.Hold(q.keys.of(public).Generations, q.tokens.of(public))
}

// readMemoryAgain looks into memory again for a fresh entry: the flight before may have stored the answer.
func (u *Stage) readMemoryAgain(q *load) *entry {
	now := time.Now()
	var e entry
	found := u.readMemory(&q.keys, q.request, wholeEntry, &e, now)
	if q.firstPage = u.freshFirstPage(q.request, now); q.view != nil && !q.forView {
		q.viewFirstPage = u.freshFirstPage(q.viewRequest, now)
	}
	if !found {
		return nil
	}
	return u.servable(q, e.moved(), tierMemory, now)
}

// servable returns an entry of a tier if it may be served now, else nil. One that may be served where the server fails is noted.
func (u *Stage) servable(q *load, e *entry, label int, now time.Time) *entry {
	if e == nil || q.forAll && !e.public || q.first != nil && (q.firstPage == nil || q.firstPage.list != e.list) {
		return nil
	}
	if !u.fresh(q.request, e, now) {
		u.noteStale(q, e, label, now)
		return nil
	}
	return e
}

// freshFirstPage returns what memory has of the first page of a request's list; nil where there is no fresh one, or this is no later
// one.
func (u *Stage) freshFirstPage(q *request, now time.Time) *entry {
	var e entry
	if q.first == nil || !u.readFirstPage(q, &e, now) {
		return nil
	}
	return e.moved()
}

// noteStale notes an entry that may be served where the server fails. One that stopped being fresh before its time, since a change
// would not have been received, expires now.
func (u *Stage) noteStale(q *load, e *entry, tier int, now time.Time) {
	if ms := now.UnixMilli(); e.freshUntil > ms {
		e.freshUntil = ms
		e.staleUntil = min(e.staleUntil, ms+u.opts.staleFor(legacyTTL).Milliseconds())
	}
	if e.usable(now.UnixMilli()) && (q.stale == nil || e.storedAt > q.stale.storedAt) {
		q.stale, q.staleTier = e, tier
	}
}
