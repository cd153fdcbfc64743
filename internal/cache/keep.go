package cache

import (
	"context"
	"errors"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// keep stores an answer: in memory before it returns, behind it soon. It reports whether it is in memory.
func (u *Upstream) keep(q *query, e *entry) bool {
	kept := u.remember(q, e)
	if !q.local && len(u.store.slow) > 0 {
		u.keepBehind(q, e)
	}
	if !q.legacy && kept {
		u.changes.Stored(q.call, q.asker)
	}
	return kept
}

// remember puts an entry into memory, which copies it, if nothing has made it stale since the tokens were gathered.
func (u *Upstream) remember(q *query, e *entry) bool {
	l, tokens := &q.private, q.privateTokens
	if e.public {
		l, tokens = &q.public, q.publicTokens
	}
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

// keepBehind queues an entry for the slow tiers whose tokens were read before the server was asked: of a tier that was not
// read nobody knows what it takes for stale.
func (u *Upstream) keepBehind(q *query, e *entry) {
	l := &q.private
	if e.public {
		l = &q.public
	}
	var one *unsealed
	for i, t := range u.store.slow {
		tokens := q.slow[i].private
		if e.public {
			tokens = q.slow[i].public
		}
		if len(tokens) != len(l.Generations) || !t.takes(q.question, e.public) || !u.outlivesWrites(q, e.public) {
			continue
		}
		if one == nil {
			plain := e.appendTo(make([]byte, 0, entryHead+len(e.body)))
			one = &unsealed{store: u.store, key: l.Key, plain: plain, size: len(plain)}
		}
		if !e.public && one.credential == nil {
			one.credential = u.credentialLater(q)
		}
		t.Put(worker.Entry{Size: one.size, Sealer: one, Write: tier.Write{
			Key: l.Key, Expires: time.UnixMilli(min(e.staleUntil, e.storedAt+maxBehind.Milliseconds())),
			Guard: tier.Guard{Generations: l.Generations, Tokens: tokens},
		}})
	}
}

// maxBehind is how long an entry lives behind memory, however long it waits to be written: a shared tier keeps the token of a
// bump for an hour longer.
const maxBehind = 25 * time.Hour

// outlivesWrites reports whether no tools/call has made the answer old on its way: a tier may have been told of one before
// its tokens were read, and need not have been told since. Of the next one it will be.
func (u *Upstream) outlivesWrites(q *query, public bool) bool {
	if !q.onTools {
		return true
	}
	u.kept.begin(q.bearer)
	return u.holds(q, public)
}

// takes reports whether the tier may hold such an entry: what a credential read goes to a database only where the
// operator says so.
func (t *behind) takes(q *question, public bool) bool {
	return public || t.Private || q.method != mcp.MethodResourcesRead
}

// credentialLater makes the call's credential when it is needed, which may be after the call: of its headers only that is held
// which tells the credential.
func (u *Upstream) credentialLater(q *query) func() (*credential, error) {
	if c := q.credential; c != nil {
		return func() (*credential, error) { return c, nil }
	}
	p := &u.store.partitions
	identity := p.credentialIdentity(q.call.Header, q.call.Query)
	return func() (*credential, error) { return p.credentialOf(identity) }
}

func (u *Upstream) credentialOf(q *query) (*credential, error) {
	if q.credential != nil {
		return q.credential, nil
	}
	c, err := u.store.partitions.credential(q.call.Header, q.call.Query)
	q.credential = c
	return c, err
}

// fromSlow asks the slow tiers, one after the other, for a fresh entry, and gathers their tokens. What it finds goes into
// memory, and into the tiers before, with the life that is left.
func (u *Upstream) fromSlow(ctx context.Context, q *query) (*entry, int) {
	if len(u.store.slow) == 0 {
		return nil, 0
	}
	lookups := lookupsOf(q.question)
	for i, t := range u.store.slow {
		found, err := t.Read(ctx, lookups)
		if err != nil {
			u.metrics.count(t.label, failureOf(err))
			continue
		}
		q.slow[i] = slowTokens{private: found[0].Tokens, public: found[1].Tokens}
		if e := u.pick(q, i, found); e != nil {
			u.metrics.count(t.label, outcomeHit)
			u.promote(q, e)
			return e, t.label
		}
		u.metrics.count(t.label, outcomeMiss)
	}
	return nil, 0
}

// failureOf is what came of a read that brought nothing.
func failureOf(err error) outcome {
	if errors.Is(err, worker.ErrSkipped) {
		return outcomeSkipped
	}
	return outcomeError
}

// lookupsOf are both entries of a question, and those of its list's first page, as tiers behind memory keep them.
func lookupsOf(q *question) []tier.Lookup {
	l := append(make([]tier.Lookup, 0, 4), q.private, q.public)
	if q.first != nil {
		l = append(l, q.first.private, q.first.public)
	}
	return l
}

// pick takes of what a slow tier found what may be served now, and notes what may stand in for a failing server.
func (u *Upstream) pick(q *query, i int, found []tier.Found) *entry {
	now := time.Now()
	if q.first != nil && q.head == nil {
		if first := u.open(q, i, q.first, found[2], found[3], now); first != nil && u.fresh(q.question, first, now) {
			q.head = first
		}
	}
	e := u.open(q, i, &q.pair, found[0], found[1], now)
	if e == nil || q.open && !e.public || q.first != nil && (q.head == nil || q.head.list != e.list) {
		return nil
	}
	if !u.fresh(q.question, e, now) {
		u.staleFor(q, e, u.store.slow[i].label, now)
		return nil
	}
	if !u.holds(q, e.public) { // made old while it was read
		return nil
	}
	return e
}

// open reads what a tier has for a pair: the asker's own, unless everybody's comes before it. What does not
// open is deleted there.
func (u *Upstream) open(q *query, i int, p *pair, private, public tier.Found, now time.Time) *entry {
	t := u.store.slow[i]
	var own *entry
	if private.Value != nil && t.takes(q.question, false) {
		if own = u.unseal(q, p.private.Key, private.Value, false); own == nil {
			t.Discard(p.private.Key)
		} else {
			own.shared = t.Shared
		}
	}
	all := u.openPublic(q, i, p, public, now)
	if own == nil || all != nil && all.before(own, now) {
		return all
	}
	return own
}

// openPublic is open for everybody's entry.
func (u *Upstream) openPublic(q *query, i int, p *pair, public tier.Found, now time.Time) *entry {
	t := u.store.slow[i]
	if public.Value == nil {
		return nil
	}
	if p == &q.pair {
		q.isThere = true
	}
	e := u.unseal(q, p.public.Key, public.Value, true)
	if e == nil {
		t.Discard(p.public.Key)
		return nil
	}
	if q.own || !u.seen.known(q.asker, q.bearer, now) {
		return nil
	}
	e.shared = t.Shared
	return e
}

func (u *Upstream) unseal(q *query, k tier.Key, stored []byte, public bool) *entry {
	var c *credential
	if !public {
		var err error
		if c, err = u.credentialOf(q); err != nil {
			return nil
		}
	}
	packed, isPublic, err := u.store.sealer.open(k, c, stored)
	if err != nil || isPublic != public {
		return nil
	}
	plain, err := u.store.packer.unpack(packed)
	e := new(entry)
	if err != nil || e.decode(plain) != nil || e.public != public || e.shared {
		return nil
	}
	u.limit(q.question, e)
	return e
}

// promote puts what a slow tier had into memory, and not into a tier before it: other daemons share both, and one of them
// may have told that tier of a change of which the one behind has not heard yet.
func (u *Upstream) promote(q *query, e *entry) {
	u.remember(q, e)
	if !q.legacy {
		u.changes.Stored(q.call, q.asker)
	}
}
