package http1

import (
	"context"
	"time"
)

// The end of a call's context closes its connection. To be told of that end costs six allocations (context.AfterFunc), and most calls
// are over within a millisecond. So contexts are asked every lookEach whether they have ended, and only those of calls that last longer
// than maxLooks of that tell it by themselves.
const (
	lookEach = 5 * time.Millisecond
	maxLooks = 20
)

// caller is the call that has a connection, as far as the end of its context is looked for. The pool's mu guards it.
type caller struct {
	ctx   context.Context // nil: no call has the connection
	use   uint64          // of the connection, see conn.state
	looks int             // so far
	place int             // in pool.callers, counted from 1; 0: it is not there
	stop  func() bool     // of context.AfterFunc; nil: ctx does not tell by itself
}

// beginLocked has the end of ctx cancel the use of a connection that begins.
func (p *pool) beginLocked(c *conn, ctx context.Context) {
	p.callers = append(p.callers, c)
	c.caller = caller{ctx: ctx, use: c.begin(), place: len(p.callers)}
	switch {
	case p.looking:
	case p.looker == nil:
		p.looker = time.AfterFunc(lookEach, p.look)
	default:
		p.looker.Reset(lookEach)
	}
	p.looking = true
}

// endLocked ends that. What it returns, if it is not nil, is to be called when mu is free: a cancellation that comes all the same is of
// a use that is over.
func (p *pool) endLocked(c *conn) (stop func() bool) {
	p.dropLocked(c)
	stop = c.caller.stop
	c.caller = caller{}
	return stop
}

// dropLocked takes a connection off the callers.
func (p *pool) dropLocked(c *conn) {
	at := c.caller.place
	if at == 0 {
		return
	}
	last := len(p.callers) - 1
	moved := p.callers[last]
	p.callers[at-1], p.callers[last], p.callers = moved, nil, p.callers[:last]
	moved.caller.place, c.caller.place = at, 0
}

// look cancels the uses whose contexts have ended.
func (p *pool) look() {
	for _, cancel := range p.ended() {
		cancel()
	}
}

// ended asks the contexts, and returns what cancels the uses of those that have ended.
func (p *pool) ended() (cancels []func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.callers) - 1; i >= 0; i-- { // from the end: what takes the place of one that is dropped was looked at
		c := p.callers[i]
		is := &c.caller
		is.looks++
		switch use := is.use; {
		case is.ctx.Err() != nil:
			p.dropLocked(c)
			cancels = append(cancels, func() { c.cancel(use) })
		case is.looks >= maxLooks:
			p.dropLocked(c)
			is.stop = context.AfterFunc(is.ctx, func() { c.cancel(use) })
		}
	}
	if p.looking = len(p.callers) > 0; p.looking {
		p.looker.Reset(lookEach)
	}
	return cancels
}
