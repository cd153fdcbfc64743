package loadgen

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lookAfter is how long a connection is idle before it is looked at. Servers keep one for seconds: Node's for five.
const lookAfter = 100 * time.Millisecond

// dropClosed gives the connection up where the server has closed it while it was idle, as between two rounds: a call on it would be
// counted as one that the server broke off.
func (c *client) dropClosed(now time.Time) {
	if c.conn != nil && now.Sub(c.last) >= lookAfter && isClosed(c.conn, c.used) {
		c.disconnect()
	}
}

// isClosed reports whether there is something to read on a connection on which nothing was asked: the end, or what a server says before
// it, as TLS's close_notify. A connection of TLS that was not used has tickets to read. Of what is no socket it says no.
func isClosed(conn net.Conn, used bool) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		if !used {
			return false
		}
		conn = secure.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		err := error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			_, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		}
		closed = !errors.Is(err, unix.EAGAIN)
		return true
	})
	return closed && err == nil
}
