package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// slowTier is a tier behind memory, with its label.
type slowTier struct {
	*worker.Worker
	label int
}

// mayHold reports whether the tier may hold such an entry: private answers to resources/read go to a database only where
// the operator says so.
func (t *slowTier) mayHold(q *request, public bool) bool {
	return public || t.Private || q.method != mcp.MethodResourcesRead
}

// readTiers asks the slow tiers, one after the other, for a fresh entry, and notes their tokens. What it finds goes into memory,
// with the life that is left.
func (u *Stage) readTiers(ctx context.Context, q *load) (*entry, int) {
	if len(u.store.slowTiers) == 0 {
		return nil, 0
	}
	lookups := append(make([]tier.Lookup, 0, 4), q.private, q.public)
	if q.first != nil {
		lookups = append(lookups, q.first.private, q.first.public)
	}
	for i, t := range u.store.slowTiers {
		found, err := t.Read(ctx, lookups)
		if err != nil {
			what := outcomeError
			if errors.Is(err, worker.ErrSkipped) {
				what = outcomeSkipped
			}
			u.metrics.count(t.label, what)
			continue
		}
		q.slowTokens[i] = tokens{found[0].Tokens, found[1].Tokens}
		if e := u.pickServable(q, i, found); e != nil {
			u.metrics.count(t.label, outcomeHit)
			u.promote(q, e)
			return e, t.label
		}
		u.metrics.count(t.label, outcomeMiss)
	}
	return nil, 0
}

// pickServable returns of what a slow tier found what may be served now, and notes what may be served where the server fails.
func (u *Stage) pickServable(q *load, i int, found []tier.Found) *entry {
	now := time.Now()
	if q.first != nil && q.firstPage == nil {
		if first := u.openEntries(q, i, q.first, found[2], found[3], now); first != nil && u.fresh(q.request, first, now) {
			q.firstPage = first
		}
	}
	e := u.servable(q, u.openEntries(q, i, &q.keys, found[0], found[1], now), u.store.slowTiers[i].label, now)
	if e == nil || !u.tokensHold(q, e.public) { // invalidated while it was read
		return nil
	}
	return e
}

// openEntries returns what a tier has under two keys: the principal's own entry, unless everybody's comes before it.
func (u *Stage) openEntries(q *load, i int, p *keys, private, public tier.Found, now time.Time) *entry {
	own, all := u.unseal(q, i, p.private.Key, private.Value, false), u.unseal(q, i, p.public.Key, public.Value, true)
	q.publicInTier = q.publicInTier || public.Value != nil && p == &q.keys
	if all == nil || q.privateOnly || own != nil && !all.before(own, now) || !u.credentials.known(q.principal, q.credential, now) {
		return own
	}
	return all
}

// unseal reads an entry of a tier, nil where there is none. What does not open is deleted there.
func (u *Stage) unseal(q *load, i int, k tier.Key, stored []byte, public bool) *entry {
	t := u.store.slowTiers[i]
	if stored == nil || !t.mayHold(q.request, public) {
		return nil
	}
	e, err := u.decode(q, k, stored, public)
	if err != nil {
		t.Discard(k)
		return nil
	}
	e.shared = t.Shared
	u.limit(q.request, e)
	return e
}

func (u *Stage) decode(q *load, k tier.Key, stored []byte, public bool) (*entry, error) {
	var c *sealKey
	if !public {
		var err error
		if c, err = u.sealKeyOf(q)(); err != nil {
			return nil, err
		}
	}
	packed, isPublic, err := u.store.sealer.open(k, c, stored)
	if err != nil {
		return nil, err
	}
	plain, err := u.store.packer.unpack(packed)
	if err != nil {
		return nil, err
	}
	e := new(entry)
	if err := e.decode(plain); err != nil || isPublic != public || e.public != public || e.shared {
		return nil, errEntry
	}
	return e, nil
}

// sealKeyOf makes the key under which the principal's entries are sealed: once, when it is needed, which may be after the call. Of
// the call's headers only those are held that make the key.
func (u *Stage) sealKeyOf(q *load) func() (*sealKey, error) {
	if q.sealKey == nil {
		p := &u.store.partitions
		identity := p.sealIdentity(q.call.Header, q.call.Query)
		q.sealKey = sync.OnceValues(func() (*sealKey, error) { return p.sealKeyOf(identity) })
	}
	return q.sealKey
}

// promote puts what a slow tier had into memory, and not into a tier before it: other daemons share both, and one of them
// may have told that tier of a change, and the one behind not yet.
func (u *Stage) promote(q *load, e *entry) {
	u.keepInMemory(q, e)
	if !q.legacy {
		u.listener.Stored(q.call, q.principal)
	}
}
