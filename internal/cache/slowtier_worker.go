package cache

import (
	"context"
	"errors"
	"slices"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Waits of a slow tier's worker.
const (
	workTimeout = 2 * time.Second        // of a write, a bump, a delete; no call of an agent waits for it
	workPause   = 250 * time.Millisecond // between looks at a breaker that is open
)

// work is the tier's goroutine: it tells the tier what is invalidated, then writes what waits, until life ends. A trip that
// was begun is finished, unless trips ends.
func (t *slowTier) work(life, trips context.Context) {
	for first := true; ; first = false {
		left := t.drain(life, trips)
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

// probe asks a tier whose circuit is open for something cheap when its breaker wants to know whether it works again, and
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
var probeLookup = []tier.Lookup{{Key: tier.Key{0: 1}, Generations: []tier.Generation{generationOf("probe", "", "")}}}

// drain does what there is to do, until life ends, and reports whether something is left that the tier would not take
// now. Nothing is taken off the queue before the breaker allows the trip.
func (t *slowTier) drain(life, trips context.Context) (left bool) {
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
		if !t.trip(trips, job, done) {
			return true
		}
	}
	return false
}

// trip makes one trip and reports whether the tier took it.
func (t *slowTier) trip(trips context.Context, j *job, done func(error)) bool {
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
	return t.reset != 0 || len(t.pending) > 0 || len(t.spoilt) > 0 || len(t.queue) > 0
}

// job is one trip to the tier.
type job struct {
	do     func(context.Context) error
	worked func()
	failed func()
}

// next takes what is most urgent: a reset, then invalidations, then deletions, then entries.
func (t *slowTier) next() *job {
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := func() {}
	switch {
	case t.reset != 0:
		round := t.reset
		return &job{do: t.Tier.(wholeBumper).BumpAll, worked: func() { t.resetDone(round) }, failed: keep}
	case len(t.pending) > 0:
		told, some := takeSome(t.pending)
		return &job{
			do:     func(ctx context.Context) error { return t.Tier.Bump(ctx, some) },
			worked: func() { t.settle(told) }, failed: keep,
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

// isReset notes that all is new, unless there was more of it meanwhile.
func (t *slowTier) resetDone(round uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reset == round {
		t.reset = 0
	}
}

// takeSome copies as much of a invalidation as one trip carries.
func takeSome(pending map[tier.Generation]invalidation) (map[tier.Generation]uint64, []tier.Generation) {
	part, names := make(map[tier.Generation]uint64), make([]tier.Generation, 0, min(len(pending), maxBatch))
	for k, d := range pending {
		if len(names) == maxBatch {
			break
		}
		part[k] = d.round
		names = append(names, k)
	}
	return part, names
}

// settle takes off what has been told, unless it was invalidated again meanwhile.
func (t *slowTier) settle(told map[tier.Generation]uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for g, round := range told {
		if t.pending[g].round == round {
			delete(t.pending, g)
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
	var writes []tier.Write
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
func (t *slowTier) sealed(batch []pendingWrite) []tier.Write {
	writes := make([]tier.Write, 0, len(batch))
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

// finish writes and tells what is left, within ctx, after the worker has ended. It reports whether the tier has been told
// everything.
func (t *slowTier) finish(ctx context.Context) (told bool) {
	t.drain(ctx, ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reset == 0 && len(t.pending) == 0
}
