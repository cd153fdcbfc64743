package daemon

import (
	"errors"
	"net"
	"net/http"
	"testing"
	"time"
)

// accepted returns both ends of a connection that all knows.
func accepted(t *testing.T, all *connections) (own *connection, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if peer, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	nc, err := all.listener(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc.(*connection), peer
}

// TestIdleConnectionsClose: what the drain closes is what nothing has come on, and for long enough.
func TestIdleConnectionsClose(t *testing.T) {
	read := func(t *testing.T, own *connection, peer net.Conn) {
		if _, err := peer.Write([]byte("P")); err != nil {
			t.Fatal(err)
		}
		if n, err := own.Read(make([]byte, 8)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	for name, tt := range map[string]struct {
		do    func(t *testing.T, own *connection, peer net.Conn)
		after time.Duration
		open  int
	}{
		"new":               {nil, 0, 1},
		"unused":            {nil, idleGrace, 0},
		"a byte has come":   {read, idleGrace, 1},
		"no more has come":  {read, readingGrace, 0},
		"a handler runs":    {func(_ *testing.T, own *connection, _ net.Conn) { own.enter(phaseServing) }, time.Hour, 1},
		"just answered":     {func(_ *testing.T, own *connection, _ net.Conn) { connectionState(own, http.StateIdle) }, 0, 1},
		"answered long ago": {func(_ *testing.T, own *connection, _ net.Conn) { connectionState(own, http.StateIdle) }, idleGrace, 0},
		"answered, and the next comes": {func(t *testing.T, own *connection, peer net.Conn) {
			connectionState(own, http.StateIdle)
			read(t, own, peer)
		}, idleGrace, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var all connections
			own, peer := accepted(t, &all)
			if tt.do != nil {
				tt.do(t, own, peer)
			}
			own.mu.Lock()
			at := own.since.Add(tt.after)
			own.mu.Unlock()
			if all.closeIdle(at); all.open() != tt.open {
				t.Errorf("%d open, want %d", all.open(), tt.open)
			}
		})
	}
}

// TestClosedConnectionReadsNothing: a request that arrives while the drain closes its connection is not half taken.
func TestClosedConnectionReadsNothing(t *testing.T) {
	var all connections
	own, peer := accepted(t, &all)
	if _, err := peer.Write([]byte("POST")); err != nil {
		t.Fatal(err)
	}
	own.mu.Lock()
	own.closed = true // the moment between the decision and the close
	own.mu.Unlock()
	if n, err := own.Read(make([]byte, 8)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
