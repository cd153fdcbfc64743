package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// serverConn is a connection to a Server, whoever answers on it. It is owned by one goroutine at a time: wait while nothing whole
// has come, a worker while a request is answered, or net/http's.
//
//	accepted ──> wait ──a head──> a worker: handler, answer ──nothing behind it──> wait
//	               │                  │
//	               └──anything else───┴──> replay: net/http's for good
type serverConn struct {
	server *Server
	nc     net.Conn        // as the listener gave it
	sock   net.Conn        // what is inside of it, which writes several pieces at once
	raw    syscall.RawConn // of the socket; nil: it is none, and net/http serves
	phase  atomic.Uint64   // packed
	remote string          // the other end's address, once it was asked for

	idle func()  // wait, made once, as step
	buf  *buffer // of data; nil: there is none, or data has memory of its own
	data []byte  // was read and not taken yet
	end  headEnd // of the head that data begins with
	head int     // how long that is, once it is whole
	by   time.Duration

	// Reads: owned by who reads. Deadlines are times of the server, 0: none. One is set only where it is nearer than the one
	// that is set, and set anew when that one has ended a read too early (as in conn).
	step   func(fd uintptr) bool // stepRead, made once: a closure for each read would be memory for each
	into   []byte                // where to; nil: into a buffer
	wanted time.Duration
	armed  time.Duration
	n      int
	err    error

	// Writes.
	writing  atomic.Int64 // until when writes are bounded by themselves, as a time of the server; 0: not set
	explicit atomic.Bool  // the handler has set a deadline

	watched bool   // it is registered with the watcher
	slot    uint32 // in there, plus one; guarded by it. 0: none

	mu      sync.Mutex // guards the following
	current *Inbound   // the request that is being answered; nil: none
	gone    bool       // the agent has left, or will send nothing more
}

func newServerConn(s *Server, nc net.Conn) *serverConn {
	c := &serverConn{server: s, nc: nc, sock: nc}
	if outer, ok := nc.(interface{ NetConn() net.Conn }); ok {
		c.sock = outer.NetConn()
	}
	if socket, ok := c.sock.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn() // without it, net/http's
	}
	c.step, c.idle = c.stepRead, c.wait
	c.becomeIdle(s.now())
	return c
}

// wait reads until there is a whole head, and hands the connection on. It has little stack, and no buffer while nothing has come.
func (c *serverConn) wait() {
	if len(c.data) == 0 {
		c.by = sinceOf(c.phase.Load()) + c.server.o.IdleTimeout
	}
	for {
		began := len(c.data) == 0
		if c.fill() != nil {
			c.drop()
			c.close()
			return
		}
		why, err := c.examine()
		whole := why == "" && err == nil && c.head > 0
		p, since := phaseServing, time.Duration(0)
		if !whole {
			p, since = phaseReading, c.server.now()
		}
		if (whole || began) && !c.enter(p, since) {
			c.drop() // the drain has closed it: what has come since was never read
			return
		}
		if began && !whole {
			c.by = since + c.server.o.HeadTimeout
		}
		switch {
		case whole:
			c.server.workers.serve(c)
			return
		case err != nil:
			c.refuse()
			return
		case why != "":
			c.replay(why)
			return
		}
	}
}

// examine looks whether data begins with a head that is whole, and notes its length. why: it cannot be one that is taken here; an
// error: it is over its bound.
func (c *serverConn) examine() (why Replay, err error) {
	c.head = 0
	if !startsPlainly(c.data) {
		return ReplayMethod, nil
	}
	n, err := c.end.find(c.data)
	switch {
	case errors.Is(err, errLongHead):
		return "", err
	case err != nil:
		return ReplaySyntax, nil
	}
	c.head = n
	return "", nil
}

// serve answers the request whose head is in data, and those that follow it at once.
func (c *serverConn) serve() {
	for {
		q := &Inbound{conn: c}
		q.life.conn = c
		why, err := q.parse(string(c.data[:c.head]), c.server.o.Takes)
		if why == "" && err == nil && !c.watched {
			if c.watched = c.server.watch.add(c) == nil; !c.watched {
				why = ReplayWatch
			}
		}
		switch {
		case err != nil:
			c.refuse()
			return
		case why != "":
			c.replay(why)
			return
		}
		c.data = c.data[c.head:]
		c.head, c.end = 0, headEnd{}
		c.freeEmpty()
		if !c.answer(q) {
			c.finish(q)
			return
		}
		if len(c.data) == 0 {
			if c.becomeIdle(c.server.now()) {
				go c.idle()
			}
			return
		}
		if why, err = c.examine(); err != nil || why != "" || c.head == 0 {
			break
		}
	}
	c.serveRest()
}

// serveRest goes on behind an answer where something has come that is no whole head.
func (c *serverConn) serveRest() {
	now := c.server.now()
	c.by = now + c.server.o.HeadTimeout
	switch why, err := c.examine(); {
	case !c.enter(phaseReading, now):
		c.drop()
	case err != nil:
		c.refuse()
	case why != "":
		c.replay(why)
	default:
		go c.idle()
	}
}

// answer has the handler answer a request, and reports whether the connection may be used again.
func (c *serverConn) answer(q *Inbound) (keep bool) {
	c.mu.Lock()
	c.current = q
	c.mu.Unlock()
	if c.server.o.Base.Err() != nil { // cancelAll may have looked before
		q.life.cancel(context.Canceled)
	}
	if q.left == 0 {
		q.received()
	}
	defer func() {
		if r := recover(); r != nil {
			keep, q.broken = false, true
			if r != http.ErrAbortHandler {
				c.server.o.Log.Error("a handler panicked", "remote", c.remoteAddr(), "panic", r, "stack", string(debug.Stack()))
			}
		}
		c.mu.Lock()
		c.current = nil
		c.mu.Unlock()
		q.life.cancel(context.Canceled) // what still runs for it is not wanted any more
		q.free()
	}()
	c.server.o.Handler(q)
	return q.end()
}

// left notes that the agent has left, or has closed its direction. The request under way is cancelled if it was received whole:
// before that, reading it finds out.
func (c *serverConn) left() {
	c.mu.Lock()
	c.gone = true
	q := c.current
	cancels := q != nil && q.whole
	c.mu.Unlock()
	if cancels {
		q.life.cancel(context.Canceled)
	}
}

// lingering is how long an agent that still sends has to read the answer before the connection closes: what it sends to a closed one
// would have the kernel discard the answer.
const lingering = 500 * time.Millisecond

// finish closes the connection after its last answer.
func (c *serverConn) finish(q *Inbound) {
	unread := q.left > 0 || len(c.data) > 0
	c.drop()
	if !unread || q.broken {
		c.close()
		return
	}
	go c.linger()
}

// linger closes the direction to the agent, and reads what comes until it closes its own.
func (c *serverConn) linger() {
	defer c.close()
	if one, ok := c.sock.(interface{ CloseWrite() error }); !ok || one.CloseWrite() != nil {
		return
	}
	defer c.drop()
	for by := c.server.now() + lingering; ; {
		if _, err := c.read(nil, by); err != nil || c.server.now() >= by {
			return
		}
		c.free()
	}
}

const refusal = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 60\r\n\r\n" +
	"a head has 64 KiB and 200 fields at most, this one has more\n"

// refuse answers a head over its bounds. Nobody else looks at one: it is not replayed.
func (c *serverConn) refuse() {
	c.drop()
	_, _ = c.write([]byte(refusal)) // an agent that has left reads nothing
	go c.linger()
}

// fill reads more behind data. While that is empty it is read into a buffer; what waits for more has memory of its own, of about its
// size.
func (c *serverConn) fill() error {
	if len(c.data) == 0 {
		_, err := c.read(nil, c.by)
		return err
	}
	c.shrink()
	if len(c.data) == cap(c.data) {
		c.data = append(make([]byte, 0, 2*cap(c.data)), c.data...)
	}
	n, err := c.read(c.data[len(c.data):cap(c.data)], c.by)
	c.data = c.data[:len(c.data)+n]
	return err
}

// shrink gives the buffer of data back, and moves what is left of it.
func (c *serverConn) shrink() {
	if c.buf != nil {
		const more = 512
		own := append(make([]byte, 0, len(c.data)+more), c.data...)
		c.free()
		c.data = own
	}
}

// free gives the memory of data back; freeEmpty where nothing is in it; drop forgets what is in it.
func (c *serverConn) free() {
	if c.buf != nil {
		putBuffer(c.buf)
	}
	c.buf, c.data = nil, nil
}

func (c *serverConn) freeEmpty() {
	if len(c.data) == 0 {
		c.free()
	}
}

func (c *serverConn) drop() { c.free() }

// read reads into p, or into a buffer that becomes data where p is nil.
func (c *serverConn) read(p []byte, by time.Duration) (int, error) {
	c.into, c.wanted = p, by
	for {
		err := c.raw.Read(c.step)
		switch {
		case err == nil:
			c.into = nil
			return c.n, c.err
		case !errors.Is(err, os.ErrDeadlineExceeded) || c.armed == c.wanted:
			return 0, err
		}
		c.arm() // it was ended by an older deadline
	}
}

// stepRead is called by RawConn.Read, again and again until it returns true.
func (c *serverConn) stepRead(fd uintptr) bool {
	p, buf := c.into, (*buffer)(nil)
	if p == nil {
		buf = getBuffer()
		p = buf[:]
	}
	n, err := syscall.Read(int(fd), p)
	if n > 0 {
		c.n, c.err = n, nil
		if buf != nil {
			c.buf, c.data = buf, buf[:n]
		}
		return true
	}
	if buf != nil {
		putBuffer(buf)
	}
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		if c.wanted != 0 && (c.armed == 0 || c.wanted < c.armed) {
			c.arm()
		}
		return false
	case err == nil:
		c.n, c.err = 0, io.EOF
	default:
		c.n, c.err = 0, os.NewSyscallError("read", err)
	}
	return true
}

// arm makes the deadline that is wanted the socket's.
func (c *serverConn) arm() {
	c.armed = c.wanted
	_ = c.sock.SetReadDeadline(c.server.at(c.armed)) // fails only where it is closed, which the read says too
}

// at is a time of the server's as one of the clock, 0 as none.
func (s *Server) at(t time.Duration) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return s.start.Add(t)
}

// writeTimeout is how long a write waits for an agent that does not read, where the handler has set no deadline.
const writeTimeout = time.Minute

// bound has a write end by itself. The deadline is set a minute too late, and then left for a minute: to set one for each write would
// cost each.
func (c *serverConn) bound() {
	if c.explicit.Load() {
		return
	}
	if now := c.server.now(); time.Duration(c.writing.Load()) < now+writeTimeout {
		by := now + 2*writeTimeout
		c.writing.Store(int64(by))
		_ = c.sock.SetWriteDeadline(c.server.at(by)) // fails only where it is closed, which the write says too
	}
}

func (c *serverConn) write(p []byte) (int, error) {
	c.bound()
	return c.sock.Write(p)
}

// setWriteDeadline is the handler's. It may be called while something is written.
func (c *serverConn) setWriteDeadline(t time.Time) error {
	if t.IsZero() { // the next write sets its own
		c.writing.Store(0)
		c.explicit.Store(false)
		return nil
	}
	c.explicit.Store(true)
	return c.sock.SetWriteDeadline(t)
}

// remoteAddr is the address of the other end. It is made once.
func (c *serverConn) remoteAddr() string {
	if c.remote == "" {
		c.remote = c.nc.RemoteAddr().String()
	}
	return c.remote
}
