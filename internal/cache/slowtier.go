package cache

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// SlowTier is a tier behind memory, and how it is used. Tier, Timeout and Breaker are required.
type SlowTier struct {
	Tier    tier.Tier
	ID      string        // what tells it from another tier of the kind, for the next run: a file, an address; "": its name
	Timeout time.Duration // of one read: what a slow tier costs a call at most
	Breaker Breaker
	Private bool // keeps private answers of resources/read too
	Shared  bool // other daemons use it as well
}

// Breaker keeps a tier that fails from costing every call its timeout. See internal/breaker.
type Breaker interface {
	// Allow returns what is told how it went, or false while the tier is not to be asked. The trip takes no longer than
	// most; one of which nothing is heard by then has failed.
	Allow(most time.Duration) (done func(error), ok bool)
	// State is closed, open or half-open.
	State() string
}

// stateClosed is the state of a breaker whose tier is used.
const stateClosed = "closed"

// Bounds of what waits for one slow tier.
const (
	maxQueued      = 4096     // entries
	maxQueuedBytes = 32 << 20 // of them
	maxBatch       = 128      // entries written in one trip
	maxBatchBytes  = 4 << 20  // of them, but for a single larger one
	maxPending     = 20_000   // generations
)

// slowTier is a tier behind memory with its worker: reads are made by the calls themselves, everything else by one
// goroutine in order, so that nothing that was withdrawn can be written after it.
type slowTier struct {
	SlowTier
	label   int
	metrics *tierMetrics
	wake    chan struct{}
	wrote   atomic.Int64  // bytes
	begun   chan struct{} // closed when the worker has done what there was to do at the start

	mu      sync.Mutex // guards the following
	queue   []pendingWrite
	bytes   int
	pending map[tier.Generation]invalidation // generations that the tier is to be told of
	spoilt  []tier.Key                       // whose entries do not open, to be deleted
	round   uint64
	reset   uint64 // not 0: nothing of the tier is to be used until all its tokens have been replaced; likewise
	refused error
}

// wholeBumper is a tier that can make all its entries old: the embedded one, where bumps may have been missed.
type wholeBumper interface{ BumpAll(context.Context) error }

// linker is a tier that hears what other daemons bump.
type linker interface{ Linked() bool }

func newSlowTier(o SlowTier, m *Metrics) *slowTier {
	return &slowTier{
		SlowTier: o, label: tierLabel(o.Tier.Name()), metrics: m.tier(o.Tier.Name()),
		wake: make(chan struct{}, 1), begun: make(chan struct{}), pending: make(map[tier.Generation]invalidation),
	}
}

// renewPatience is how long a start waits for a tier in which everything has to be made old first.
const renewPatience = 500 * time.Millisecond

// awaitNew waits for a tier that is quick about that.
func (t *slowTier) awaitNew() {
	patience := time.NewTimer(renewPatience)
	defer patience.Stop()
	select {
	case <-t.begun:
	case <-patience.C:
	}
}

// alone reports whether no other daemon uses the tier: nobody but this one tells it what others have bumped.
func (t *slowTier) alone() bool {
	_, whole := t.Tier.(wholeBumper)
	return whole && !t.Shared
}

// renew makes all that a tier of this daemon alone holds old: bumps may have been missed. From now on it is not read
// until that is done.
func (t *slowTier) renew() {
	if !t.alone() {
		return
	}
	t.mu.Lock()
	t.round++
	t.reset = t.round
	t.mu.Unlock()
	t.rouse()
}

// unlinked is what is wrong with a shared tier whose calls work while its link does not stand.
const unlinked = "changes that other daemons make are not heard: copies of what they share are not used"

// linked reports whether the tier hears what other daemons bump, or has no other daemons.
func (t *slowTier) linked() bool {
	l, ok := t.Tier.(linker)
	return !t.Shared || !ok || l.Linked()
}

// read asks the tier, unless its breaker is open or it is yet to be told of one of the lookups' generations.
func (t *slowTier) read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, outcome) {
	if t.hasPending(lookups) {
		return nil, outcomeSkipped
	}
	done, ok := t.Breaker.Allow(t.Timeout)
	if !ok {
		return nil, outcomeSkipped
	}
	limited, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	found, err := t.Tier.Read(limited, lookups)
	if err == nil && len(found) != len(lookups) {
		err = errors.New("the tier answered another number of questions than were asked")
	}
	if err != nil && ctx.Err() != nil {
		done(context.Canceled)
		return nil, outcomeSkipped
	}
	done(err)
	t.note(err)
	if err != nil {
		t.rouse() // the worker finds out when it works again, should nobody else ask
		return nil, outcomeError
	}
	if t.hasPending(lookups) { // what was read may be from before that
		return nil, outcomeSkipped
	}
	return found, outcomeMiss
}

// hasPending reports whether the tier has not been told yet of a change of what the lookups depend on.
func (t *slowTier) hasPending(lookups []tier.Lookup) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reset != 0 {
		return true
	}
	if len(t.pending) == 0 {
		return false
	}
	for i := range lookups {
		for _, g := range lookups[i].Generations {
			if _, ok := t.pending[g]; ok {
				return true
			}
		}
	}
	return false
}

// note keeps the last error for people, until the tier works again.
func (t *slowTier) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = err
}

// invalidation is a generation of which the tier is to be told.
type invalidation struct {
	round    uint64            // of the last time
	families []tier.Generation // of the upstream whose it is: telling the tier of them does as well
}

// invalidate notes generations of which the tier is to be told, of the upstream with these families. From now on it is not read for
// them. Where too many wait, those of the upstream become its families, on one of which each of its entries depends.
func (t *slowTier) invalidate(generations, families []tier.Generation) {
	t.mu.Lock()
	t.round++
	if len(t.pending)+len(generations) > maxPending {
		maps.DeleteFunc(t.pending, func(_ tier.Generation, d invalidation) bool { return &d.families[0] == &families[0] })
		generations = families
	}
	for _, g := range generations {
		t.pending[g] = invalidation{round: t.round, families: families}
	}
	t.mu.Unlock()
	t.rouse()
}

// discard has the tier delete an entry that does not open, when there is time for it. Until then it is a miss.
func (t *slowTier) discard(k tier.Key) {
	t.mu.Lock()
	if len(t.spoilt) < maxBatch {
		t.spoilt = append(t.spoilt, k)
	}
	t.mu.Unlock()
	t.rouse()
}

// pendingWrite is an entry that waits to be written. Its Value is made when it is.
type pendingWrite struct {
	*unsealed
	tier.Write
}

// put queues an entry, or drops it where there is no room.
func (t *slowTier) put(w pendingWrite) bool {
	t.mu.Lock()
	full := len(t.queue) >= maxQueued || t.bytes+w.size > maxQueuedBytes
	if !full {
		t.queue = append(t.queue, w)
		t.bytes += w.size
		t.metrics.queued.Set(float64(len(t.queue)))
	}
	t.mu.Unlock()
	if full {
		t.metrics.dropped.inc()
		return false
	}
	t.rouse()
	return true
}

func (t *slowTier) rouse() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// holds is what the tier holds, or of one that does not count what this daemon has written to it since its start.
func (t *slowTier) holds() tier.Stats {
	if h, ok := t.Tier.(tier.Holder); ok {
		return h.Holds()
	}
	return tier.Stats{Entries: int64(t.metrics.written.n.Load()), Bytes: t.wrote.Load(), Evictions: -1}
}

// pendingCount is how many generations the tier could not be told of yet.
func (t *slowTier) pendingCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pending)
}
