package mcptest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// WaitTimeout is how long the waits of this package last before the test fails. It is far above what anything takes that
// works, because machines that run tests are slow at times.
const WaitTimeout = 20 * time.Second

// keep is how many requests a Server remembers; older ones are forgotten.
const keep = 20_000

// TB is the part of testing.TB that is needed here, so that a process that is no test can have a Server too.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Script answers one request. It runs on a goroutine of its own; when it returns the exchange is over. A script that
// answered nothing leaves a 500, one that left a stream or raw bytes open leaves a closed connection.
type Script func(x *Exchange)

// Server is a scripted server. Its methods are safe for concurrent use.
type Server struct {
	tb     TB
	addr   string
	closed chan struct{}  // Close was called: scripts that wait give up
	wg     sync.WaitGroup // the accept loop and the connections

	mu         sync.Mutex // guards the following
	ln         net.Listener
	hold       func() // frees the port while the server is down
	standing   Script
	once       []Script
	requests   []*Request
	seen       int // requests received, those forgotten included
	executions int
	total      int
	conns      map[*conn]struct{}
	changed    chan struct{} // closed and replaced whenever one of the above changes
}

// NewServer starts a server on a free port of 127.0.0.1 that answers every request by the script. It is closed when the
// test ends.
func NewServer(tb TB, script Script) *Server {
	tb.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("mcptest: %v", err)
	}
	s := &Server{
		tb: tb, addr: ln.Addr().String(), closed: make(chan struct{}),
		standing: script, conns: map[*conn]struct{}{}, changed: make(chan struct{}),
	}
	s.serve(ln)
	tb.Cleanup(s.Close)
	return s
}

// Addr returns host:port.
func (s *Server) Addr() string { return s.addr }

// URL returns the endpoint, http://host:port/mcp. The server answers every path alike.
func (s *Server) URL() string { return "http://" + s.addr + "/mcp" }

// Script replaces the standing script for the requests to come.
func (s *Server) Script(script Script) {
	s.update(func() { s.standing = script })
}

// Once has the next requests answered by these scripts, one each in the order received, before the standing script.
func (s *Server) Once(scripts ...Script) {
	s.update(func() { s.once = append(s.once, scripts...) })
}

// Requests returns what was received so far, oldest first, at most the last 20,000.
func (s *Server) Requests() []*Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Request(nil), s.requests...)
}

// Received returns how many requests have come, those included that are no longer remembered.
func (s *Server) Received() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Executions returns how often scripts called Execute.
func (s *Server) Executions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.executions
}

// Connections returns how many connections are open and how many were accepted in all.
func (s *Server) Connections() (open, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.total
}

// AwaitRequest waits for the n-th request, counted from 1, and returns it.
func (s *Server) AwaitRequest(n int) *Request {
	s.tb.Helper()
	s.await(fmt.Sprintf("request %d", n), func() bool { return s.seen >= n })
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[len(s.requests)-1-(s.seen-n)]
}

// AwaitOpen waits until exactly n connections are open.
func (s *Server) AwaitOpen(n int) {
	s.tb.Helper()
	s.await(fmt.Sprintf("%d open connections", n), func() bool { return len(s.conns) == n })
}

// await waits until done, which is called with mu held, or fails the test after WaitTimeout.
func (s *Server) await(what string, done func() bool) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), WaitTimeout)
	defer cancel()
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		state := fmt.Sprintf("%d requests, %d connections open", s.seen, len(s.conns))
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s.tb.Fatalf("mcptest: waited %v for %s, had %s", WaitTimeout, what, state)
		}
	}
}

// update runs f with mu held and wakes all waiters.
func (s *Server) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Down stops listening and resets every connection, as a server that was killed: connecting is refused until Up.
func (s *Server) Down() {
	// A process that is being started has a copy of the listening socket for a moment.
	syscall.ForkLock.RLock()
	s.stopListening()
	hold, err := reserve(s.addr)
	syscall.ForkLock.RUnlock()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(WaitTimeout); err != nil && time.Now().Before(end); { // another process may use the port for a moment
		<-again.C
		hold, err = reserve(s.addr)
	}
	if err != nil {
		s.tb.Fatalf("mcptest: keeping %s while the server is down: %v", s.addr, err)
	}
	s.update(func() { s.hold = hold })
	s.resetAll()
}

// Up listens again, on the same address, after Down.
func (s *Server) Up() {
	s.release()
	ln, err := net.Listen("tcp4", s.addr)
	if err != nil {
		s.tb.Fatalf("mcptest: listening again: %v", err)
		return
	}
	s.serve(ln)
}

// Close stops the server and waits until all of its goroutines have ended. It may be called twice.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	s.mu.Unlock()
	s.stopListening()
	s.release()
	s.resetAll()
	s.wg.Wait()
}

func (s *Server) stopListening() {
	s.mu.Lock()
	ln := s.ln
	s.ln = nil
	s.mu.Unlock()
	if ln != nil {
		_ = ln.Close() // the only error is that it was closed before
	}
}

func (s *Server) release() {
	s.mu.Lock()
	hold := s.hold
	s.hold = nil
	s.mu.Unlock()
	if hold != nil {
		hold()
	}
}

// resetAll resets the connections that are open.
func (s *Server) resetAll() {
	s.mu.Lock()
	open := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.reset()
	}
}

// next records a request and returns the script that answers it.
func (s *Server) next(r *Request) Script {
	var script Script
	s.update(func() {
		s.seen++
		s.requests = append(s.requests, r)
		if len(s.requests) > keep {
			s.requests = append([]*Request(nil), s.requests[keep/2:]...)
		}
		script = s.standing
		if len(s.once) > 0 {
			script, s.once = s.once[0], s.once[1:]
		}
	})
	return script
}
