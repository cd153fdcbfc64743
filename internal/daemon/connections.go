package daemon

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"fluentd-perf/internal/peer"
)

// connections knows the open connections of agents and what each is at, so that the drain closes those on which nothing has
// come. net/http's own Shutdown cannot be used for that: once it has begun, a request is read and not answered.
//
// The zero value is ready.
type connections struct {
	mu    sync.Mutex // guards the following
	all   map[*connection]struct{}
	local uint64 // how many have come by Unix sockets
}

// stream is what the server needs of a connection: *net.TCPConn and *net.UnixConn have it. net/http closes only one direction
// before it leaves an agent that still sends, so that the agent can read its answer.
type stream interface {
	net.Conn
	CloseWrite() error
}

// connection is one of an agent's. It is idle until bytes have come, and again after an answer.
type connection struct {
	stream
	of     *connections
	remote net.Addr // in place of the stream's, which has none; nil: the stream's

	ownerMu    sync.Mutex // guards the following, and is held while the kernel is asked
	owner      uint32
	ownerKnown bool

	// mu guards the following. It is held while the drain closes the connection: what was read before is served, and what
	// comes after was never read.
	mu     sync.Mutex
	state  connectionPhase
	since  time.Time // of that state
	closed bool
}

type connectionPhase uint8

const (
	phaseIdle    connectionPhase = iota
	phaseReading                 // the head of a request comes
	phaseServing                 // a handler runs
)

// How long a connection stays in a phase before the drain closes it. An agent that was just answered, or has just
// connected, may be about to send: it is answered rather than cut. A head that does not come whole is not waited for.
const (
	idleGrace    = 100 * time.Millisecond
	readingGrace = 5 * time.Second
)

// listener returns l with its connections known to c.
func (c *connections) listener(l net.Listener) net.Listener { return countedListener{l, c} }

// add makes a connection known. One that is no stream is a bug: openListeners opens no other listeners.
func (c *connections) add(nc net.Conn) *connection {
	own := &connection{stream: nc.(stream), of: c, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := nc.(*net.UnixConn); ok {
		c.local++
		own.remote = &net.UnixAddr{Net: "unix", Name: unixScheme + strconv.FormatUint(c.local, 10)}
	}
	if c.all == nil {
		c.all = make(map[*connection]struct{})
	}
	c.all[own] = struct{}{}
	return own
}

type countedListener struct {
	net.Listener
	of *connections
}

// Accept implements net.Listener.
func (l countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.of.add(nc), nil
}

// queuedListener hands out the connections that waited in the accept queue of a listener that is closed, and then ends.
type queuedListener struct {
	net.Listener
	conns []net.Conn
}

// Accept implements net.Listener.
func (l *queuedListener) Accept() (net.Conn, error) {
	if len(l.conns) == 0 {
		return nil, net.ErrClosed
	}
	nc := l.conns[0]
	l.conns = l.conns[1:]
	return nc, nil
}

// Read implements net.Conn. Bytes that arrive while the drain closes the connection are not handed on.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.stream.Read(b)
	if n > 0 && !c.arrived() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *connection) arrived() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == phaseIdle {
		c.enterLocked(phaseReading)
	}
	return !c.closed
}

// enter notes what the connection is at.
func (c *connection) enter(p connectionPhase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enterLocked(p)
}

func (c *connection) enterLocked(p connectionPhase) { c.state, c.since = p, time.Now() }

// Close implements net.Conn.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.all, c)
	c.of.mu.Unlock()
	return c.stream.Close()
}

// RemoteAddr implements net.Conn. Sockets at the other end of a Unix socket have no names: these get numbers, since agents are told
// apart by it, in the log too.
func (c *connection) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.stream.RemoteAddr()
}

// user returns who is at the other end. That is asked for until it is known, and then known for as long as the connection lasts.
func (c *connection) user() (uint32, error) {
	c.ownerMu.Lock()
	defer c.ownerMu.Unlock()
	if c.ownerKnown {
		return c.owner, nil
	}
	uid, err := peer.Owner(c.stream)
	if err == nil {
		c.owner, c.ownerKnown = uid, true
	}
	return uid, err
}

// closeIdle closes the connection if nothing has come on it for long enough.
func (c *connection) closeIdle(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	quiet := now.Sub(c.since)
	if c.state == phaseIdle && quiet >= idleGrace || c.state == phaseReading && quiet >= readingGrace {
		c.closed = true
		_ = c.Close() // what it says of a connection that is given up helps nobody
	}
}

// closeIdle closes every connection on which nothing has come for long enough.
func (c *connections) closeIdle(now time.Time) {
	c.mu.Lock()
	all := slices.Collect(maps.Keys(c.all))
	c.mu.Unlock()
	for _, own := range all {
		own.closeIdle(now)
	}
}

// open returns how many connections are open.
func (c *connections) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

type connectionKey struct{}

// withConnection is the server's ConnContext.
func withConnection(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, nc)
}

// userOf returns which user of this machine sent a request. The error says that this cannot be told.
func userOf(r *http.Request) (uint32, error) {
	own, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok {
		return 0, peer.ErrUnknown
	}
	return own.user()
}

// connectionState is the server's ConnState. Of the states only idle is of use: net/http does not report a pipelined
// request, which it has read together with the one before, as active.
func connectionState(nc net.Conn, s http.ConnState) {
	if own, ok := nc.(*connection); ok && s == http.StateIdle {
		own.enter(phaseIdle)
	}
}

// handler returns next with the connections of its requests noted as serving.
func (*connections) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if own, ok := r.Context().Value(connectionKey{}).(*connection); ok {
			own.enter(phaseServing)
		}
		next.ServeHTTP(w, r)
	})
}
