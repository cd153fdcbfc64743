package http1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds of what agents send, where ServerOptions says nothing else.
const (
	headTimeout = 10 * time.Second
	bodyTimeout = 30 * time.Second
	idleTimeout = 10 * time.Minute // longer than any client keeps a connection: it closes first, and loses no POST
)

// bodyPace is how much of a body has to come in each further second, beyond ServerOptions.BodyTimeout.
const bodyPace = 64 << 10

// ServerOptions say how a Server answers. HTTP is required.
type ServerOptions struct {
	// HTTP answers what net/http serves: all that the Server does not take itself.
	HTTP http.Handler
	// Handler answers the requests that the Server takes; nil: HTTP does, by Adapt.
	Handler func(*Inbound)
	// Takes says whether the requests of a path are the Server's, as far as they are plain; nil: all are.
	Takes func(path string) bool

	Base   context.Context // its end cancels all requests, with its cause; nil: they are cancelled one by one only
	Compat bool            // net/http serves all connections

	MaxConnections int // open at once; 0: no bound

	HeadTimeout time.Duration // from the first byte of a head to its last; 0: 10 s
	BodyTimeout time.Duration // of a body, and a second more for each 64 KiB of its length; 0: 30 s
	IdleTimeout time.Duration // how long an idle connection is kept; 0: 10 min

	Replayed func(why Replay) // is told of each connection that net/http serves from there on; nil: nobody is
	Log      *slog.Logger     // of panics, and of what net/http says; nil: silent
}

// Server answers the requests of agents: those that are common and clear by itself, the others over net/http. It is safe for
// concurrent use.
type Server struct {
	o       ServerOptions
	start   time.Time    // from which its times count
	net     *http.Server // for connections that are replayed
	replays *handoff     // that it accepts from
	watch   *watcher     // sees that agents leave; nil: it cannot be had, and net/http serves all
	began   sync.Once
	workers workers
	date    atomic.Pointer[dateField]
	waiting atomic.Int32 // how many connections wait for room

	mu       sync.Mutex // guards the following
	room     sync.Cond  // of mu: a connection was closed, or is idle
	conns    map[*serverConn]struct{}
	unbound  bool // MaxConnections holds no more
	closed   bool
	unwatch  func() bool // ends the watch over Base
	netEnded chan struct{}
}

// NewServer returns a Server, of which nothing runs before Serve.
func NewServer(o ServerOptions) *Server {
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.Handler == nil {
		o.Handler = Adapt(o.HTTP)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, t := range []struct {
		of    *time.Duration
		usual time.Duration
	}{{&o.HeadTimeout, headTimeout}, {&o.BodyTimeout, bodyTimeout}, {&o.IdleTimeout, idleTimeout}} {
		if *t.of == 0 {
			*t.of = t.usual
		}
	}
	s := &Server{o: o, start: time.Now(), conns: map[*serverConn]struct{}{}, netEnded: make(chan struct{}), unwatch: func() bool { return true }}
	s.room.L = &s.mu
	s.replays = newHandoff()
	s.net = s.newFallback()
	return s
}

// begin starts what stands beside the connections.
func (s *Server) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(s.netEnded)
		return
	}
	if !s.o.Compat {
		var err error
		if s.watch, err = newWatcher(); err != nil {
			s.o.Log.Warn("net/http serves: it cannot be seen when agents leave", "error", err)
		}
	}
	s.unwatch = context.AfterFunc(s.o.Base, s.cancelAll)
	go func() {
		defer close(s.netEnded)
		_ = s.net.Serve(s.replays) // http.ErrServerClosed
	}()
}

// Serve serves the connections of a listener until that is closed, and returns the error that Accept returned. The listener is
// the caller's to close.
func (s *Server) Serve(l net.Listener) error {
	s.began.Do(s.begin)
	for delay := time.Duration(0); ; {
		nc, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			s.serveConn(nc)
		case passing(err):
			// Descriptors or memory are used up: it goes on when some are free again, as in net/http.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.o.Log.Warn("accepting a connection failed, it is tried again", "error", err, "in", delay.String())
			s.makeRoom()
			time.Sleep(delay)
		default:
			return err
		}
	}
}

// passing reports whether an error of Accept is of a shortage that passes.
func passing(err error) bool {
	for _, e := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// serveConn has a new connection served, when there is room for it.
func (s *Server) serveConn(nc net.Conn) {
	c := newServerConn(s, nc)
	if !s.add(c) {
		_ = nc.Close() // the server is closed: nobody is told
		return
	}
	if s.watch == nil || c.raw == nil {
		c.replay("")
		return
	}
	go c.idle()
}

// add makes a connection known. Where there is no room, the one that has been idle for longest goes; if none is idle, it waits. It
// reports false if the server was closed.
func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Counted before it is looked who is idle: a connection that becomes so after that sees that somebody waits.
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	for s.o.MaxConnections > 0 && len(s.conns) >= s.o.MaxConnections && !s.unbound && !s.closed {
		if !s.evictLocked() {
			s.room.Wait()
		}
	}
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// evictLocked closes the connection that has been idle for longest, and reports whether there was one.
func (s *Server) evictLocked() bool {
	for {
		var oldest *serverConn
		var is uint64
		for c := range s.conns {
			if v := c.phase.Load(); phaseOf(v) == phaseIdle && (oldest == nil || v < is) {
				oldest, is = c, v
			}
		}
		if oldest == nil {
			return false
		}
		if oldest.phase.CompareAndSwap(is, uint64(phaseClosed)) { // else a request has come meanwhile
			delete(s.conns, oldest)
			oldest.shut()
			return true
		}
	}
}

func (s *Server) makeRoom() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evictLocked()
}

// forget takes off a connection that was closed.
func (s *Server) forget(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.room.Broadcast()
}

// roomMade tells who waits for room that a connection is idle.
func (s *Server) roomMade() {
	if s.waiting.Load() > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.room.Broadcast()
	}
}

// now is the time since the server was made, never 0.
func (s *Server) now() time.Duration { return max(time.Since(s.start), 1) }

// Unbind ends the bound of the connections: those that wait for room are served. It is for a drain, which is to know all of them.
func (s *Server) Unbind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unbound = true
	s.room.Broadcast()
}

// Open returns how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// all returns the connections that there are.
func (s *Server) all() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// CloseIdle closes the connections on which nothing has come for 100 ms, or not the rest of a head for 5 s: an agent that was just
// answered, or has just connected, may be about to send, and is answered rather than cut off. No byte that was read is lost.
func (s *Server) CloseIdle() {
	now := s.now()
	for _, c := range s.all() {
		c.closeIdle(now)
	}
}

// cancelAll cancels the requests under way. It is called when Base has ended.
func (s *Server) cancelAll() {
	for _, c := range s.all() {
		c.mu.Lock()
		q := c.current
		c.mu.Unlock()
		if q != nil {
			q.life.cancel(context.Canceled)
		}
	}
}

// Close closes all connections, and cancels what is under way. It does not wait for handlers.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.room.Broadcast()
	s.mu.Unlock()
	if !first {
		return nil
	}
	s.unwatch()
	for _, c := range s.all() {
		c.close()
	}
	s.workers.close()
	if s.watch != nil {
		s.watch.close()
	}
	err := s.net.Close()
	s.began.Do(func() { close(s.netEnded) })
	<-s.netEnded
	return err
}

// dateField is a Date field, and the second of which it is.
type dateField struct {
	second int64
	text   string
}

// dateNow returns a line with the time. It is made once a second.
func (s *Server) dateNow() string {
	now := time.Now()
	d := s.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateField{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
		s.date.Store(d)
	}
	return d.text
}
