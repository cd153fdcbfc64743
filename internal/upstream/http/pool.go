package http

import (
	"context"
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

	"fluentd-perf/internal/mcp"
)

// warmStreams is how many GET streams may be on connections of the transport for calls. More have some of their own.
const warmStreams = 256

// Connections bounds the connections in use, and is where a call waits for one. See internal/admission.
type Connections interface {
	// Enter takes a connection for a call or a document and returns its kind, 0 for one of those for calls, and how long it
	// waited. Any other kind is beside those.
	Enter(context.Context, mcp.Lane) (kind int, waited time.Duration, f *mcp.Failure)
	// Leave gives one of the kind back.
	Leave(kind int)
}

// pool is what one upstream's connections are counted by, and bounded while they are opened and closed.
type pool struct {
	open   atomic.Int64  // connections that are open
	active atomic.Int64  // calls and streams that hold one
	maxAge time.Duration // from which on a connection is not used for another call
	room   *room         // what the connections for calls have to fit into, and GET streams beside them
}

func newPool(o *PoolOptions) *pool {
	return &pool{maxAge: o.MaxAge, room: newRoom(o.MaxConnections, warmStreams)}
}

// opened counts a connection until it is closed.
func (p *pool) opened(c net.Conn) *counted {
	p.open.Add(1)
	return &counted{Conn: c, pool: p, since: time.Now()}
}

type counted struct {
	net.Conn
	pool   *pool
	since  time.Time // when it was opened
	once   sync.Once
	closed func()                 // called when it is, once; nil: nobody wants to know
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
	if wrote := c.wrote.Swap(nil); wrote != nil && err == nil { // where it failed, the end of the call says it
		(*wrote)()
	}
	return n, err
}

// countedOf returns the connection that is below TLS: TLS to a proxy may have TLS to the server in it.
func countedOf(conn net.Conn) *counted {
	for {
		secured, ok := conn.(*tls.Conn)
		if !ok {
			return conn.(*counted)
		}
		conn = secured.NetConn()
	}
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
	c.keeps.Store(int64(keeps))
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
	err := c.Conn.Close()
	c.once.Do(func() {
		c.pool.open.Add(-1)
		if c.closed != nil {
			c.closed()
		}
	})
	return err
}
