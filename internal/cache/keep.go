package cache

import (
	"math/rand/v2"
	"net/http"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// examine decides of a whole answer whether all who made the same request may have it, and whether it may be kept, and keeps it
// then.
func (u *Stage) examine(q *load, res *mcp.Result) (share, kept bool) {
	m := &res.Message
	if !q.complete(m, res.Body) {
		return false, false // input_required and the like belong to this caller alone
	}
	if m.Kind == mcp.KindError || m.Ambiguous || q.mayBeError(m, res.Body) {
		return !q.forAll && !q.forView, false
	}
	if q.view != nil {
		switch shared := u.compare(q.request, q.tokens.private, m.Result.Of(res.Body)); {
		case shared && !q.forView:
			q = q.forViewLoad()
		case q.forView && !shared:
			return false, false
		}
	}
	if !q.plain {
		u.noteServer(mcp.EraModern, m.ServerInfo.Of(res.Body))
	}
	e, keeps := u.entryOf(q, res)
	public := keeps && e.public
	if !public {
		u.withdraw(q)
	}
	u.publicKeys.set(q.public.Key, public) // last: a flight for everybody that began before ends with the withdrawal
	return public || !q.forAll, keeps && u.keep(q, &e)
}

// complete reports whether a result is whole (2026-07-28: resultType, absent is complete). An error is, and what is not MCP's.
func (q *request) complete(m *mcp.Message, body []byte) bool {
	return q.plain || !m.ResultType.Present() || mcp.TextIs(m.ResultType.Of(body), "complete")
}

// mayBeError reports whether MCP's isError is there and anything but false.
func (q *request) mayBeError(m *mcp.Message, body []byte) bool {
	return !q.plain && m.IsError.Present() && string(m.IsError.Of(body)) != "false"
}

// whole reports whether a Result is one whole answer of the server's that was checked, and not one session's alone.
func whole(res *mcp.Result) bool {
	return res.Checked && !res.Remembered && !res.Outdated && res.Status == http.StatusOK && res.Raw == nil && len(res.Body) > 0 &&
		(res.Message.Kind == mcp.KindResult || res.Message.Kind == mcp.KindError) && !mcp.IsEncoded(res.Header)
}

// refusal reports whether a Result is an error of HTTP's: everybody who made the same request as the same principal gets
// it as well, the more so where the server is overloaded.
func refusal(res *mcp.Result) bool {
	return res.Status >= http.StatusBadRequest && res.Events == nil && res.Raw == nil && !mcp.IsEncoded(res.Header)
}

// pageGone reports whether the server refused a cursor: the pages of the list that are kept belong to another list now. The error may
// come with a status of HTTP's own (2026-07-28, server/utilities/pagination; basic/transports/streamable-http).
func pageGone(q *load, res *mcp.Result) bool {
	m := res.Message
	if q.first == nil || !res.Checked && (res.Status != http.StatusBadRequest || mcp.Scan(res.Scanned(), &m) != nil) {
		return false
	}
	return m.Kind == mcp.KindError && string(m.ErrorCode.Of(res.Scanned())) == "-32602"
}

// entryOf makes an entry of an answer; false where there is nothing to keep it for.
func (u *Stage) entryOf(q *load, res *mcp.Result) (e entry, ok bool) {
	m, now := &res.Message, time.Now()
	if len(res.Body)+entryHead > u.store.maxEntry || !m.ID.Present() {
		return e, false
	}
	serverTTL, at := int64(-1), mcp.Span{}
	if m.TTL.Present() && !q.plain {
		serverTTL, at = ttlOf(m.TTL.Of(res.Body)), m.TTL
	}
	ttl := u.lifetime(q.request, q.subscribed, serverTTL)
	if ttl <= 0 {
		return e, false
	}
	public := !q.privateOnly && serverTTL > 0 && mcp.TextIs(m.CacheScope.Of(res.Body), "public")
	fresh := ttl - jitter(ttl)
	e = entry{
		public: public, storedAt: now.UnixMilli(), freshUntil: now.Add(fresh).UnixMilli(),
		staleUntil: now.Add(fresh + u.opts.staleFor(ttl)).UnixMilli(),
		serverTTL:  serverTTL, id: m.ID, ttl: at, body: res.Body,
	}
	return e, q.paged(&e)
}

// paged gives a page the name of its list, and no longer a life than the first page has. It returns false for a later page whose
// first one is not kept.
func (q *load) paged(e *entry) bool {
	switch {
	case q.first == nil:
		e.list = rand.Uint64() | 1 // 0 is no name
	case q.firstPage == nil || q.firstPage.freshUntil <= e.storedAt:
		return false
	default:
		e.list = q.firstPage.list
		e.freshUntil = min(e.freshUntil, q.firstPage.freshUntil)
		e.staleUntil = min(e.staleUntil, q.firstPage.staleUntil)
	}
	return true
}

// keep stores an answer: in memory before it returns, in the slow tiers soon after. It reports whether it is in memory.
func (u *Stage) keep(q *load, e *entry) bool {
	kept := u.keepInMemory(q, e)
	if !q.memoryOnly && len(u.store.slowTiers) > 0 {
		u.keepInTiers(q, e)
	}
	if !q.legacy && kept {
		u.listener.Stored(q.call, q.principal)
	}
	return kept
}

// keepInMemory puts an entry into memory, which copies it, if nothing has invalidated it since the tokens were read.
func (u *Stage) keepInMemory(q *load, e *entry) bool {
	l, tokens := q.keys.of(e.public), q.tokens.of(e.public)
	prefix := memory.Prefix(len(tokens))
	stored := e.appendTo(u.store.buffers.Get(prefix + entryHead + len(e.body))[:prefix])
	defer u.store.buffers.Put(stored)
	guard := tier.Guard{Generations: l.Generations, Tokens: tokens}
	kept, err := u.store.memory.Put(&l.Key, stored, time.UnixMilli(e.staleUntil), &guard)
	if err != nil {
		u.store.log.Warn("memory does not take an entry", "error", err)
	}
	return kept
}

// keepInTiers queues an entry for the slow tiers whose tokens were read before the server was called: of a tier that was not read
// it is not known what has been invalidated there.
func (u *Stage) keepInTiers(q *load, e *entry) {
	l := q.keys.of(e.public)
	var seal func() ([]byte, error)
	size := entryHead + len(e.body)
	for i, t := range u.store.slowTiers {
		tokens := q.slowTokens[i].of(e.public)
		if len(tokens) != len(l.Generations) || !t.mayHold(q.request, e.public) || !u.outlivesWrites(q, e.public) {
			continue
		}
		if seal == nil {
			var key func() (*sealKey, error)
			if !e.public {
				key = u.sealKeyOf(q)
			}
			seal = u.store.sealed(l.Key, key, e.appendTo(make([]byte, 0, size)))
		}
		t.Put(worker.Entry{Size: size, Seal: seal, Write: tier.Write{
			Key: l.Key, Expires: time.UnixMilli(min(e.staleUntil, e.storedAt+maxTierLife.Milliseconds())),
			Guard: tier.Guard{Generations: l.Generations, Tokens: tokens},
		}})
	}
}

// maxTierLife is how long an entry lives behind memory, however long it waits to be written: a shared tier keeps the token of a
// bump for an hour longer.
const maxTierLife = 25 * time.Hour

// outlivesWrites reports whether no tools/call has invalidated the answer since its tokens were read. A tier may have been told of
// one before that, and need not have been told since. Of the next one it will be told.
func (u *Stage) outlivesWrites(q *load, public bool) bool {
	if !q.staleOnCall {
		return true
	}
	u.writers.noteWrite(q.credential)
	return u.tokensHold(q, public)
}

// noteKept remembers whether the answer to a request could be kept: where it could not, no tier is read for it. An HTTP error
// says nothing of that, nor does a page whose first one is not there; and where a stale answer is at hand a tier may have another.
func (u *Stage) noteKept(q *load, res *mcp.Result, kept bool) {
	if q.memoryOnly || len(q.slowTokens) == 0 || res.Status != http.StatusOK || q.first != nil && q.firstPage == nil {
		return
	}
	u.notKept.set(q.private.Key, !kept && q.stale == nil && u.tokensHold(q, false))
}
