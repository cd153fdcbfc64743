package cache

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// SlowTier is a tier behind memory, and how it is used. Tier, Timeout and Breaker are required.
type SlowTier struct {
	Tier    Tier
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
	maxOwed        = 20_000   // generations and keys
)

// Waits of a slow tier's worker.
const (
	workTimeout = 2 * time.Second        // of a write, a bump, a delete; no call of an agent waits for it
	workPause   = 250 * time.Millisecond // between looks at a breaker that is open
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
	owed    map[Generation]debt // generations that the tier is to be told of
	spoilt  []Key               // whose entries do not open, to be deleted
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
		wake: make(chan struct{}, 1), begun: make(chan struct{}), owed: make(map[Generation]debt),
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

// read asks the tier, unless its breaker is open or it owes one of the lookups' generations.
func (t *slowTier) read(ctx context.Context, lookups []Lookup) ([]Found, outcome) {
	if t.owes(lookups) {
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
	if t.owes(lookups) { // what was read may be from before that
		return nil, outcomeSkipped
	}
	return found, outcomeMiss
}

// owes reports whether the tier has not been told yet of a change of what the lookups depend on.
func (t *slowTier) owes(lookups []Lookup) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reset != 0 {
		return true
	}
	if len(t.owed) == 0 {
		return false
	}
	for i := range lookups {
		for _, g := range lookups[i].Generations {
			if _, ok := t.owed[g]; ok {
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

// debt is something that the tier is to be told.
type debt struct {
	round    uint64       // in which it was last owed
	families []Generation // of the upstream whose it is: telling the tier of them does as well
}

// owe notes generations of which the tier is to be told, of the upstream with these families. From now on it is not read for
// them. Where too many wait, those of the upstream become its families, on one of which each of its entries depends.
func (t *slowTier) owe(generations, families []Generation) {
	t.mu.Lock()
	t.round++
	if len(t.owed)+len(generations) > maxOwed {
		maps.DeleteFunc(t.owed, func(_ Generation, d debt) bool { return &d.families[0] == &families[0] })
		generations = families
	}
	for _, g := range generations {
		t.owed[g] = debt{round: t.round, families: families}
	}
	t.mu.Unlock()
	t.rouse()
}

// discard has the tier delete an entry that does not open, when there is time for it. Until then it is a miss.
func (t *slowTier) discard(k Key) {
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
	Write
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

// work is the tier's goroutine: it tells the tier what it is owed, then writes what waits, until life ends. A trip that
// was begun is finished, unless trips ends.
func (t *slowTier) work(life, trips context.Context) {
	for first := true; ; first = false {
		left := t.settleUp(life, trips)
		if first {
			close(t.begun)
		}
		var again <-chan time.Time
		if left || t.probe() {
			again = time.After(workPause)
		}
		wake := t.wake
		if left {
			wake = nil // the tier does not take it: more of it does not help
		}
		select {
		case <-wake:
		case <-again:
		case <-life.Done():
			return
		}
	}
}

// probe asks a tier that is left alone for something cheap when its breaker wants to know whether it works again, and
// reports whether there is more to find out: without calls nobody else would.
func (t *slowTier) probe() bool {
	if t.Breaker.State() == stateClosed {
		return false
	}
	if done, ok := t.Breaker.Allow(t.Timeout); ok {
		limited, cancel := context.WithTimeout(context.Background(), t.Timeout)
		defer cancel()
		found, err := t.Tier.Read(limited, probeLookup)
		if err == nil && len(found) != len(probeLookup) {
			err = errors.New("the tier answered another number of questions than were asked")
		}
		done(err)
		t.note(err)
	}
	return t.Breaker.State() != stateClosed
}

// probeLookup asks for an entry that nobody keeps.
var probeLookup = []Lookup{{Key: Key{0: 1}, Generations: []Generation{generationOf("probe", "", "")}}}

// settleUp does what there is to do, until life ends, and reports whether something is left that the tier would not take
// now. Nothing is taken off the queue before the breaker allows the trip.
func (t *slowTier) settleUp(life, trips context.Context) (left bool) {
	for t.busy() && life.Err() == nil {
		done, ok := t.Breaker.Allow(workTimeout)
		if !ok {
			return true
		}
		job := t.next()
		if job == nil {
			done(context.Canceled)
			return false
		}
		if !t.travel(trips, job, done) {
			return true
		}
	}
	return false
}

// travel makes one trip and reports whether the tier took it.
func (t *slowTier) travel(trips context.Context, j *job, done func(error)) bool {
	limited, cancel := context.WithTimeout(trips, workTimeout)
	defer cancel()
	err := j.do(limited)
	switch {
	case err == nil:
		if t.Breaker.State() == stateClosed {
			err = context.Canceled // that a write works says nothing of reads, which may hang all the same
		}
		done(err)
		j.worked()
		return true
	case trips.Err() != nil:
		done(context.Canceled)
	default:
		done(err)
		t.note(err)
	}
	j.failed()
	return false
}

// busy reports whether there is anything to do now.
func (t *slowTier) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reset != 0 || len(t.owed) > 0 || len(t.spoilt) > 0 || len(t.queue) > 0
}

// job is one trip to the tier.
type job struct {
	do     func(context.Context) error
	worked func()
	failed func()
}

// next takes what is most urgent: a reset, then debts, then deletions, then entries.
func (t *slowTier) next() *job {
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := func() {}
	switch {
	case t.reset != 0:
		round := t.reset
		return &job{do: t.Tier.(wholeBumper).BumpAll, worked: func() { t.isReset(round) }, failed: keep}
	case len(t.owed) > 0:
		owed, some := takeSome(t.owed)
		return &job{
			do:     func(ctx context.Context) error { return t.Tier.Bump(ctx, some) },
			worked: func() { t.settle(owed) }, failed: keep,
		}
	case len(t.spoilt) > 0:
		some := t.spoilt
		t.spoilt = nil // if they stay, they are misses again
		return &job{do: func(ctx context.Context) error { return t.Tier.Delete(ctx, some) }, worked: keep, failed: keep}
	case len(t.queue) > 0:
		return t.writeLocked()
	}
	return nil
}

// isReset notes that all is new, unless that was owed again meanwhile.
func (t *slowTier) isReset(round uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reset == round {
		t.reset = 0
	}
}

// takeSome copies as much of a debt as one trip carries.
func takeSome(owed map[Generation]debt) (map[Generation]uint64, []Generation) {
	part, names := make(map[Generation]uint64), make([]Generation, 0, min(len(owed), maxBatch))
	for k, d := range owed {
		if len(names) == maxBatch {
			break
		}
		part[k] = d.round
		names = append(names, k)
	}
	return part, names
}

// settle takes off what has been told, unless it was owed again meanwhile.
func (t *slowTier) settle(told map[Generation]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for g, round := range told {
		if t.owed[g].round == round {
			delete(t.owed, g)
		}
	}
}

// writeLocked takes a batch off the queue.
func (t *slowTier) writeLocked() *job {
	n, size := 0, 0
	for n < len(t.queue) && n < maxBatch && (n == 0 || size+t.queue[n].size <= maxBatchBytes) {
		size += t.queue[n].size
		n++
	}
	batch := append(make([]pendingWrite, 0, n), t.queue[:n]...)
	t.queue = slices.Delete(t.queue, 0, n)
	t.bytes -= size
	t.metrics.queued.Set(float64(len(t.queue)))
	var writes []Write
	return &job{
		do: func(ctx context.Context) error {
			writes = t.sealed(batch)
			return t.Tier.Write(ctx, writes)
		},
		worked: func() {
			t.metrics.written.add(uint64(len(writes)))
			for i := range writes {
				t.wrote.Add(int64(len(writes[i].Value)))
			}
		},
		failed: func() { t.metrics.failed.add(uint64(len(writes))) },
	}
}

// sealed makes the values of a batch. What cannot be sealed is left out.
func (t *slowTier) sealed(batch []pendingWrite) []Write {
	writes := make([]Write, 0, len(batch))
	for i := range batch {
		w := &batch[i]
		var err error
		if w.Value, err = w.value(); err != nil {
			t.metrics.failed.inc()
			t.note(err)
			continue
		}
		writes = append(writes, w.Write)
	}
	return writes
}

// holds is what the tier holds, or of one that does not count what this daemon has written to it since its start.
func (t *slowTier) holds() TierStats {
	if h, ok := t.Tier.(Holder); ok {
		return h.Holds()
	}
	return TierStats{Entries: int64(t.metrics.written.n.Load()), Bytes: t.wrote.Load(), Evictions: -1}
}

// finish writes and tells what is left, within ctx, after the worker has ended. It reports whether the tier has been told
// everything.
func (t *slowTier) finish(ctx context.Context) (told bool) {
	t.settleUp(ctx, ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reset == 0 && len(t.owed) == 0
}

// debts is how many generations the tier could not be told of yet.
func (t *slowTier) debts() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.owed)
}
