package http1

import (
	"context"
	"io"
	"net"
	"strings"
	"time"

	"fluentd-perf/internal/http1/header"
)

// Inbound is a request that a Server has received, and the way to answer it: Begin, Write and Flush. It is used by one goroutine at
// a time, but for SetWriteDeadline and its context, and not after the handler has returned.
type Inbound struct {
	Method string // POST, GET or DELETE
	Target string // path and query, as received
	Path   string // has nothing that is escaped
	Query  string // without the question mark
	Host   string
	Header header.List // as received, all of it
	Length int64       // of the body
	Close  bool        // the agent wants the connection closed after the answer

	conn    *serverConn
	life    life
	left    int64         // of the body
	by      time.Duration // until when it has to come, as a time of the server; 0: no bound
	byIsSet bool          // else it is reckoned from the first read that waits
	readErr error         // sticky
	whole   bool          // it was received whole; guarded by conn.mu
	broken  bool          // the answer is not whole: the connection is closed at once

	reply reply

	fields [16]header.Field // memory for Header: most heads have fewer
}

// Replay says why a connection was left to net/http. It is a label of metrics.
type Replay string

// What is not common, or not clear.
const (
	ReplayMethod     Replay = "method"     // another than POST, GET and DELETE, or no HTTP at all
	ReplayTarget     Replay = "target"     // it has an escaped path, a host, or bytes that are not plain
	ReplayPath       Replay = "path"       // one that is not the Server's
	ReplayVersion    Replay = "version"    // another than HTTP/1.1
	ReplaySyntax     Replay = "syntax"     // a line that ends with LF alone, is folded, or is no field
	ReplayHost       Replay = "host"       // none, several, or an odd one
	ReplayLength     Replay = "length"     // several, or one that is no number
	ReplayCoding     Replay = "coding"     // a body with a transfer coding, or trailers
	ReplayExpect     Replay = "expect"     // Expect: 100-continue, for one
	ReplayUpgrade    Replay = "upgrade"    // to another protocol
	ReplayConnection Replay = "connection" // it says more than close or keep-alive
	ReplayWatch      Replay = "watch"      // it could not be registered with the kernel
)

// Replays are all reasons.
var Replays = []Replay{
	ReplayMethod, ReplayTarget, ReplayPath, ReplayVersion, ReplaySyntax, ReplayHost, ReplayLength, ReplayCoding, ReplayExpect,
	ReplayUpgrade, ReplayConnection, ReplayWatch,
}

// methods are those that the Server takes, each with the start of its target.
var methods = [...]string{"POST /", "GET /", "DELETE /"}

// startsPlainly reports whether data begins as a request that may be taken, as far as it has come.
func startsPlainly(data []byte) bool {
	for _, m := range methods {
		if n := min(len(data), len(m)); string(data[:n]) == m[:n] {
			return true
		}
	}
	return false
}

// parse reads a whole head, its blank line included, of which it keeps parts. What one would have to guess about is why the
// connection is replayed. An error: it is over its bounds.
func (q *Inbound) parse(text string, takes func(string) bool) (Replay, error) {
	line, rest, _ := strings.Cut(text, "\r\n")
	if why := q.parseLine(line); why != "" {
		return why, nil
	}
	if takes != nil && !takes(q.Path) {
		return ReplayPath, nil
	}
	var f inboundFraming
	q.Header = q.fields[:0]
	for {
		line, rest, _ = strings.Cut(rest, "\r\n")
		if line == "" {
			return q.frame(&f), nil
		}
		name, value, err := parseField(line)
		if err != nil {
			return ReplaySyntax, nil
		}
		if len(q.Header) == maxFields {
			return "", errManyFields
		}
		q.Header = append(q.Header, header.Field{Name: name, Value: value})
		f.note(name, value)
	}
}

// errManyFields is of a head over its bound.
var errManyFields = malformed("a head of more than 200 fields")

// parseLine reads the request line.
func (q *Inbound) parseLine(line string) Replay {
	method, rest, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(rest, " ")
	q.Method, q.Target = method, target
	path, query, asked := strings.Cut(target, "?")
	q.Path, q.Query = path, query
	switch {
	case method != "POST" && method != "GET" && method != "DELETE":
		return ReplayMethod
	case version != "HTTP/1.1":
		return ReplayVersion
	case !plainPath(path), asked && (query == "" || !plainQuery(query)):
		return ReplayTarget
	}
	return ""
}

// plainPath reports whether a path has nothing in it that anybody reads in another way than by its bytes.
func plainPath(s string) bool {
	for i := range len(s) {
		if !plain[s[i]] {
			return false
		}
	}
	return len(s) > 0 && s[0] == '/' && !strings.HasPrefix(s, "//")
}

// plainQuery reports whether a query is of visible ASCII, without a fragment.
func plainQuery(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' {
			return false
		}
	}
	return true
}

// plainHost reports whether a Host is a name or an address, with or without a port.
func plainHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; !plain[c] && c != ':' && c != '[' && c != ']' || c == '/' {
			return false
		}
	}
	return s != ""
}

// plain has the bytes of paths that are neither escaped nor mean anything: RFC 3986's unreserved ones, and the slash.
var plain = func() (is [256]bool) {
	for c := range 128 {
		is[c] = '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
	}
	for _, c := range []byte("-._~/") {
		is[c] = true
	}
	return is
}()

// inboundFraming is what a request's head says of its body, and of what becomes of the connection.
type inboundFraming struct {
	framing
	hosts    int
	host     string
	options  bool // Connection says something else than close or keep-alive
	expects  bool
	upgrades bool
	trailers bool
}

// note looks at one field.
func (f *inboundFraming) note(name, value string) {
	switch len(name) {
	case len("Host"):
		if header.EqualNames(name, "Host") {
			f.hosts++
			f.host = value
		}
	case len("Expect"):
		f.expects = f.expects || header.EqualNames(name, "Expect")
	case len("Upgrade"):
		f.upgrades = f.upgrades || header.EqualNames(name, "Upgrade")
		f.trailers = f.trailers || header.EqualNames(name, "Trailer")
	case len("Connection"):
		if header.EqualNames(name, "Connection") {
			f.options = f.options || !header.EqualNames(value, "close") && !header.EqualNames(value, "keep-alive")
		}
		f.framing.note(name, value)
	case len("Content-Length"), len("Transfer-Encoding"):
		f.framing.note(name, value)
	}
}

// frame says how long the body is, and why the request is not taken.
func (q *Inbound) frame(f *inboundFraming) Replay {
	length, ok := decimal(f.length)
	switch {
	case f.hosts != 1 || !plainHost(f.host):
		return ReplayHost
	case f.lengths > 1 || f.lengths == 1 && !ok:
		return ReplayLength
	case f.codings > 0 || f.trailers:
		return ReplayCoding
	case f.expects:
		return ReplayExpect
	case f.upgrades:
		return ReplayUpgrade
	case f.options || f.closes && f.keeps:
		return ReplayConnection
	}
	q.Host, q.Length, q.Close = f.host, length, f.closes
	q.left = length
	return ""
}

// RemoteAddr is the address of the agent.
func (q *Inbound) RemoteAddr() string { return q.conn.remoteAddr() }

// Context ends when the agent leaves, when the handler has returned, or with ServerOptions.Base, whose cause it has then. Its values
// are Base's, the connection (ConnOf), and net/http's LocalAddrContextKey.
func (q *Inbound) Context() context.Context { return &q.life }

// ConnOf returns the connection by which a request came, as its listener gave it; nil of any other context.
func ConnOf(ctx context.Context) net.Conn {
	if c, ok := ctx.Value(connKey{}).(*serverConn); ok {
		return c.nc
	}
	return nil
}

type connKey struct{}

// Read reads of the body. With its last bytes it returns io.EOF.
func (q *Inbound) Read(p []byte) (int, error) {
	c := q.conn
	switch {
	case q.readErr != nil:
		return 0, q.readErr
	case q.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	p = p[:min(int64(len(p)), q.left)]
	var n int
	var err error
	if len(c.data) > 0 {
		n = copy(p, c.data)
		c.data = c.data[n:]
		c.freeEmpty()
	} else {
		n, err = c.read(p, q.deadline())
	}
	if q.left -= int64(n); q.left == 0 {
		q.received()
		return n, io.EOF
	}
	q.readErr = eofInside(err)
	return n, q.readErr
}

// deadline is until when the body has to come.
func (q *Inbound) deadline() time.Duration {
	if !q.byIsSet {
		q.by, q.byIsSet = q.conn.server.now()+q.conn.server.bodyTime(q.left), true
	}
	return q.by
}

// bodyTime is how long a body of a length may take.
func (s *Server) bodyTime(length int64) time.Duration {
	return s.o.BodyTimeout + time.Duration(length/bodyPace)*time.Second
}

// SetReadDeadline bounds the reads of the body, in place of ServerOptions.BodyTimeout; zero: they have no bound.
func (q *Inbound) SetReadDeadline(t time.Time) {
	q.by, q.byIsSet = 0, true
	if !t.IsZero() {
		q.by = max(t.Sub(q.conn.server.start), 1)
	}
}

// received notes that the request has come whole: from now on nobody reads, and an agent that leaves, or has left, cancels it.
func (q *Inbound) received() {
	c := q.conn
	c.freeEmpty()
	c.shrink() // what has come behind it waits for as long as the handler takes
	c.mu.Lock()
	q.whole = true
	gone := c.gone
	c.mu.Unlock()
	if gone {
		q.life.cancel(context.Canceled)
	}
}
