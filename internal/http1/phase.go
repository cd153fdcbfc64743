package http1

import "time"

// phase is what a connection is at, as far as the drain and the bound of connections have to know. It is the same for those
// that net/http serves.
type phase uint64

const (
	phaseIdle    phase = iota // nothing of a request has come
	phaseReading              // the head of a request comes
	phaseServing              // a handler runs
	phaseClosed               // it was closed by the server itself: what comes after is not taken
	phases
)

// How long a connection stays in a phase before CloseIdle closes it.
const (
	idleGrace    = 100 * time.Millisecond
	readingGrace = 5 * time.Second
)

// packed joins a phase with the time since when, as one value that is changed at once. Of two idle ones the smaller value is idle
// for longer.
func packed(p phase, since time.Duration) uint64 { return uint64(since)*uint64(phases) + uint64(p) }

func phaseOf(v uint64) phase { return phase(v % uint64(phases)) }

func sinceOf(v uint64) time.Duration { return time.Duration(v / uint64(phases)) }

// enter changes the phase, and reports false if the connection was closed: then what was read is dropped, as if it had never
// come.
func (c *serverConn) enter(p phase, since time.Duration) bool {
	for {
		v := c.phase.Load()
		if phaseOf(v) == phaseClosed {
			return false
		}
		if c.phase.CompareAndSwap(v, packed(p, since)) {
			return true
		}
	}
}

// becomeIdle notes that an answer has ended.
func (c *serverConn) becomeIdle(now time.Duration) bool {
	ok := c.enter(phaseIdle, now)
	c.server.roomMade()
	return ok
}

// arrived notes that bytes were read over net/http, which says nothing of its own reads.
func (c *serverConn) arrived() bool {
	v := c.phase.Load()
	return phaseOf(v) != phaseIdle && phaseOf(v) != phaseClosed || c.enter(phaseReading, c.server.now())
}

// closeIdle closes the connection if nothing has come on it for long enough.
func (c *serverConn) closeIdle(now time.Duration) {
	v := c.phase.Load()
	quiet, p := now-sinceOf(v), phaseOf(v)
	if (p == phaseIdle && quiet >= idleGrace || p == phaseReading && quiet >= readingGrace) && c.phase.CompareAndSwap(v, uint64(phaseClosed)) {
		c.server.forget(c)
		c.shut()
	}
}

// close closes the connection.
func (c *serverConn) close() {
	c.phase.Store(uint64(phaseClosed))
	c.server.forget(c)
	c.shut()
}

// shut closes the socket. Whoever waits for it finds out by an error, and a request under way is cancelled.
func (c *serverConn) shut() {
	if c.server.watch != nil {
		c.server.watch.remove(c)
	}
	_ = c.nc.Close() // what it says of a connection that is given up helps nobody
	c.left()         // the kernel says nothing of a connection that was closed here
}
