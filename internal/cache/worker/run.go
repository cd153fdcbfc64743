package worker

import (
	"context"
	"slices"
	"time"

	"fluentd-perf/internal/cache/tier"
)

const (
	workTimeout = 2 * time.Second        // of a write, a bump, a delete; no call of an agent waits for it
	workPause   = 250 * time.Millisecond // between looks at a breaker that is open
)

// Run sends the tier invalidations, then writes what waits, until life ends. A trip that was begun is finished, unless trips
// ends.
func (w *Worker) Run(life, trips context.Context) {
	for first := true; ; first = false {
		left := w.drain(life, trips)
		if first {
			close(w.started)
		}
		var again <-chan time.Time
		if left || w.probe() {
			again = time.After(workPause)
		}
		wake := w.wake
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

// Finish sends and writes what is left, within ctx, after Run has ended. It reports whether no invalidation is pending any more.
func (w *Worker) Finish(ctx context.Context) (told bool) {
	w.drain(ctx, ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reset == 0 && len(w.pending) == 0
}

// probeLookup is of an entry that nobody keeps.
var probeLookup = []tier.Lookup{{Key: tier.Key{0: 1}, Generations: []tier.Generation{{0: 1}}}}

// probe reads something cheap of a tier whose circuit is open when its breaker wants to know whether it works again, and
// reports whether there is more to find out: without calls nobody else would.
func (w *Worker) probe() bool {
	if w.Breaker.State() == stateClosed {
		return false
	}
	if done, ok := w.Breaker.Allow(w.Timeout); ok {
		_, err := w.ask(context.Background(), probeLookup)
		done(err)
		w.noteError(err)
	}
	return w.Breaker.State() != stateClosed
}

// drain does what there is to do, until life ends, and reports whether something is left that the tier would not take
// now. Nothing is taken off the queue before the breaker allows the trip.
func (w *Worker) drain(life, trips context.Context) (left bool) {
	for w.hasWork() && life.Err() == nil {
		done, ok := w.Breaker.Allow(workTimeout)
		if !ok {
			return true
		}
		job := w.next()
		if job == nil {
			done(context.Canceled)
			return false
		}
		if !w.trip(trips, job, done) {
			return true
		}
	}
	return false
}

// hasWork reports whether there is anything to do now.
func (w *Worker) hasWork() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reset != 0 || len(w.pending) > 0 || len(w.toDelete) > 0 || len(w.queue) > 0
}

// job is one trip to the tier, which calls what is to be done after it worked.
type job func(context.Context) (worked func(), err error)

// trip makes one trip and reports whether the tier took it.
func (w *Worker) trip(trips context.Context, j job, done func(error)) bool {
	limited, cancel := context.WithTimeout(trips, workTimeout)
	defer cancel()
	worked, err := j(limited)
	switch {
	case err == nil:
		if w.Breaker.State() == stateClosed {
			err = context.Canceled // that a write works says nothing of reads, which may hang all the same
		}
		done(err)
		worked()
		return true
	case trips.Err() != nil:
		done(context.Canceled)
	default:
		done(err)
		w.noteError(err)
	}
	return false
}

// next takes what is most urgent: a reset, then invalidations, then deletions, then entries.
func (w *Worker) next() job {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.reset != 0:
		return w.resetLocked()
	case len(w.pending) > 0:
		return w.bumpLocked()
	case len(w.toDelete) > 0:
		some := w.toDelete
		w.toDelete = nil // if they stay, they are misses again
		return func(ctx context.Context) (func(), error) { return func() {}, w.Tier.Delete(ctx, some) }
	case len(w.queue) > 0:
		return w.writeLocked()
	}
	return nil
}

// resetLocked replaces all tokens of the tier. It is done with, unless there was another InvalidateAll meanwhile.
func (w *Worker) resetLocked() job {
	round := w.reset
	return func(ctx context.Context) (func(), error) {
		return func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.reset == round {
				w.reset = 0
			}
		}, w.Tier.(tier.Embedded).BumpAll(ctx)
	}
}

// bumpLocked sends the tier as many pending invalidations as one trip carries. Those are done with that were not noted again
// meanwhile.
func (w *Worker) bumpLocked() job {
	rounds, some := make(map[tier.Generation]uint64), make([]tier.Generation, 0, min(len(w.pending), maxBatch))
	for g, p := range w.pending {
		if len(some) == maxBatch {
			break
		}
		rounds[g] = p.round
		some = append(some, g)
	}
	return func(ctx context.Context) (func(), error) {
		return func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			for g, round := range rounds {
				if w.pending[g].round == round {
					delete(w.pending, g)
				}
			}
		}, w.Tier.Bump(ctx, some)
	}
}

// writeLocked takes a batch off the queue and writes it. What the tier does not take then is lost, and counted.
func (w *Worker) writeLocked() job {
	n, size := 0, 0
	for n < len(w.queue) && n < maxBatch && (n == 0 || size+w.queue[n].Size <= maxBatchBytes) {
		size += w.queue[n].Size
		n++
	}
	batch := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	w.bytes -= size
	return func(ctx context.Context) (func(), error) {
		writes := w.sealed(batch)
		if err := w.Tier.Write(ctx, writes); err != nil {
			w.failed.Add(int64(len(writes)))
			return nil, err
		}
		return func() {
			w.written.Add(int64(len(writes)))
			for i := range writes {
				w.writtenBytes.Add(int64(len(writes[i].Value)))
			}
		}, nil
	}
}

// sealed makes the values of a batch. What cannot be sealed is left out.
func (w *Worker) sealed(batch []Entry) []tier.Write {
	writes := make([]tier.Write, 0, len(batch))
	for i := range batch {
		e := &batch[i]
		value, err := e.Seal()
		if err != nil {
			w.failed.Add(1)
			w.noteError(err)
			continue
		}
		e.Write.Value = value
		writes = append(writes, e.Write)
	}
	return writes
}
