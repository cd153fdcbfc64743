// Package worker uses a tier behind memory: reads are made by the calls themselves, within the tier's timeout and breaker;
// invalidations, deletions and writes by one goroutine in that order, so that nothing that was withdrawn can be written after
// it. A tier that fails costs a call no more than its timeout, and once its circuit is open nothing.
package worker

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Options are a tier, and how it is used. Tier, Timeout and Breaker are required.
type Options struct {
	Tier    tier.Tier
	ID      string        // what tells it from another tier of the kind, for the next run: a file, an address; "": its name
	Timeout time.Duration // of one read: what a slow tier costs a call at most
	Private bool          // keeps private answers of resources/read too
	Shared  bool          // other daemons use it as well
	// Breaker keeps a tier that fails from costing every call its timeout.
	Breaker interface {
		// Allow returns what is told how it went, or false while the tier is not to be used. The trip takes no longer than
		// within; one whose result is not known by then has failed.
		Allow(within time.Duration) (done func(error), ok bool)
		// State is closed, open or half-open.
		State() string
	}
}

// stateClosed is the state of a breaker whose tier is used.
const stateClosed = "closed"

// ErrSkipped means that the tier was not read, or what it answered is not to be used: its circuit is open, it has not been told
// of an invalidation yet, or the call has ended.
var ErrSkipped = errors.New("the tier is not read")

// Bounds of what waits for one tier.
const (
	maxQueued      = 4096     // entries
	maxQueuedBytes = 32 << 20 // of them
	maxBatch       = 128      // entries written in one trip
	maxBatchBytes  = 4 << 20  // of them, but for a single larger one
	maxPending     = 20_000   // generations
)

// Worker is a tier with its worker. It is safe for concurrent use.
type Worker struct {
	Options
	wake    chan struct{}
	started chan struct{} // closed when the worker has done what there was to do at the start

	written, writtenBytes, dropped, failed atomic.Int64

	mu       sync.Mutex // guards the following
	queue    []Entry
	bytes    int
	pending  map[tier.Generation]invalidation // generations that the tier is to be told of
	toDelete []tier.Key                       // whose entries do not open, to be deleted
	round    uint64
	reset    uint64 // the round of the last InvalidateAll; not 0: nothing of the tier is used until all its tokens have been replaced
	err      error
}

// New makes a Worker. Nothing is written before Run.
func New(o Options) *Worker {
	if o.ID == "" {
		o.ID = o.Tier.Name()
	}
	return &Worker{
		Options: o, wake: make(chan struct{}, 1), started: make(chan struct{}), pending: make(map[tier.Generation]invalidation),
	}
}

// startWait is how long a start waits for a tier in which everything has to be made stale first.
const startWait = 500 * time.Millisecond

// AwaitStart returns when the worker has done what there was to do at its start, or that takes more than half a second.
func (w *Worker) AwaitStart() {
	late := time.NewTimer(startWait)
	defer late.Stop()
	select {
	case <-w.started:
	case <-late.C:
	}
}

// Exclusive reports whether no other daemon uses the tier: nobody but this one invalidates what it holds.
func (w *Worker) Exclusive() bool {
	_, all := w.Tier.(tier.Embedded)
	return all && !w.Shared
}

// Linked reports whether the tier is told what other daemons bump, or has no other daemons.
func (w *Worker) Linked() bool {
	l, ok := w.Tier.(tier.Shared)
	return !w.Shared || !ok || l.Linked()
}

// Read reads the tier, unless its circuit is open or it is yet to be told of one of the lookups' generations: ErrSkipped. Other
// errors are the tier's.
func (w *Worker) Read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	if w.Pending(lookups...) {
		return nil, ErrSkipped
	}
	done, ok := w.Breaker.Allow(w.Timeout)
	if !ok {
		return nil, ErrSkipped
	}
	found, err := w.ask(ctx, lookups)
	if err != nil && ctx.Err() != nil {
		done(context.Canceled)
		return nil, ErrSkipped
	}
	done(err)
	w.noteError(err)
	switch {
	case err != nil:
		w.signal() // the worker finds out when it works again, should nobody else ask
		return nil, err
	case w.Pending(lookups...): // what was read may be from before that
		return nil, ErrSkipped
	}
	return found, nil
}

// ask reads within the tier's timeout.
func (w *Worker) ask(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	limited, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	found, err := w.Tier.Read(limited, lookups)
	if err == nil && len(found) != len(lookups) {
		err = errors.New("the tier answered another number of lookups than were asked")
	}
	return found, err
}

// Pending reports whether the tier has not been told yet of a change of what the lookups depend on.
func (w *Worker) Pending(lookups ...tier.Lookup) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reset != 0 {
		return true
	}
	if len(w.pending) == 0 {
		return false
	}
	for i := range lookups {
		for _, g := range lookups[i].Generations {
			if _, ok := w.pending[g]; ok {
				return true
			}
		}
	}
	return false
}

// noteError keeps the last error for people, until the tier works again.
func (w *Worker) noteError(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// invalidation is a generation of which the tier is to be told.
type invalidation struct {
	round    uint64            // of the last time
	families []tier.Generation // of its upstream: bumping them does as well
}

// Invalidate notes generations of which the tier is to be told, of the upstream with these families. From now on it is not read
// for them. Where too many wait, those of the upstream become its families, on one of which each of its entries depends.
func (w *Worker) Invalidate(generations, families []tier.Generation) {
	w.mu.Lock()
	w.round++
	if len(w.pending)+len(generations) > maxPending {
		maps.DeleteFunc(w.pending, func(_ tier.Generation, p invalidation) bool { return &p.families[0] == &families[0] })
		generations = families
	}
	for _, g := range generations {
		w.pending[g] = invalidation{round: w.round, families: families}
	}
	w.mu.Unlock()
	w.signal()
}

// InvalidateAll makes all that a tier of this daemon alone holds stale: bumps may have been missed. From now on it is not read
// until that is done. Of a tier that others use it does nothing.
func (w *Worker) InvalidateAll() {
	if !w.Exclusive() {
		return
	}
	w.mu.Lock()
	w.round++
	w.reset = w.round
	w.mu.Unlock()
	w.signal()
}

// Discard has the tier delete an entry that does not open, when there is time for it. Until then it is a miss.
func (w *Worker) Discard(k tier.Key) {
	w.mu.Lock()
	if len(w.toDelete) < maxBatch {
		w.toDelete = append(w.toDelete, k)
	}
	w.mu.Unlock()
	w.signal()
}

// Entry is an entry to be written.
type Entry struct {
	tier.Write                        // without its Value
	Size       int                    // about the length of the value, in bytes
	Seal       func() ([]byte, error) // makes the value: called by the worker, and by each worker that is given the entry
}

// Put queues an entry, or drops and counts it where there is no room.
func (w *Worker) Put(e Entry) {
	w.mu.Lock()
	full := len(w.queue) >= maxQueued || w.bytes+e.Size > maxQueuedBytes
	if !full {
		w.queue = append(w.queue, e)
		w.bytes += e.Size
	}
	w.mu.Unlock()
	if full {
		w.dropped.Add(1)
		return
	}
	w.signal()
}

func (w *Worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Report is what the worker has done since its start, and what waits.
type Report struct {
	Written, Dropped, Failed uint64 // entries: written, for which there was no room, that could not be written
	Queue                    int    // entries
	Pending                  int    // generations of which the tier is to be told
	Err                      error  // the last one; nil once the tier works again
}

// Report returns it.
func (w *Worker) Report() Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Report{
		Written: uint64(w.written.Load()), Dropped: uint64(w.dropped.Load()), Failed: uint64(w.failed.Load()),
		Queue: len(w.queue), Pending: len(w.pending), Err: w.err,
	}
}

// Holds is what the tier holds; of one that does not count, what this daemon has written to it since its start.
func (w *Worker) Holds() tier.Stats {
	if h, ok := w.Tier.(tier.Embedded); ok {
		return h.Holds()
	}
	return tier.Stats{Entries: w.written.Load(), Bytes: w.writtenBytes.Load(), Evictions: -1}
}
