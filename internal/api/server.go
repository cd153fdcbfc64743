package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of a request that no option changes.
const (
	maxRequestHeader = 8 << 10          // bytes; net/http adds 4 KiB of its own
	maxRequestBody   = 64 << 10         // bytes
	writeTimeout     = 10 * time.Second // for the answer to be taken, after the call's own time
	closeGrace       = 2 * time.Second  // for calls under way at Close, before their contexts end
	errorFlush       = time.Second      // after that, for their errors to leave
)

// errStopping is the cause of the contexts that Close ends.
var errStopping = errors.New("the daemon is stopping")

// Handler answers one call. params is what the caller sent: valid JSON, or nil where it sent nothing. What it returns is
// written as JSON; an error goes to the caller as its text. It ends soon after its context, which ends with the caller's
// connection, with Options.CallTimeout or with Close.
type Handler func(ctx context.Context, params json.RawMessage) (any, error)

// Options say where the server listens and what it answers.
type Options struct {
	Path  string // of the socket; at most 107 bytes on Linux, 103 on macOS. Its directory is made where it is missing
	Group string // name or number of a group that may use the socket, too; "": only the daemon's own user. Where it cannot, Log says why

	Handlers map[string]Handler // by name of the call; not changed after Open

	ReadTimeout time.Duration            // for a request to arrive; 0: 10 s
	CallTimeout time.Duration            // for a handler; 0: 30 s
	Long        map[string]time.Duration // by name of the call: for handlers that may take longer than CallTimeout
	Connections int                      // served at once, others wait to be accepted; 0: 32

	Log *slog.Logger // nil: silent
}

func (o *Options) complete() {
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 10*time.Second)
	o.CallTimeout = cmp.Or(o.CallTimeout, 30*time.Second)
	o.Connections = cmp.Or(o.Connections, 32)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
}

// Server is the daemon's side of the socket. It is safe for concurrent use.
type Server struct {
	options Options
	socket  *socket
	places  chan struct{} // one for each connection that is served, until the goroutine of net/http has ended
	http    *http.Server
	base    context.Context // of every call
	abandon context.CancelCauseFunc
	close   func() error

	mu      sync.Mutex // guards closing, and every Add to the groups
	closing bool
	loops   sync.WaitGroup // Serve
	calls   sync.WaitGroup // handlers
}

// Open makes the socket: from then on connections wait for Serve. The error is ErrInUse where another daemon has the
// socket, ErrNotSocket where something else has its name, ErrPathTooLong, or says what to mend.
func Open(o Options) (*Server, error) {
	o.complete()
	s := &Server{options: o}
	var err error
	if s.socket, err = openSocket(o.Path, o.Group, o.Log); err != nil {
		return nil, err
	}
	s.base, s.abandon = context.WithCancelCause(context.Background())
	s.places = make(chan struct{}, o.Connections)
	s.http = &http.Server{
		Handler:        s,
		MaxHeaderBytes: maxRequestHeader,
		ReadTimeout:    o.ReadTimeout,
		WriteTimeout:   o.ReadTimeout + o.CallTimeout + writeTimeout,
		BaseContext:    func(net.Listener) context.Context { return s.base },
		ConnState:      s.countConn,
		ErrorLog:       slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	s.http.SetKeepAlivesEnabled(false) // a connection is a call: none sits in a place that another waits for
	s.close = sync.OnceValue(s.shut)
	return s, nil
}

// Path returns the absolute path of the socket.
func (s *Server) Path() string { return s.socket.path }

// Serve answers calls until Close, and then returns nil; any other error is the listener's.
func (s *Server) Serve() error {
	if !s.enter(&s.loops) {
		return nil
	}
	defer s.loops.Done()
	err := s.http.Serve(s.socket.listener)
	if s.isClosing() {
		return nil
	}
	return fmt.Errorf("serving %s: %w", s.Path(), err)
}

// Close removes the socket, if it is still this server's, and takes no more calls. Those under way have 2 s, then their
// contexts end, and after one more second their connections. It returns when all have ended, and the same at every
// further call.
func (s *Server) Close() error { return s.close() }

func (s *Server) shut() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()

	err := s.socket.remove() // while it still listens: so long its inode cannot be another file's
	err = errors.Join(err, s.socket.listener.Close())
	s.finishCalls()
	_ = s.http.Close() // requests that are not whole yet, for whose places Serve may wait; the listener is closed already
	s.loops.Wait()
	_ = s.http.Close() // what it has accepted since
	for range cap(s.places) {
		s.places <- struct{}{}
	}
	return errors.Join(err, s.socket.unlock())
}

// finishCalls waits for the calls under way: they may end by themselves, then by their contexts, and at last those end
// whose answer nobody reads.
func (s *Server) finishCalls() {
	grace := time.AfterFunc(closeGrace, func() { s.abandon(errStopping) })
	last := time.AfterFunc(closeGrace+errorFlush, func() { s.http.Close() })
	s.calls.Wait()
	grace.Stop()
	last.Stop()
	s.abandon(errStopping)
}

// enter counts one more into a group, unless the server closes.
func (s *Server) enter(group *sync.WaitGroup) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	group.Add(1)
	return true
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// countConn bounds the connections, and knows when the goroutines of net/http have ended, for which its own Close does not wait. That
// of Serve tells of each new connection before it accepts the next: the others wait in the kernel's queue, which is bounded, too.
func (s *Server) countConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.places <- struct{}{}
	case http.StateClosed:
		<-s.places
	}
}
