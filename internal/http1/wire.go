package http1

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// wire is what a TLS connection reads and writes by. It knows whether anything was written, which TLS does not say when a
// write fails, and lets TLS look at what has come without waiting for more.
type wire struct {
	net.Conn
	tls     *tls.Conn       // over this
	outer   *wire           // of the TLS below this one, to a proxy; nil: there is none
	raw     syscall.RawConn // of the socket below all; nil: it is none
	probing bool            // reads do not wait; of the outermost
	probe   [1]byte         // what is read then: memory of its own would be some for each call
	written atomic.Int64    // bytes
}

func newWire(over net.Conn, outer *wire) *wire {
	w := &wire{Conn: over}
	if outer != nil {
		w.raw, w.outer = outer.raw, outer
	} else if socket, ok := over.(syscall.Conn); ok {
		w.raw, _ = socket.SyscallConn() // without it nobody looks
	}
	return w
}

// Write counts what is written.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.written.Add(int64(n))
	return n, err
}

// count returns how many bytes were written, 0 of a nil wire.
func (w *wire) count() int64 {
	if w == nil {
		return 0
	}
	return w.written.Load()
}

// alive reports whether an idle connection may be used again, as far as one can see. TLS is asked: bytes that have come may be its own, as
// the tickets that servers send behind the handshake, and it may have read some already, with those of the answer before, of which the
// socket knows nothing. They would be taken for the next answer.
func (w *wire) alive() bool {
	if w == nil || w.raw == nil {
		return true
	}
	socket := w
	for socket.outer != nil {
		socket = socket.outer
	}
	socket.probing = true
	defer func() { socket.probing = false }()
	_, err := w.tls.Read(w.probe[:])
	return errors.Is(err, errNothing)
}

// Read returns errNothing instead of waiting where it is probing.
func (w *wire) Read(p []byte) (n int, err error) {
	if !w.probing {
		return w.Conn.Read(p)
	}
	closed := w.raw.Control(func(fd uintptr) { n, err = syscall.Read(int(fd), p) })
	switch {
	case closed != nil:
		return 0, closed
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return 0, errNothing
	case err != nil:
		return 0, err
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// errNothing says that nothing has come. It looks like a timeout, after which TLS can be read on.
var errNothing error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
