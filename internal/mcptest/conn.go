package mcptest

import (
	"bufio"
	"net"
	"sync"
)

// conn is one accepted connection. Its reader goroutine reads requests one after another; each is answered by a script on
// a goroutine of its own while the reader waits for the peer's next byte, and so learns when the peer leaves.
type conn struct {
	server *Server
	number int
	tcp    *net.TCPConn
	gone   chan struct{} // closed when the peer has left or the connection was closed
	leave  sync.Once
}

// serve accepts connections in the background until the listener is closed.
func (s *Server) serve(ln net.Listener) {
	s.update(func() { s.ln = ln })
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.adopt(c.(*net.TCPConn))
		}
	})
}

func (s *Server) adopt(tcp *net.TCPConn) {
	c := &conn{server: s, tcp: tcp, gone: make(chan struct{})}
	s.update(func() {
		s.total++
		c.number = s.total
		s.conns[c] = struct{}{}
	})
	select {
	case <-s.closed: // Close has already reset the connections it knew of
		c.reset()
	default:
	}
	s.wg.Go(c.run)
}

// run is the reader goroutine.
func (c *conn) run() {
	defer c.server.update(func() { delete(c.server.conns, c) })
	defer c.close()
	br := bufio.NewReader(c.tcp)
	over := make(chan struct{})
	close(over)
	for {
		_, err := br.Peek(1)
		if err != nil {
			c.markGone()
		}
		<-over // the exchange before: its script sees that the peer is gone
		if err != nil {
			return
		}
		r, err := readRequest(br)
		if err != nil {
			return
		}
		r.Conn = c.number
		x := &Exchange{Request: r, conn: c, over: make(chan struct{})}
		over = x.over
		script := c.server.next(r)
		c.server.wg.Go(func() { x.run(script) })
	}
}

func (c *conn) markGone() { c.leave.Do(func() { close(c.gone) }) }

// close ends the connection in good order: what was written still arrives.
func (c *conn) close() {
	c.markGone()
	_ = c.tcp.Close() // a second close is harmless
}

// reset ends the connection by a TCP reset.
func (c *conn) reset() {
	_ = c.tcp.SetLinger(0) // fails only where the connection is closed already
	c.close()
}
