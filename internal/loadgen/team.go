package loadgen

import (
	"context"
	"sync"
	"time"
)

// team is the goroutines that make the calls of a loop in which somebody else says when: one for each call under way, made as they
// are needed, at most as many as the load has at once.
type team struct {
	run     *run
	freed   chan struct{} // has room for one: a member is idle again
	members []*member     // all of them, owned by who calls take
	ended   sync.WaitGroup

	mu   sync.Mutex // guards idle
	idle []*member  // the one used last at the end
}

// member makes one call after the other, as it is told.
type member struct{ jobs chan job }

// job is one call to be made.
type job struct {
	n    int64
	due  time.Time // zero: now
	over func()    // nil, or called when it is over
}

func newTeam(r *run) *team { return &team{run: r, freed: make(chan struct{}, 1)} }

// take returns a member that is idle. Where all are at work, and no more may be, it waits for one, until ctx or late ends: then it
// returns nil. One goroutine calls it.
func (t *team) take(ctx context.Context, late <-chan time.Time) *member {
	for {
		t.mu.Lock()
		if n := len(t.idle); n > 0 {
			m := t.idle[n-1]
			t.idle = t.idle[:n-1]
			t.mu.Unlock()
			return m
		}
		t.mu.Unlock()
		if len(t.members) < t.run.load.Concurrency {
			return t.hire(ctx)
		}
		select {
		case <-t.freed:
		case <-late:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *team) hire(ctx context.Context) *member {
	m := &member{make(chan job, 1)}
	worker := len(t.members)
	t.members = append(t.members, m)
	t.ended.Go(func() {
		c := t.run.pool.get()
		defer t.run.pool.put(c)
		for j := range m.jobs {
			t.run.one(ctx, worker, c, j.n, j.due)
			t.release(m)
			if j.over != nil {
				j.over()
			}
		}
	})
	return m
}

func (t *team) release(m *member) {
	t.mu.Lock()
	t.idle = append(t.idle, m)
	t.mu.Unlock()
	select {
	case t.freed <- struct{}{}:
	default:
	}
}

// end waits for the calls under way.
func (t *team) end() {
	for _, m := range t.members {
		close(m.jobs)
	}
	t.ended.Wait()
}
