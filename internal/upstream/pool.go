package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// urgentSlots is how many notifications, answers to the server and session ends may be under way beside the calls when
// the calls have taken every slot.
const urgentSlots = 4

// fetchSlots is how many documents beside the endpoint are fetched at a time.
const fetchSlots = 4

// warmStreams is how many GET streams may be on connections of the transport for calls. More have some of their own.
const warmStreams = 256

// pool is what one upstream's connections are counted and bounded by.
type pool struct {
	open   atomic.Int64 // connections that are open
	active atomic.Int64 // calls and streams that hold one

	maxAge time.Duration // from which on a connection is not used for another call

	calls   slots
	room    room  // what the connections for calls have to fit into
	warm    slots // GET streams on connections of the transport for calls, beside the calls
	fetches slots // documents beside the endpoint, which strangers may ask for: they take no connection from calls
	// A call may wait for an answer of the agent's, to an elicitation say, and that has to get past the calls that wait.
	urgent slots
}

func newPool(o *PoolOptions) *pool {
	p := &pool{maxAge: o.MaxAge}
	p.calls.free = o.MaxConnections
	p.room.bound = o.MaxConnections
	p.urgent.free = urgentSlots
	p.fetches.free = fetchSlots
	p.warm.free = warmStreams
	return p
}

// takeWarm takes a slot for a GET stream on a connection of the calls', if there is one: they may have one more meanwhile.
func (p *pool) takeWarm() bool {
	if !p.warm.tryTake() {
		return false
	}
	p.room.widen(1)
	return true
}

func (p *pool) put(s *slots) {
	if s == &p.warm {
		p.room.widen(-1)
	}
	s.put()
}

// opened counts a connection until it is closed. closed is called then; nil: nobody wants to know.
func (p *pool) opened(c net.Conn, closed func()) net.Conn {
	p.open.Add(1)
	return &counted{Conn: c, pool: p, since: time.Now(), closed: closed}
}

type counted struct {
	net.Conn
	pool   *pool
	since  time.Time // when it was opened
	once   sync.Once
	closed func()
	keeps  atomic.Int64           // how long the server says that it keeps it idle, a time.Duration; 0: it does not say
	stale  atomic.Bool            // not to be written to again
	wrote  atomic.Pointer[func()] // to be called when the next Write has succeeded, once
}

var errStale = errors.New("the connection is too old, or has been idle for as long as the server keeps one")

// Write refuses before a byte has left, where the connection is stale: net/http then takes another, which is the one case
// in which it does so safely.
func (c *counted) Write(b []byte) (int, error) {
	if c.stale.Load() {
		return 0, errStale
	}
	n, err := c.Conn.Write(b)
	if err == nil && c.wrote.Load() != nil {
		if wrote := c.wrote.Swap(nil); wrote != nil {
			(*wrote)()
		}
	}
	return n, err
}

// countedOf returns the connection that is below TLS, if any: TLS to a proxy may have TLS to the server in it.
func countedOf(conn net.Conn) (*counted, bool) {
	for {
		secured, ok := conn.(*tls.Conn)
		if !ok {
			break
		}
		conn = secured.NetConn()
	}
	c, ok := conn.(*counted)
	return c, ok
}

// hint notes `Keep-Alive: timeout=5`, by which servers (Node's, for one) say how long they keep an idle connection, or that
// the server does not say. It is this connection's own (RFC 9112, section 9.3): behind one name there may be several servers.
func (c *counted) hint(h http.Header) {
	keeps := time.Duration(0)
	for _, line := range h["Keep-Alive"] {
		for part := range strings.SplitSeq(line, ",") {
			name, seconds, _ := strings.Cut(strings.TrimSpace(part), "=")
			if n, err := strconv.ParseUint(seconds, 10, 31); err == nil && strings.EqualFold(name, "timeout") {
				keeps = time.Duration(n) * time.Second
			}
		}
	}
	if c.keeps.Load() != int64(keeps) {
		c.keeps.Store(int64(keeps))
	}
}

// retire marks a connection that was used before stale if its time is over, and reports whether it did: it is older than
// max_age, so that a name that moved is looked up again, or it was idle nearly as long as the server keeps it. A second is
// for the way.
func (c *counted) retire(info httptrace.GotConnInfo, now time.Time) bool {
	keeps := time.Duration(c.keeps.Load())
	closing := keeps > 0 && info.WasIdle && info.IdleTime >= max(keeps-time.Second, keeps/2)
	if !closing && (!info.Reused || now.Sub(c.since) < c.pool.maxAge) {
		return false
	}
	c.stale.Store(true)
	return true
}

func (c *counted) Close() error {
	last := false
	c.once.Do(func() { last = true; c.pool.open.Add(-1) })
	err := c.Conn.Close()
	if last && c.closed != nil {
		c.closed()
	}
	return err
}

// slots is a semaphore that is handed on in the order asked.
type slots struct {
	mu   sync.Mutex // guards the following
	free int        // 0 while anybody waits: a slot that comes free goes to the first
	head *waiter
	tail *waiter
}

type waiter struct {
	ready      chan struct{} // closed when the slot is there
	has        bool          // the same, under mu
	prev, next *waiter
}

// tryTake takes a slot if there is one.
func (s *slots) tryTake() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		return false
	}
	s.free--
	return true
}

// take waits for a slot, and reports whether it got one before done was closed.
func (s *slots) take(done <-chan struct{}) bool {
	w := s.queue()
	select {
	case <-w.ready:
		return true
	case <-done:
		s.leave(w)
		return false
	}
}

// queue joins the queue, or takes a slot if one has come free meanwhile.
func (s *slots) queue() *waiter {
	w := &waiter{ready: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free > 0 {
		s.free--
		w.give()
		return w
	}
	if w.prev = s.tail; w.prev == nil {
		s.head = w
	} else {
		w.prev.next = w
	}
	s.tail = w
	return w
}

func (w *waiter) give() {
	w.has = true
	close(w.ready)
}

// leave takes a waiter out of the queue. It may just have been given a slot: that goes on to the next.
func (s *slots) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.has {
		s.putLocked()
		return
	}
	s.removeLocked(w)
}

func (s *slots) removeLocked(w *waiter) {
	if w.prev == nil {
		s.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		s.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
}

// put gives a slot back.
func (s *slots) put() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked()
}

func (s *slots) putLocked() {
	w := s.head
	if w == nil {
		s.free++
		return
	}
	s.removeLocked(w)
	w.give()
}
