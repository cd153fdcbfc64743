package redis

import (
	"crypto/tls"
	"net"
	"syscall"
)

// checkedConn is a connection to the server. It ends where what the server sends is no RESP, before the driver sees it: the
// driver reserves as many bytes as an answer announces, and goes as deep as it is nested.
type checkedConn struct {
	net.Conn
	check respCheck    // of what was read; one reads at a time
	fault func() error // why it is not to be used any more; nil where it is
}

// Read implements net.Conn.
func (c *checkedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if fault := c.fault(); fault != nil {
		return 0, fault
	}
	if bad := c.check.feed(b[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

// Write implements net.Conn.
func (c *checkedConn) Write(b []byte) (int, error) {
	if err := c.fault(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn. It skips the close_notify of TLS, which waits for a server that may be hung.
func (c *checkedConn) Close() error {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return secure.NetConn().Close()
	}
	return c.Conn.Close()
}

// SyscallConn implements syscall.Conn, by which the pool throws a connection away that is not to be used any more. The driver
// looks through it whether the server has hung up before it uses it again; with TLS it must not look for bytes: there may be
// some that are no answer.
func (c *checkedConn) SyscallConn() (syscall.RawConn, error) {
	if err := c.fault(); err != nil {
		return nil, err
	}
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return quietConn{}, nil
}

// quietConn is one on which nothing has come. The driver only reads from it.
type quietConn struct{ syscall.RawConn }

// Read implements syscall.RawConn.
func (quietConn) Read(func(uintptr) bool) error { return nil }
