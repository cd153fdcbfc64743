// A TCP relay that cuts a connection at a given text.

package relay

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
)

// cutter is a TCP relay that cuts one connection, once: the first one that carries a given text from the server, right
// after it has passed that text on. All other connections go on.
type cutter struct {
	listener net.Listener
	target   string
	text     []byte

	mu    sync.Mutex
	done  bool // has cut, or has been closed
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// startCutter starts a relay in front of an endpoint and returns the endpoint's URL by way of the relay.
func startCutter(t testing.TB, endpoint, text string) (*cutter, string) {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, target: u.Host, text: []byte(text), conns: map[net.Conn]bool{}}
	c.wg.Go(c.accept)
	t.Cleanup(c.close)
	u.Host = listener.Addr().String()
	return c, u.String()
}

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.target)
		if err != nil {
			client.Close()
			continue
		}
		c.hold(client, server)
		c.wg.Go(func() { c.copy(server, client, false) })
		c.wg.Go(func() { c.copy(client, server, true) })
	}
}

// copy passes bytes on until either side ends, and then ends both. From the server it looks for the text.
func (c *cutter) copy(to, from net.Conn, look bool) {
	defer c.drop(to, from)
	var recent []byte // the text may come in two pieces
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		if look {
			recent = append(recent, buf[:n]...)
			if bytes.Contains(recent, c.text) && c.cuts() {
				return
			}
			recent = recent[max(0, len(recent)-len(c.text)):]
		}
	}
}

// cuts reports whether this is the time to cut.
func (c *cutter) cuts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.done
	c.done = true
	return first
}

// hasCut reports whether the connection has been cut.
func (c *cutter) hasCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (c *cutter) hold(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.conns[conn] = true
	}
}

func (c *cutter) drop(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
		delete(c.conns, conn)
	}
}

func (c *cutter) close() {
	c.listener.Close()
	c.mu.Lock()
	for conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}
