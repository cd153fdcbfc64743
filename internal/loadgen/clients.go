package loadgen

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Clients are the connections to a target. They stay open between loads. Close ends them.
type Clients struct {
	target *Target
	opened atomic.Int64 // connections, so far
	cached atomic.Bool  // an answer to Ask or a handshake had the daemon's member of Cache-Status

	mu     sync.Mutex // guards the following
	idle   []*client  // the last one used at the end
	conns  map[net.Conn]bool
	closed bool
}

// NewClients returns the clients of a target, of which none is connected yet.
func NewClients(t *Target) *Clients {
	return &Clients{target: t, conns: make(map[net.Conn]bool)}
}

// Target returns where they connect to.
func (p *Clients) Target() *Target { return p.target }

// Cached reports whether an answer outside of a load, to Ask or as a session was opened, says that it came from or by a daemon of this
// program: in Cache-Status, as all of its answers to requests do.
func (p *Clients) Cached() bool { return p.cached.Load() }

// connectAtOnce is how many clients connect at the same time.
const connectAtOnce = 32

// Open connects so many clients, with a session each where the server has them, before a load begins. It returns the first error. After
// an end of ctx the clients cannot be used again.
func (p *Clients) Open(ctx context.Context, n int) error {
	stop := context.AfterFunc(ctx, p.abort)
	defer stop()
	all := make([]*client, n)
	for i := range all {
		all[i] = p.get()
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connectAtOnce)
	for _, c := range all {
		group.Go(func() error { return c.connect(ctx) })
	}
	err := group.Wait()
	for _, c := range all {
		p.put(c)
	}
	return err
}

// get returns the client that was used last, or a new one.
func (p *Clients) get() *client {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return c
	}
	return &client{target: p.target, pool: p}
}

func (p *Clients) put(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

// adopt makes a connection one of those that abort closes; false: that has happened.
func (p *Clients) adopt(conn net.Conn) bool {
	p.opened.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Clients) close(conn net.Conn) {
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	_ = conn.Close() // nothing that was sent is waited for any more
}

// abort closes all connections, so that calls under way fail.
func (p *Clients) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for conn := range p.conns { // whoever waits on it is told so by its own read
		if process, ok := conn.(*processConn); ok {
			process.kill() // its Close waits
		} else {
			_ = conn.Close() // whoever uses it gets the error
		}
	}
}

// Close ends the sessions of the clients and their connections, within the time that ctx allows. No load may be running.
func (p *Clients) Close(ctx context.Context) {
	stop := context.AfterFunc(ctx, p.abort)
	defer stop()
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(connectAtOnce)
	for _, c := range idle {
		group.Go(func() error {
			_ = c.leave(ctx) // a session that the server keeps ends by its own time
			return nil
		})
	}
	_ = group.Wait() // no function returns one
}
