// Package peer tells which user of this machine is at the other end of a connection.
//
// It promises never to name a user who does not hold that end now: a socket that its owner has closed belongs to nobody, though the
// kernel shows it as root's. Who cannot be told (another network namespace, another machine, another system than Linux) is an error.
package peer

import (
	"errors"
	"fmt"
	"net"
)

// ErrUnknown says that the owner cannot be told. It is in every error of Owner.
var ErrUnknown = errors.New("the user at the other end cannot be told")

// Owner returns the user's id. Of a Unix socket it is who connected or began to listen (SO_PEERCRED), of TCP on loopback who holds
// the socket now (sock_diag). It asks the kernel, some 50 us long, so it is for once a connection.
func Owner(c net.Conn) (uid uint32, err error) {
	switch c := c.(type) {
	case *net.UnixConn:
		uid, err = ownerUnix(c)
	case *net.TCPConn:
		uid, err = ownerAt(c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr))
	default:
		err = fmt.Errorf("a %T has no owner", c)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return uid, nil
}

// ownerAt returns the owner of the socket at remote that is connected to local.
func ownerAt(local, remote *net.TCPAddr) (uint32, error) {
	if !local.IP.IsLoopback() || !remote.IP.IsLoopback() {
		return 0, fmt.Errorf("%s is not on loopback", remote)
	}
	return ownerTCP(local, remote)
}
