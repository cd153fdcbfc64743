package api

import (
	"net"
	"sync"
)

// gate is a listener that has only so many connections open at once. The others wait in the kernel's queue, which is
// bounded, too, and each connection that is open ends in bounded time.
type gate struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	close  func() error
}

func newGate(l net.Listener, places int) *gate {
	g := &gate{Listener: l, places: make(chan struct{}, places), closed: make(chan struct{})}
	g.close = sync.OnceValue(func() error {
		close(g.closed)
		return l.Close()
	})
	return g
}

// Accept waits for a place, and then for a connection.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case g.places <- struct{}{}:
	case <-g.closed:
		return nil, net.ErrClosed
	}
	c, err := g.Listener.Accept()
	if err != nil {
		<-g.places
		return nil, err
	}
	return &gatedConn{Conn: c, leave: sync.OnceFunc(func() { <-g.places })}, nil
}

// Close stops accepting. net/http closes a listener once more; that is no error.
func (g *gate) Close() error { return g.close() }

// gatedConn gives its place back when it is closed.
type gatedConn struct {
	net.Conn
	leave func()
}

func (c *gatedConn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}

// CloseWrite is what net/http calls before it hangs up on one who is still sending, so that its answer is read first.
func (c *gatedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
