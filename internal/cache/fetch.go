package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// relay is a call whose answer is never kept, but may be shared by those who asked at the same time. A tools/call may change
// things, once for all of them.
func (u *Upstream) relay(ctx context.Context, c *mcp.Call, q *question) (served, error) {
	changes := q.method == mcp.MethodToolsCall
	if changes {
		u.changed(q.bearer)
	}
	res, err := u.askServer(ctx, c, q)
	if changes {
		u.answered(c, res, func() { u.changed(q.bearer) })
	}
	if err != nil {
		return served{}, err
	}
	u.metrics.count(tierNone, outcomeBypass)
	addStatus(res, "fwd=bypass")
	return served{res, whole(res) && q.complete(&res.Message, res.Body) || refusal(res)}, nil
}

// query is a call on its way through the tiers.
type query struct {
	*plan
	call       *mcp.Call
	header     http.Header
	credential *credential // made when a slow tier is used

	// The tokens that guard what will be stored, as they were before the server was asked.
	privateTokens, publicTokens []tier.Token
	slow                        []slowTokens

	heard     bool   // a change of the list would have been heard since before the server was asked
	stale     *entry // expired, but good for a server that fails
	staleTier int
	isThere   bool // a slow tier has a public entry

	// Of a later page: the first one, as it was before the server was asked; nil where there is none that is fresh. Headed is that
	// of the view, where the question is a session's own.
	head, headed *entry
}

// forAll is the query as one for all sessions of its view.
func (q *query) forAll() *query {
	own, p := *q, *q.plan
	p.question, own.head = q.all, q.headed
	own.plan, own.privateTokens = &p, q.privateTokens[:len(q.all.private.Generations)]
	return &own
}

// slowTokens are those of one slow tier. They are nil where it was not read.
type slowTokens struct{ private, public []tier.Token }

// look looks into memory again for a fresh entry: the flight before may have stored the answer. What is only good for a
// failing server is noted.
func (u *Upstream) look(q *query) *entry {
	now := time.Now()
	var e entry
	found := u.inMemory(&q.pair, q.question, &e, now)
	if q.head = u.firstOf(q.question, now); q.view != nil && !q.scoped {
		q.headed = u.firstOf(q.all, now)
	}
	if !found || q.open && !e.public || q.first != nil && (q.head == nil || q.head.list != e.list) {
		return nil
	}
	if !u.fresh(q.question, &e, now) {
		u.staleFor(q, e.moved(), tierMemory, now)
		return nil
	}
	return e.moved()
}

// firstOf returns what memory has of the first page of a question's list; nil where there is no fresh one, or this is no later
// one.
func (u *Upstream) firstOf(q *question, now time.Time) *entry {
	var e entry
	if q.first == nil || !u.head(q, &e, now) {
		return nil
	}
	return e.moved()
}

// staleFor notes an entry that may stand in for a failing server. One that is not fresh before its time, since nobody would
// have heard of a change, ends now.
func (u *Upstream) staleFor(q *query, e *entry, tier int, now time.Time) {
	if ms := now.UnixMilli(); e.freshUntil > ms {
		e.freshUntil = ms
		e.staleUntil = min(e.staleUntil, ms+u.opts.staleFor(legacyTTL).Milliseconds())
	}
	if e.usable(now.UnixMilli()) && (q.stale == nil || e.storedAt > q.stale.storedAt) {
		q.stale, q.staleTier = e, tier
	}
}

func (u *Upstream) gather(q *query) {
	t := u.store.memory.Tokens
	room := make([]tier.Token, 0, 2*tier.MaxGuards)
	q.privateTokens = t.Read(q.private.Generations, room)
	q.publicTokens = t.Read(q.public.Generations, q.privateTokens[len(q.privateTokens):])
	q.slow = make([]slowTokens, len(u.store.slow))
	q.heard = u.hears(q.question)
}

// holds reports whether nothing has made answers old since the tokens were gathered.
func (u *Upstream) holds(q *query, public bool) bool {
	t := u.store.memory.Tokens
	if public {
		return t.Hold(q.public.Generations, q.publicTokens)
	}
	return t.Hold(q.private.Generations, q.privateTokens)
}

// found is a whole answer from a tier, as the flight's call gets it.
func (u *Upstream) found(q *query, e *entry, tier int) served {
	now := time.Now()
	a := u.tierAnswer(q, e, e.remaining(now.UnixMilli()))
	addStatus(a.res, hitStatus(e, now, tierNames[tier])[len("fluentd-perf; "):])
	return a
}

func (u *Upstream) tierAnswer(q *query, e *entry, ttlMs int64) served {
	res := u.answer(q.call, e, ttlMs)
	res.Cached = true
	res.Checked = mcp.Scan(res.Body, &res.Message) == nil
	return served{res, res.Checked && (e.public || !q.open)}
}

// fetch asks the server, and keeps the answer where it may.
func (u *Upstream) fetch(ctx context.Context, q *query) (served, error) {
	res, err := u.askServer(ctx, q.call, q.question)
	if err != nil {
		return served{}, err
	}
	if !failed(res, nil) && u.failing.Load() && u.failing.Swap(false) {
		u.store.log.Info("the server answers again", "upstream", u.opts.Name)
	}
	if pageGone(q, res) && q.head != nil {
		u.metrics.bumped(causeCursor)
		u.refused.add(q.listKey(), q.head.list)
	}
	share, kept := refusal(res) && !q.open && !q.scoped, false
	if whole(res) {
		share, kept = u.take(q, res)
	}
	u.note(q, res, kept)
	if kept {
		u.metrics.count(tierNone, outcomeStored)
		addStatus(res, "fwd=miss; stored")
		return served{res, share}, nil
	}
	u.metrics.count(tierNone, outcomeUncacheable)
	addStatus(res, "fwd=miss")
	return served{res, share}, nil
}

// note remembers of an answer that was not kept that no tier is to be asked for it. A failure says nothing of what may be kept,
// nor does a page whose first one is not there; and where an answer is left that may be served instead of others, a tier can help.
func (u *Upstream) note(q *query, res *mcp.Result, kept bool) {
	if q.local || len(q.slow) == 0 || res.Status != http.StatusOK || q.first != nil && q.head == nil {
		return
	}
	u.unkept.set(q.private.Key, !kept && q.stale == nil && u.holds(q, false))
}

// refusal reports whether a Result is an error of HTTP's: everybody who asked the same as the same asker gets it as well,
// the more so where the server asks for mercy.
func refusal(res *mcp.Result) bool {
	return res.Status >= http.StatusBadRequest && res.Events == nil && res.Raw == nil && !encoded(res.Header)
}

// whole reports whether a Result is one whole answer of the server's that was checked.
func whole(res *mcp.Result) bool {
	return res.Checked && res.Status == http.StatusOK && res.Raw == nil && len(res.Body) > 0 &&
		(res.Message.Kind == mcp.KindResult || res.Message.Kind == mcp.KindError) && !encoded(res.Header)
}

func encoded(h http.Header) bool {
	for _, v := range h["Content-Encoding"] {
		if v != "" && v != "identity" {
			return true
		}
	}
	return false
}

// take looks at a whole answer: whether all may have it who asked the same, and whether it may be kept, which it is then.
func (u *Upstream) take(q *query, res *mcp.Result) (share, kept bool) {
	m := &res.Message
	if !q.complete(m, res.Body) {
		return false, false // input_required and the like belong to this caller alone
	}
	if m.Kind == mcp.KindError || m.Ambiguous || q.mayBeError(m, res.Body) {
		return !q.open && !q.scoped, false
	}
	if q.view != nil {
		switch shared := u.compare(q.question, q.privateTokens, m.Result.Of(res.Body)); {
		case shared && !q.scoped:
			q = q.forAll()
		case q.scoped && !shared:
			return false, false
		}
	}
	if !q.plain {
		u.isServer(mcp.EraModern, m.ServerInfo.Of(res.Body))
	}
	e, keeps := u.entryOf(q, res)
	public := keeps && e.public
	if !public {
		u.withdraw(q)
	}
	u.publics.set(q.public.Key, public) // after that: until then flights for everybody end with it
	return public || !q.open, keeps && u.keep(q, &e)
}

// withdraw makes everybody's entry stale, where there is one: the answer to its key is private now. A slow tier that could not
// be asked whether it has one is told, too, unless it is to be told of something else anyhow that the entry depends on.
func (u *Upstream) withdraw(q *query) {
	withdrawal := withdrawalOf(u.opts.Identity, q.public.Key)
	if q.isThere || u.publics.has(q.public.Key) || u.store.memory.Get(&q.public, time.Now()) != nil {
		u.store.bump(u.families[:], withdrawal)
		return
	}
	if q.own || !u.storable(q.question) {
		return
	}
	for i, t := range u.store.slow {
		if q.slow[i].public == nil && !t.Pending(q.public) {
			t.Invalidate([]tier.Generation{withdrawal}, u.families[:])
		}
	}
}

// complete reports whether a result is whole (2026-07-28: resultType, absent is complete). An error is, and what is not MCP's.
func (q *question) complete(m *mcp.Message, body []byte) bool {
	return q.plain || !m.ResultType.Present() || mcp.TextIs(m.ResultType.Of(body), "complete")
}

// mayBeError reports whether MCP's isError is there and anything but false.
func (q *question) mayBeError(m *mcp.Message, body []byte) bool {
	return !q.plain && m.IsError.Present() && string(m.IsError.Of(body)) != "false"
}

// pageGone reports whether the server refused a cursor: what is kept of the list's pages is of another list. The error may
// come with a status of HTTP's own (2026-07-28, server/utilities/pagination; basic/transports/streamable-http).
func pageGone(q *query, res *mcp.Result) bool {
	m := res.Message
	if q.first == nil || !res.Checked && (res.Status != http.StatusBadRequest || mcp.Scan(res.Said(), &m) != nil) {
		return false
	}
	return m.Kind == mcp.KindError && string(m.ErrorCode.Of(res.Said())) == "-32602"
}

// entryOf makes an entry of an answer; false where there is nothing to keep it for.
func (u *Upstream) entryOf(q *query, res *mcp.Result) (e entry, ok bool) {
	m, now := &res.Message, time.Now()
	if len(res.Body)+entryHead > u.store.maxEntry || !m.ID.Present() {
		return e, false
	}
	serverTTL, at := int64(-1), mcp.Span{}
	if m.TTL.Present() && !q.plain {
		serverTTL, at = ttlOf(m.TTL.Of(res.Body)), m.TTL
	}
	ttl := u.lifetime(q.question, q.heard, serverTTL)
	if ttl <= 0 {
		return e, false
	}
	public := !q.own && serverTTL > 0 && mcp.TextIs(m.CacheScope.Of(res.Body), "public")
	fresh := ttl - jitter(ttl)
	e = entry{
		public: public, storedAt: now.UnixMilli(), freshUntil: now.Add(fresh).UnixMilli(),
		staleUntil: now.Add(fresh + u.opts.staleFor(ttl)).UnixMilli(),
		serverTTL:  serverTTL, id: m.ID, ttl: at, body: res.Body,
	}
	return e, q.paged(&e)
}

// paged gives a page the list that it is of, and no longer a life than the first page's. It is false for a later page whose
// first one nobody keeps.
func (q *query) paged(e *entry) bool {
	switch {
	case q.first == nil:
		e.list = uint64(tier.NewToken())
	case q.head == nil || q.head.freshUntil <= e.storedAt:
		return false
	default:
		e.list = q.head.list
		e.freshUntil = min(e.freshUntil, q.head.freshUntil)
		e.staleUntil = min(e.staleUntil, q.head.staleUntil)
	}
	return true
}

// limit cuts the life of an entry to what this upstream gives it: it may have been stored under another configuration.
func (u *Upstream) limit(q *question, e *entry) {
	ttl := u.lifetime(q, true, e.serverTTL)
	e.freshUntil = min(e.freshUntil, e.storedAt+ttl.Milliseconds())
	e.staleUntil = min(e.staleUntil, e.freshUntil+u.opts.staleFor(ttl).Milliseconds())
	if q.list && u.refused.has(q.listKey(), e.list) {
		e.freshUntil, e.staleUntil = 0, 0
	}
}

// ttlOf reads ttlMs: an integer, and 0 for anything else, a negative one included.
func ttlOf(token []byte) int64 {
	n, err := strconv.ParseInt(string(token), 10, 64)
	if errors.Is(err, strconv.ErrRange) && n > 0 {
		return int64(dayTTL / time.Millisecond)
	}
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// legacyTTL is how long a legacy list is kept whose changes the daemon hears.
const legacyTTL = time.Minute

// lifetime is how long an answer is fresh: by the operator's word, else the legacy rule, else the server's word, which
// min_ttl raises where it is one.
func (u *Upstream) lifetime(q *question, heard bool, serverTTL int64) time.Duration {
	var ttl time.Duration
	switch {
	case q.override:
		ttl = q.ttl
	case q.legacy && q.list && (heard || q.scoped):
		ttl = legacyTTL
	case !q.legacy && serverTTL > 0:
		ttl = max(time.Duration(min(serverTTL, int64(dayTTL/time.Millisecond)))*time.Millisecond, u.opts.MinTTL)
	}
	return min(ttl, u.opts.MaxTTL)
}

// jitter takes up to a twentieth off a long life, so that what was fetched together is not fetched together again.
func jitter(ttl time.Duration) time.Duration {
	if ttl < 10*time.Second {
		return 0
	}
	return rand.N(ttl / 20).Truncate(time.Millisecond) // as lives are kept: the twentieth is never reached
}
