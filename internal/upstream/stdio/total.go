package stdio

import (
	"context"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	statelessRest = time.Second      // without a call, before a process without state may be taken for another session
	stateRest     = 30 * time.Second // the same, with state
	never         = time.Duration(-1)
)

// Total bounds the processes of several Pools together, decides which of them go, and whose turn it is where there is no room.
// The zero Total has no bound of its own.
type Total struct {
	Max int // `processes.total`; 0: no bound

	mu      sync.Mutex // guards the following, and of each Pool and Lease what they say
	leases  map[*Lease]struct{}
	waiting []*waiter // in the order asked
	timer   *time.Timer
}

// waiter waits for room for a process.
type waiter struct {
	pool    *Pool
	session bool          // a session's, which Max of the pool bounds
	granted chan struct{} // closed when there is room, which is its own then
	lease   *Lease        // set before that
}

// acquire waits for room for a process of the pool. The Lease is to be run or dropped.
func (t *Total) acquire(ctx context.Context, p *Pool, session bool) (*Lease, *mcp.Failure) {
	w := &waiter{pool: p, session: session, granted: make(chan struct{})}
	t.mu.Lock()
	if p.closed {
		t.mu.Unlock()
		return nil, mcp.Draining()
	}
	t.waiting = append(t.waiting, w)
	t.settleLocked()
	t.mu.Unlock()
	timer := time.NewTimer(p.opts.QueueWait)
	defer timer.Stop()
	select {
	case <-w.granted:
		return w.lease, nil
	case <-ctx.Done():
		return t.leave(w, mcp.Canceled(ctx, mcp.SentNo))
	case <-p.base.Done():
		return t.leave(w, mcp.Draining())
	case <-timer.C:
		return t.leave(w, &mcp.Failure{
			Code: mcp.CodeOverloaded, Reason: mcp.ReasonProcesses, Sent: mcp.SentNo, RetryAfter: time.Second,
			Message: "as many processes of servers run as may (processes.max, processes.total), and all are in use",
		})
	}
}

// leave takes a waiter out of the queue, unless it has just been granted its room.
func (t *Total) leave(w *waiter, f *mcp.Failure) (*Lease, *mcp.Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.waiting {
		if other == w {
			t.waiting = append(t.waiting[:i:i], t.waiting[i+1:]...)
			return nil, f
		}
	}
	return w.lease, nil
}

// settleLocked gives room to who waits, ends processes that nobody needs or that stand in the way, and sets the timer for the
// next time at which it may do so. It is called after each change.
func (t *Total) settleLocked() {
	now := time.Now()
	next := never
	soon := func(d time.Duration) {
		if d != never && (next == never || d < next) {
			next = d
		}
	}
	for l := range t.leases {
		if d := l.expiresLocked(now); d == 0 {
			l.evictLocked()
		} else {
			soon(d)
		}
	}
	t.grantLocked()
	spoken := make(map[*Lease]bool) // being ended for another waiter
	for _, w := range t.waiting {
		if t.awaitsLocked(w, spoken) {
			continue
		}
		l, d := t.victimLocked(w, now)
		if l != nil {
			l.evictLocked()
			spoken[l] = true
			continue
		}
		soon(d)
	}
	t.wakeLocked(next)
}

// wakeLocked sets the timer.
func (t *Total) wakeLocked(after time.Duration) {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if after == never {
		return
	}
	t.timer = time.AfterFunc(after, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.settleLocked()
	})
}

// grantLocked gives room to all for whom there is some, in the order asked.
func (t *Total) grantLocked() {
	kept := t.waiting[:0]
	for _, w := range t.waiting {
		if !t.hasRoomLocked(w) {
			kept = append(kept, w)
			continue
		}
		w.lease = t.leaseLocked(w)
		close(w.granted)
	}
	clear(t.waiting[len(kept):])
	t.waiting = kept
}

// leaseLocked makes the lease of a process for which there is room.
func (t *Total) leaseLocked(w *waiter) *Lease {
	l := &Lease{pool: w.pool, session: w.session, since: time.Now(), busy: 1, gone: make(chan struct{})}
	if t.leases == nil {
		t.leases = make(map[*Lease]struct{})
	}
	t.leases[l] = struct{}{}
	return l
}

func (t *Total) hasRoomLocked(w *waiter) bool {
	return (t.Max == 0 || len(t.leases) < t.Max) && (!w.session || t.sessionsLocked(w.pool) < w.pool.opts.Max)
}

// sessionsLocked counts the processes of a pool that Max bounds, those that are going included.
func (t *Total) sessionsLocked(p *Pool) (n int) {
	for l := range t.leases {
		if l.pool == p && l.session {
			n++
		}
	}
	return n
}

// awaitsLocked reports whether a process is going that will make room for the waiter, and marks it as spoken for.
func (t *Total) awaitsLocked(w *waiter, spoken map[*Lease]bool) bool {
	for l := range t.leases {
		if l.evicted && !spoken[l] && t.helpsLocked(l, w) {
			spoken[l] = true
			return true
		}
	}
	return false
}

// helpsLocked reports whether the end of a process makes room for a waiter.
func (t *Total) helpsLocked(l *Lease, w *waiter) bool {
	if w.session && t.sessionsLocked(w.pool) >= w.pool.opts.Max {
		return l.pool == w.pool && l.session
	}
	return true
}

// victimLocked returns the process to end for a waiter: a spare before those without state, these before those with, of several the one
// that was idle for longest. Where there is none yet, it returns in how long there will be one.
func (t *Total) victimLocked(w *waiter, now time.Time) (best *Lease, in time.Duration) {
	in = never
	for l := range t.leases {
		if !t.helpsLocked(l, w) {
			continue
		}
		switch d := l.givesWayLocked(now); {
		case d == never:
		case d > 0:
			if in == never || d < in {
				in = d
			}
		case best == nil || l.worth() < best.worth() || l.worth() == best.worth() && l.since.Before(best.since):
			best = l
		}
	}
	return best, in
}

// worth says which of two processes goes first: the one of less.
func (l *Lease) worth() int {
	switch {
	case l.spare:
		return 0
	case !l.state:
		return 1
	}
	return 2
}
