package http1

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"
)

// pool is the connections to the endpoint: those that are idle, and how many there are.
//
// Who needs one and finds none idle waits in a queue, and a dial is begun unless there are enough under way, or there is no
// room. What has been dialled, and what a call gives back, goes to whoever has waited longest.
type pool struct {
	o    *Options
	dial func(context.Context) (*conn, error)

	mu      sync.Mutex      // guards the following
	ctx     context.Context // of the dials
	cancel  context.CancelFunc
	idle    []*conn // the one idle for longest first; the last one is used first
	max     int     // what open may be; 0: no bound
	open    int     // connections that are open or being opened
	dialing int
	waiters []*waiter // oldest first; there are none while one is idle
	dead    []*conn   // to be closed when mu is free
	closed  bool
	timer   *time.Timer // looks at what is idle; nil: nothing is
	dialed  sync.Cond   // dialing has changed

	callers []*conn     // those in use, but for calls whose contexts tell their end by themselves: see cancel.go
	looker  *time.Timer // looks at them; nil: there were none yet
	looking bool        // it runs
}

// idleLook is how often idle connections are looked at. Nobody reads from them, so that the server's end shows in no other way, and what
// it has closed would hold a descriptor, and be one of those that may be open, until IdleTimeout.
const idleLook = 5 * time.Second

// waiter is a call that waits for a connection.
type waiter struct{ got chan found } // of one

// found is what a waiter gets.
type found struct {
	c   *conn
	err error
}

func newPool(o *Options) *pool {
	p := &pool{o: o, max: o.MaxConnections}
	p.dialed.L = &p.mu
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// get returns a connection for a call, waiting for one if need be. The end of ctx cancels its use.
func (p *pool) get(ctx context.Context, now time.Time) (*conn, error) {
	p.mu.Lock()
	if c := p.takeLocked(ctx, now); c != nil {
		p.unlock()
		return c, nil
	}
	w := &waiter{got: make(chan found, 1)}
	p.waiters = append(p.waiters, w)
	p.dialLocked()
	p.unlock()
	c, err := p.wait(ctx, w)
	if c != nil {
		p.mu.Lock()
		p.beginLocked(c, ctx)
		p.mu.Unlock()
	}
	return c, err
}

// take is get where there is an idle connection, else it returns nil.
func (p *pool) take(ctx context.Context, now time.Time) *conn {
	p.mu.Lock()
	defer p.unlock()
	return p.takeLocked(ctx, now)
}

// takeLocked takes the connection that was used last.
func (p *pool) takeLocked(ctx context.Context, now time.Time) *conn {
	for len(p.idle) > 0 {
		last := len(p.idle) - 1
		c := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		if !c.spent(now) {
			p.beginLocked(c, ctx)
			return c
		}
		p.dead = append(p.dead, c)
	}
	return nil
}

func (p *pool) wait(ctx context.Context, w *waiter) (*conn, error) {
	var late <-chan time.Time
	if p.o.ConnectTimeout > 0 {
		timer := time.NewTimer(p.o.ConnectTimeout)
		defer timer.Stop()
		late = timer.C
	}
	var err error
	select {
	case f := <-w.got:
		if f.c == nil || ctx.Err() == nil {
			return f.c, f.err
		}
		p.mu.Lock()
		p.putLocked(f.c, time.Now())
		p.unlock()
		return nil, context.Cause(ctx)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-late:
		err = os.ErrDeadlineExceeded
	}
	p.leave(w)
	return nil, err
}

// leave takes a waiter out of the queue, and gives on what it got at the last moment.
func (p *pool) leave(w *waiter) {
	p.mu.Lock()
	defer p.unlock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	} else if f := <-w.got; f.c != nil {
		p.putLocked(f.c, time.Now())
	}
	p.endDialsLocked()
}

// put gives a connection back for use again.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	stop := p.endLocked(c)
	c.used, c.pooled = true, true
	p.putLocked(c, time.Now())
	p.unlock()
	if stop != nil {
		stop()
	}
}

func (p *pool) putLocked(c *conn, now time.Time) {
	c.idleSince = now
	switch {
	case c.spent(now):
		p.dead = append(p.dead, c)
	case len(p.waiters) > 0:
		p.serveLocked(found{c: c})
	case p.closed || len(p.idle) >= p.o.MaxIdle:
		p.dead = append(p.dead, c)
	default:
		c.pooled = true
		p.idle = append(p.idle, c)
		if p.timer == nil {
			p.timer = time.AfterFunc(p.lookLocked(now), p.closeIdle)
		}
	}
}

// serveLocked gives this to whoever has waited longest.
func (p *pool) serveLocked(f found) {
	p.waiters[0].got <- f
	p.waiters = slices.Delete(p.waiters, 0, 1)
}

// discard closes a connection that is of no further use.
func (p *pool) discard(c *conn) {
	_ = c.tcp.Close() // without TLS's goodbye, which may have to wait; a second close is harmless
	p.mu.Lock()
	stop := p.endLocked(c)
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
	p.closedSome(1)
}

// closedSome makes room for other connections.
func (p *pool) closedSome(n int) {
	p.mu.Lock()
	defer p.unlock()
	p.open -= n
	p.dialLocked()
}

// unlock frees mu and closes what is dead.
func (p *pool) unlock() {
	dead := p.dead
	p.dead = nil
	p.mu.Unlock()
	for _, c := range dead {
		_ = c.rw.Close() // nobody uses it any more, so its error is nobody's
	}
	if len(dead) > 0 {
		p.closedSome(len(dead))
	}
}

// dialLocked begins as many dials as there are waiters without one, as far as there is room.
func (p *pool) dialLocked() {
	for p.dialing < len(p.waiters) && (p.max == 0 || p.open < p.max) {
		p.open++
		p.dialing++
		go p.dialOne(p.ctx)
	}
}

// grow changes the bound, where there is one.
func (p *pool) grow(n int) {
	p.mu.Lock()
	defer p.unlock()
	if p.max != 0 {
		p.max += n
		p.dialLocked()
	}
}

// dialOne dials. A failure is that of the call that has waited longest, unless there are dials enough without this one, or it was the pool
// that gave up.
func (p *pool) dialOne(ctx context.Context) {
	c, err := p.dial(ctx)
	p.mu.Lock()
	defer p.unlock()
	p.dialing--
	switch {
	case err == nil:
		p.putLocked(c, time.Now())
	default:
		p.open--
		if p.dialing < len(p.waiters) && ctx.Err() == nil {
			p.serveLocked(found{err: err})
		}
	}
	p.dialLocked()
	p.dialed.Broadcast()
}

// lookLocked returns when what is idle is to be looked at: in idleLook, or when IdleTimeout of the oldest is over.
func (p *pool) lookLocked(now time.Time) time.Duration {
	if p.o.IdleTimeout == 0 {
		return idleLook
	}
	return min(idleLook, p.o.IdleTimeout-now.Sub(p.idle[0].idleSince))
}

// closeIdle closes what has been idle for too long, and what the server has closed.
func (p *pool) closeIdle() {
	p.mu.Lock()
	defer p.unlock()
	now := time.Now()
	p.idle = slices.DeleteFunc(p.idle, func(c *conn) bool {
		over := p.o.IdleTimeout > 0 && now.Sub(c.idleSince) >= p.o.IdleTimeout || c.spent(now) || !c.alive()
		if over {
			p.dead = append(p.dead, c)
		}
		return over
	})
	if len(p.idle) == 0 {
		p.timer = nil
		return
	}
	p.timer.Reset(p.lookLocked(now))
}

// close closes what is idle, now and later, and waits for the dials. Those for which nobody waits are ended.
func (p *pool) close() {
	p.mu.Lock()
	defer p.unlock()
	p.closed = true
	p.dead = append(p.dead, p.idle...)
	p.idle = nil
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	for p.endDialsLocked(); p.dialing > 0; {
		p.dialed.Wait()
	}
}

// endDialsLocked ends the dials of a pool that is closed, if nobody waits for one.
func (p *pool) endDialsLocked() {
	if p.closed && len(p.waiters) == 0 {
		p.cancel()
		p.ctx, p.cancel = context.WithCancel(context.Background())
	}
}
