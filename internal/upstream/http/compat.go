package http

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// compatClient is the client over http.Transport, of `http: compat`.
//
// Nothing of it tells when net/http may be waited for no longer, so the context of an exchange is one that its watch cancels,
// and what net/http does with a connection is heard by hooks (httptrace).
type compatClient struct {
	calls transport
	long  transport

	connect time.Duration // Timeouts.Connect
	maxAge  time.Duration // from which on a connection is not used for another call
	room    *room         // what the connections for calls have to fit into, and GET streams beside them
	open    atomic.Int64  // connections that are open
}

func newCompatClient(o *Options) *compatClient {
	c := &compatClient{
		connect: o.Timeouts.Connect, maxAge: o.Pool.MaxAge, room: newRoom(o.Pool.MaxConnections),
	}
	c.calls, c.long = c.newTransport(o, false), c.newTransport(o, true)
	return c
}

// compatCall is what an exchange has more where it goes over http.Transport.
type compatCall struct {
	x      *exchange
	cancel context.CancelCauseFunc
	trace  httptrace.ClientTrace
	header http.Header
	conn   *counted // the last that it was given; nil: none yet
}

// longWrite is from how many bytes on it is worth knowing when a request was written. A smaller one goes into the socket's
// buffer at once.
const longWrite = 64 << 10

// prepare gives the exchange a context that its watch cancels, and has the hooks called.
func (c *compatClient) prepare(x *exchange) {
	s := &compatCall{x: x, header: outgoing(x.call.Header)}
	own, cancel := context.WithCancelCause(x.Context)
	s.cancel, x.watch.cancel = cancel, cancel
	s.trace = httptrace.ClientTrace{GetConn: s.getConn, GotConn: s.gotConn, GotFirstResponseByte: x.answering}
	if len(x.call.Body) > longWrite || x.call.Written != nil {
		s.trace.WroteRequest = s.wroteRequest
	}
	x.Context, x.compat = httptrace.WithClientTrace(own, &s.trace), s
}

// send implements client.
func (c *compatClient) send(x *exchange, target *url.URL) (head, error) {
	s, carries := x.compat, c.calls
	if x.long {
		carries = c.long
	}
	r := &http.Request{
		Method: x.call.Lane.Verb(), URL: target, Header: s.header, // no Host: the URL's own
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if body := x.call.Body; len(body) > 0 {
		// No reader of our own: net/http joins head and body in one write only for readers that it knows.
		again := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.ContentLength, r.GetBody = int64(len(body)), again
		r.Body, _ = again()
	}
	resp, err := carries.RoundTrip(r.WithContext(x))
	if err != nil {
		return head{}, err
	}
	s.conn.hint(resp.Header)
	l := header.Of(resp.Header)
	mcp.DropHopByHop(&l)
	return head{status: resp.StatusCode, header: l, length: resp.ContentLength, body: resp.Body}, nil
}

// connections implements client. A call is active for a moment longer than its connection is in use.
func (c *compatClient) connections(active int) (open, idle int) {
	open = int(c.open.Load())
	return open, max(open-active, 0)
}

// widen implements client.
func (c *compatClient) widen(by int) { c.room.widen(by) }

// close implements client.
func (c *compatClient) close() {
	c.calls.CloseIdleConnections()
	c.long.CloseIdleConnections()
}

// getConn is called when the transport looks for a connection. If it had one before, that one turned out dead before a
// byte was written: only then does net/http look for another. A GET may have been written, which makes no difference to
// the server, but to the facts.
func (s *compatCall) getConn(string) {
	s.x.connecting(s.x.call.Lane.Verb() != http.MethodGet)
}

func (s *compatCall) gotConn(info httptrace.GotConnInfo) {
	x := s.x
	s.conn = countedOf(info.Conn)
	now := x.watch.now()
	stale := s.conn.retire(info, x.watch.start.Add(now)) // then the first write fails, and another connection is looked for
	if x.connected(now, !stale && !info.Reused); !stale {
		x.u.meters.given(info.Reused)
	}
}

// wroteRequest is called when the request is in net/http's buffer, as far as it has not left: the next write is its end.
func (s *compatCall) wroteRequest(info httptrace.WroteRequestInfo) {
	s.x.facts.wrote.Store(int64(s.x.watch.now()))
	if info.Err == nil && s.x.call.Written != nil {
		report := s.x.reportWritten
		s.conn.wrote.Store(&report)
	}
}

// opened counts a connection until it is closed.
func (c *compatClient) opened(conn net.Conn) *counted {
	c.open.Add(1)
	return &counted{Conn: conn, client: c, since: time.Now()}
}

type counted struct {
	net.Conn
	client *compatClient
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
	if !closing && (!info.Reused || now.Sub(c.since) < c.client.maxAge) {
		return false
	}
	c.stale.Store(true)
	return true
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.client.open.Add(-1)
		if c.closed != nil {
			c.closed()
		}
	})
	return err
}
