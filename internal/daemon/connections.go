package daemon

import (
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/peer"
)

// connection is one of an agent's.
type connection struct {
	net.Conn
	remote net.Addr // in place of the connection's, which has none; nil: the connection's

	ownerMu    sync.Mutex // guards the following, and is held while the kernel is asked
	owner      uint32
	ownerKnown bool
}

// agentListener gives the connections of a listener names, and remembers who is at the other end.
type agentListener struct {
	net.Listener
	local *atomic.Uint64 // how many have come by Unix sockets
}

// Accept implements net.Listener.
func (l agentListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	own := &connection{Conn: nc}
	if _, ok := nc.(*net.UnixConn); ok {
		own.remote = &net.UnixAddr{Net: "unix", Name: unixScheme + strconv.FormatUint(l.local.Add(1), 10)}
	}
	return own, nil
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

// NetConn returns the connection itself, of which internal/http1 has more use.
func (c *connection) NetConn() net.Conn { return c.Conn }

// RemoteAddr implements net.Conn. Sockets at the other end of a Unix socket have no names: these get numbers, since agents are told
// apart by it, in the log too.
func (c *connection) RemoteAddr() net.Addr {
	if c.remote != nil {
		return c.remote
	}
	return c.Conn.RemoteAddr()
}

// user returns who is at the other end. That is asked for until it is known, and then known for as long as the connection lasts.
func (c *connection) user() (uint32, error) {
	c.ownerMu.Lock()
	defer c.ownerMu.Unlock()
	if c.ownerKnown {
		return c.owner, nil
	}
	uid, err := peer.Owner(c.Conn)
	if err == nil {
		c.owner, c.ownerKnown = uid, true
	}
	return uid, err
}

// userOf returns which user of this machine sent a request. The error says that this cannot be told.
func userOf(r *http.Request) (uint32, error) {
	own, ok := http1.ConnOf(r.Context()).(*connection)
	if !ok {
		return 0, peer.ErrUnknown
	}
	return own.user()
}
