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
	nested  bool            // there is TLS below this one, to a proxy
	raw     syscall.RawConn // of the socket below all; nil: it is none
	probing bool            // reads do not wait
	written atomic.Int64    // bytes
}

func newWire(over net.Conn, outer *wire) *wire {
	w := &wire{Conn: over}
	if outer != nil {
		w.raw, w.nested = outer.raw, true
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

// alive reports whether an idle connection may be used again, as far as one can see. Bytes that have come may be TLS's own,
// as the tickets that servers send behind the handshake, and so TLS reads them; in TLS within TLS they cost the connection.
func (w *wire) alive() bool {
	if w == nil || w.raw == nil {
		return true
	}
	silent := false
	if err := w.raw.Control(func(fd uintptr) { silent = quiet(int(fd)) }); err != nil || silent || w.nested {
		return err == nil && silent
	}
	w.probing = true
	defer func() { w.probing = false }()
	_, err := w.tls.Read(make([]byte, 1))
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
