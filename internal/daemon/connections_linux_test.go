package daemon

import (
	"net"
	"sync/atomic"
	"testing"
)

// accepted returns both ends of a connection of an agent.
func accepted(t *testing.T) (own *connection, other net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if other, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	nc, err := agentListener{l, new(atomic.Uint64)}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*connection), other
}
