package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one connection. It is owned by the pool while it is idle, else by the call that has it, but for state, which
// whoever watches over the call's context changes too.
type conn struct {
	pool   *pool
	tcp    net.Conn        // the connection itself
	rw     net.Conn        // tcp, or TLS over it
	raw    syscall.RawConn // of tcp, where rw is that and it is a socket; nil: reads and writes are those of net.Conn
	secure *wire           // what TLS reads and writes by; nil: no TLS
	since  time.Time       // when it was opened

	// state is twice the number of the use in which it is, odd when that use was cancelled. So a cancellation that comes late
	// closes nothing: it is of a use that is over.
	state atomic.Uint64

	used      bool          // it has carried a request
	pooled    bool          // it was idle, or has carried a request: the server may have closed it since
	idleSince time.Time     // when it was put into the pool
	hint      time.Duration // how long the server says that it keeps it idle; 0: it does not say

	// Deadlines are changed only where one becomes nearer: see again.
	wanted, armed time.Time

	caller caller // whose context cancels the use

	call *Answer               // whose exchange step does
	step func(fd uintptr) bool // made once: a closure for each call would be memory for each
	err  error                 // of step
}

func newConn(p *pool, tcp, rw net.Conn) *conn {
	c := &conn{pool: p, tcp: tcp, rw: rw, since: time.Now()}
	if socket, ok := rw.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn() // without it, as any net.Conn
	}
	c.step = c.stepRaw
	return c
}

// begin begins a use of the connection and returns its number, by which it is cancelled and released.
func (c *conn) begin() uint64 { return c.state.Load() / 2 }

// cancel closes the connection if that use of it is not over.
func (c *conn) cancel(use uint64) {
	if c.state.CompareAndSwap(2*use, 2*use+1) {
		_ = c.tcp.Close() // whoever reads gets the error
	}
}

// release ends a use, and reports whether it was not cancelled.
func (c *conn) release(use uint64) bool { return c.state.CompareAndSwap(2*use, 2*use+2) }

// spent reports whether the connection is not to be used any more: it is as old as MaxAge, or was idle for nearly as long as the
// server keeps one (a second is for the way).
func (c *conn) spent(now time.Time) bool {
	if c.used && c.pool.o.MaxAge > 0 && now.Sub(c.since) >= c.pool.o.MaxAge {
		return true
	}
	return c.hint > 0 && now.Sub(c.idleSince) >= max(c.hint-time.Second, c.hint/2)
}

// alive reports whether the server has neither closed an idle connection nor written what nobody asked for, as far as one can see.
func (c *conn) alive() bool {
	if c.raw == nil {
		return c.secure.alive()
	}
	is := false
	err := c.raw.Control(func(fd uintptr) { is = quiet(int(fd)) })
	return err == nil && is
}

// bound sets the deadline of the reads to come.
func (c *conn) bound(t time.Time) {
	c.wanted = t
	if !t.IsZero() && (c.armed.IsZero() || t.Before(c.armed)) {
		c.arm()
	}
}

// arm makes the deadline that is wanted the connection's.
func (c *conn) arm() {
	c.armed = c.wanted
	_ = c.tcp.SetReadDeadline(c.armed) // fails only where it is closed, which the read says too
}

// again reports whether a read that failed is to be done again: an older deadline ended it, which was left as it was because
// the one that is wanted is later. That costs a read now and then, and to set a deadline for each call would cost each call.
func (c *conn) again(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.armed.Equal(c.wanted) {
		return false
	}
	c.arm()
	return true
}

func (c *conn) read(p []byte) (int, error) {
	for {
		n, err := c.rw.Read(p)
		if n > 0 || err == nil {
			return n, nil // an error comes again
		}
		if !c.again(err) {
			return 0, err
		}
	}
}

// exchange writes the request of the call and reads the first bytes of the answer. errStale: not a byte was written.
func (c *conn) exchange(a *Answer) error {
	if c.raw == nil {
		return c.exchangeWaiting(a)
	}
	c.call, c.err = a, nil
	defer func() { c.call = nil }()
	for {
		err := c.raw.Read(c.step)
		switch {
		case err != nil && c.again(err):
		case err != nil || c.err != nil:
			return errors.Join(err, c.err)
		case a.send.pending():
			a.sent = SentUnknown
			a.send.start(c, a.written)
		default:
			return nil
		}
	}
}

// stepRaw is called by RawConn.Read. It writes the request in there and asks to be called again when there is something to
// read: readiness was reset before the first call, so the answer's cannot be missed, and no read finds nothing.
func (c *conn) stepRaw(fd uintptr) bool {
	a := c.call
	if !a.send.pending() {
		return c.readNow(int(fd), a)
	}
	if c.pooled && a.sent == SentNo && !quiet(int(fd)) {
		c.err = errStale
		return true
	}
	n, done := a.send.writeNow(int(fd))
	if n > 0 {
		a.sent = SentUnknown
	}
	switch {
	case n == 0 && a.send.broken != nil:
		c.err = c.unwritten(os.NewSyscallError("write", a.send.broken))
		return true
	case done && a.send.broken == nil:
		a.written()
	}
	return !done
}

// unwritten is the error of a connection to which not a byte could be written.
func (c *conn) unwritten(err error) error {
	if c.pooled {
		return errStale
	}
	return err
}

// readNow reads the first bytes of an answer, if they are there.
func (c *conn) readNow(fd int, a *Answer) bool {
	buf := getBuffer()
	n, err := syscall.Read(fd, buf[:])
	if n > 0 {
		a.buf, a.data = buf, buf[:n]
		a.began()
		return true
	}
	putBuffer(buf)
	switch err {
	case nil:
		c.err = io.ErrUnexpectedEOF
	case syscall.EAGAIN, syscall.EINTR:
		return false
	default:
		c.err = os.NewSyscallError("read", err)
	}
	return true
}

// quiet reports whether a socket is open and has nothing to read: bytes that nobody asked for, or the server's end.
func quiet(fd int) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return err == syscall.EAGAIN
		}
	}
}

// exchangeWaiting is exchange for connections that are no bare socket. It leaves reading to the one who reads the head.
func (c *conn) exchangeWaiting(a *Answer) error {
	if c.pooled && !c.alive() {
		return errStale
	}
	if len(a.send.rest) > 0 {
		_ = c.tcp.SetWriteDeadline(time.Time{}) // that of the request before; what ends the wait for the answer closes the connection
		a.sent = SentUnknown
		a.send.start(c, a.written)
		return nil
	}
	_ = c.tcp.SetWriteDeadline(c.wanted) // fails only where it is closed, which the write says too
	before := c.secure.count()
	n, err := c.rw.Write(a.send.first)
	if n > 0 || c.secure.count() > before {
		a.sent = SentUnknown
	}
	switch {
	case err == nil:
		a.written()
	case a.sent == SentNo:
		return c.unwritten(err)
	}
	a.send.broken = err // the server may have answered all the same
	a.send.drop()
	return nil
}
