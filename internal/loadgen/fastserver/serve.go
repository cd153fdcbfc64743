package fastserver

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// Counts are what a server saw so far.
type Counts struct {
	Posts       int64 `json:"posts"`       // HTTP requests with a body
	Calls       int64 `json:"calls"`       // JSON-RPC requests in them
	Connections int64 `json:"connections"` // that it accepted
	MaxBatch    int64 `json:"maxBatch"`    // calls in the largest array since the counts were read last
	Streams     int64 `json:"streams"`     // GET streams that are open
}

// Listening is what a server that is a process says of itself.
type Listening struct {
	Address string `json:"address"`
}

// CountsPath is where a GET is answered with the Counts as JSON.
const CountsPath = "/counts"

// Server serves one listener.
type Server struct {
	posts, calls, connections, maxBatch, streams, sessions atomic.Int64

	ready  map[string]*ready
	extra  Extra
	ctx    context.Context // ends with the server
	cancel context.CancelFunc

	writing sync.Mutex // held for each line that is written

	mu     sync.Mutex // guards the following
	open   map[net.Conn]bool
	closed bool
	ended  sync.WaitGroup
}

// New returns a server.
func New() *Server { return NewWith(Extra{}) }

// NewWith returns a server that has other tools, too.
func NewWith(extra Extra) *Server {
	s := &Server{ready: make(map[string]*ready), open: make(map[net.Conn]bool), extra: extra}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for i := range tools {
		s.ready[tools[i].name] = newReady(&tools[i])
	}
	return s
}

// Counts returns what it saw so far, and the largest array since it was asked last.
func (s *Server) Counts() Counts {
	return Counts{s.posts.Load(), s.calls.Load(), s.connections.Load(), s.maxBatch.Swap(0), s.streams.Load()}
}

// Serve takes connections until the listener is closed, and returns its error.
func (s *Server) Serve(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		if !s.begin(conn) {
			_ = conn.Close() // the server is closed: nothing was sent on it
			continue
		}
		s.connections.Add(1)
		go func() {
			defer s.ended.Done()
			_ = s.ServeConn(conn) // the end of a connection
			s.mu.Lock()
			delete(s.open, conn)
			s.mu.Unlock()
		}()
	}
}

// begin notes work that Close has to wait for, and its connection, nil for none. False: the server is closed.
func (s *Server) begin(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if conn != nil {
		s.open[conn] = true
	}
	s.ended.Add(1)
	return true
}

// Close ends all connections and what tools do, and returns when that is done. The listener is closed by its owner.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for conn := range s.open {
		_ = conn.Close() // its reader ends by that
	}
	s.mu.Unlock()
	s.cancel()
	s.ended.Wait()
}

// exchange is one connection.
type exchange struct {
	server *Server
	conn   net.Conn
	lines  io.Writer // in place of conn, where messages are lines
	br     *bufio.Reader
	body   []byte
	out    []byte
}

// Bounds of a request.
const (
	readBuffer = 4 << 10 // a line of its head
	maxBody    = 4 << 20
)

// request is what of a request's head matters.
type request struct {
	verb, path string
	length     int
}

// ServeConn answers the requests of one connection until it ends, and closes it.
func (s *Server) ServeConn(conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	x := &exchange{server: s, conn: conn, br: bufio.NewReaderSize(conn, readBuffer)}
	for {
		r, err := x.readHead()
		if err != nil {
			return err
		}
		if r.length > maxBody {
			return fmt.Errorf("a request of %d bytes", r.length)
		}
		if cap(x.body) < r.length {
			x.body = make([]byte, r.length)
		}
		x.body = x.body[:r.length]
		if _, err := io.ReadFull(x.br, x.body); err != nil {
			return err
		}
		if err := x.answer(r); err != nil {
			return err
		}
	}
}

// readHead reads a request's head.
func (x *exchange) readHead() (r request, err error) {
	line, err := x.br.ReadSlice('\n')
	if err != nil {
		return r, err
	}
	verb, rest, _ := bytes.Cut(line, []byte(" "))
	target, _, _ := bytes.Cut(rest, []byte(" "))
	r.verb, r.path = word(verb), word(target)
	for {
		if line, err = x.br.ReadSlice('\n'); err != nil {
			return r, err
		}
		if len(line) <= 2 {
			return r, nil
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if r.length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil || r.length < 0 {
				return r, fmt.Errorf("content-length %q", line)
			}
		}
	}
}

// word returns the usual words without making them anew.
func word(b []byte) string {
	switch string(b) {
	case "POST":
		return "POST"
	case "GET":
		return "GET"
	case "/mcp":
		return "/mcp"
	case Sessions:
		return Sessions
	}
	return string(b)
}
