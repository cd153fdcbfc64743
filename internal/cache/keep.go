package cache

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// keep stores an answer: in memory before it returns, behind it soon. It reports whether it is in memory.
func (b *back) keep(q *query, e *entry) bool {
	kept := b.remember(q, e)
	for i := range b.store.slow {
		b.keepBehind(q, e, i)
	}
	if !q.legacy && kept {
		b.changes.Stored(q.call, q.asker)
	}
	return kept
}

// remember puts an entry into memory, if nothing has made it old since the tokens were gathered.
func (b *back) remember(q *query, e *entry) bool {
	l, tokens := &q.private, q.privateTokens
	if e.public {
		l, tokens = &q.public, q.publicTokens
	}
	w := Write{
		Key: l.Key, Value: e.appendTo(make([]byte, 0, entryHead+len(e.body))), Expires: time.UnixMilli(e.staleUntil),
		Guard: Guard{Generations: l.Generations, Tokens: tokens},
	}
	stored, err := b.store.memory.put(&w)
	if err != nil {
		b.store.log.Warn("memory does not take an entry", "error", err)
	}
	return stored
}

// keepBehind queues an entry for a slow tier, if its tokens were read before the server was asked.
func (b *back) keepBehind(q *query, e *entry, i int) {
	t := b.store.slow[i]
	if q.session {
		return // nobody would find it there
	}
	l, tokens := &q.private, q.slow[i].private
	if e.public {
		l, tokens = &q.public, q.slow[i].public
	}
	if len(tokens) != len(l.Generations) || !t.takes(q.question, e.public) {
		return // of a tier that was not read nobody knows what it takes for old
	}
	if !b.outlivesWrites(q, e.public) {
		return
	}
	value, err := b.seal(q, l.Key, e)
	if err != nil {
		b.store.log.Warn("an entry cannot be sealed", "error", err)
		return
	}
	t.put(Write{
		Key: l.Key, Value: value, Expires: time.UnixMilli(e.staleUntil),
		Guard: Guard{Generations: l.Generations, Tokens: tokens},
	})
}

// outlivesWrites reports whether no tools/call has made the answer old on its way: a tier may have been told of one before
// its tokens were read, and need not have been told since. Of the next one it will be.
func (b *back) outlivesWrites(q *query, public bool) bool {
	if !q.onTools {
		return true
	}
	b.kept.begin(q.asker)
	return b.holds(q, public)
}

// takes reports whether the tier may hold such an entry: what a credential read goes to a database only where the
// operator says so.
func (t *slowTier) takes(q *question, public bool) bool {
	return public || t.Private || q.method != mcp.MethodResourcesRead
}

// seal encodes an entry as it leaves memory.
func (b *back) seal(q *query, k Key, e *entry) ([]byte, error) {
	own := *e
	own.shared = false
	size := entryHead + len(e.body)
	buf := b.store.buffers.Get(size)
	plain := own.appendTo(buf)
	defer func() { b.store.buffers.Put(plain) }()
	dst := make([]byte, 0, size+sealOverhead)
	if e.public {
		return b.store.sealer.sealPublic(dst, k, plain), nil
	}
	c, err := b.credentialOf(q)
	if err != nil {
		return nil, err
	}
	return b.store.sealer.sealPrivate(dst, k, c, plain), nil
}

func (b *back) credentialOf(q *query) (*credential, error) {
	if q.credential != nil {
		return q.credential, nil
	}
	c, err := b.store.partitions.credential(q.call.Header, q.call.Query)
	q.credential = c
	return c, err
}

// fromSlow asks the slow tiers, one after the other, for a fresh entry, and gathers their tokens. What it finds goes into
// memory, and into the tiers before, with the life that is left.
func (b *back) fromSlow(ctx context.Context, q *query) (*entry, int) {
	if q.session {
		return nil, 0
	}
	lookups := lookupsOf(q.question)
	for i, t := range b.store.slow {
		found, came := t.read(ctx, lookups)
		if found == nil {
			b.metrics.count(t.label, came)
			continue
		}
		q.slow[i] = slowTokens{private: found[0].Tokens, public: found[1].Tokens}
		if e := b.pick(q, i, found); e != nil {
			b.metrics.count(t.label, outcomeHit)
			b.promote(q, e)
			return e, t.label
		}
		b.metrics.count(t.label, outcomeMiss)
	}
	return nil, 0
}

// lookupsOf are both entries of a question, and those of its list's first page, as tiers behind memory keep them.
func lookupsOf(q *question) []Lookup {
	l := append(make([]Lookup, 0, 4), q.private, q.public)
	if q.first != nil {
		l = append(l, q.first.private, q.first.public)
	}
	return l
}

// pick takes of what a slow tier found what may be served now, and notes what may stand in for a failing server.
func (b *back) pick(q *query, i int, found []Found) *entry {
	now := time.Now()
	if q.first != nil && q.head == nil {
		if first := b.open(q, i, q.first, found[2], found[3], now); first != nil && b.fresh(q.question, first, now) {
			q.head = first
		}
	}
	e := b.open(q, i, &q.pair, found[0], found[1], now)
	if e == nil || q.open && !e.public || q.first != nil && (q.head == nil || q.head.list != e.list) {
		return nil
	}
	if !b.fresh(q.question, e, now) {
		b.staleFor(q, e, b.store.slow[i].label, now)
		return nil
	}
	if !b.holds(q, e.public) { // made old while it was read
		return nil
	}
	return e
}

// open reads what a tier has for a pair: the asker's own, unless everybody's comes before it. What does not
// open is deleted there.
func (b *back) open(q *query, i int, p *pair, private, public Found, now time.Time) *entry {
	t := b.store.slow[i]
	var own *entry
	if private.Value != nil && t.takes(q.question, false) {
		if own = b.unseal(q, p.private.Key, private.Value, false); own == nil {
			t.discard(p.private.Key)
		} else {
			own.shared = t.Shared
		}
	}
	all := b.openPublic(q, i, p, public, now)
	if own == nil || all != nil && all.before(own, now) {
		return all
	}
	return own
}

// openPublic is open for everybody's entry.
func (b *back) openPublic(q *query, i int, p *pair, public Found, now time.Time) *entry {
	t := b.store.slow[i]
	if public.Value == nil {
		return nil
	}
	if p == &q.pair {
		q.isThere = true
	}
	e := b.unseal(q, p.public.Key, public.Value, true)
	if e == nil {
		t.discard(p.public.Key)
		return nil
	}
	if q.own || !b.seen.known(q.asker, now) {
		return nil
	}
	e.shared = t.Shared
	return e
}

func (b *back) unseal(q *query, k Key, stored []byte, public bool) *entry {
	var c *credential
	if !public {
		var err error
		if c, err = b.credentialOf(q); err != nil {
			return nil
		}
	}
	plain, isPublic, err := b.store.sealer.open(k, c, stored)
	if err != nil || isPublic != public {
		return nil
	}
	e := new(entry)
	if e.decode(plain) != nil || e.public != public || e.shared {
		return nil
	}
	b.limit(q.question, e)
	return e
}

// promote puts what a slow tier had into memory, and not into a tier before it: other daemons share both, and one of them
// may have told that tier of a change of which the one behind has not heard yet.
func (b *back) promote(q *query, e *entry) {
	b.remember(q, e)
	if !q.legacy {
		b.changes.Stored(q.call, q.asker)
	}
}
