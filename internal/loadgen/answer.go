package loadgen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Bounds of what is read.
const (
	readBuffer = 16 << 10 // the longest line of a head or of chunked framing
	maxBody    = 64 << 20
)

var errMalformed = errors.New("not an answer of HTTP/1.1")

// answer is what came back for one request.
type answer struct {
	status    int
	cache     cacheOutcome
	events    bool   // the body is a stream of events
	told      int    // notifications before the answer, where they are lines
	closes    bool   // the server closes the connection after it
	sessionID string // of Mcp-Session-Id, only where it was wanted
	body      []byte // valid until the next one is read
}

// cacheOutcome is what this daemon's member of Cache-Status says.
type cacheOutcome uint8

const (
	cacheNone cacheOutcome = iota // there is none
	cacheHit
	cacheCollapsed
	cacheMiss
	cacheOutcomes
)

// answerReader reads answers of one connection, one after the other.
type answerReader struct {
	br  *bufio.Reader
	buf []byte // for bodies that are larger than br, or come in pieces
}

// framing is how long a body is.
type framing struct {
	length  int // -1: not said
	chunked bool
}

// read reads one answer whole, whatever its status.
func (r *answerReader) read(a *answer) error {
	for {
		f, err := r.head(a)
		if err != nil {
			return err
		}
		if a.status >= 200 {
			return r.bodyOf(a, f)
		}
	}
}

// head reads the status line and the fields.
func (r *answerReader) head(a *answer) (framing, error) {
	f := framing{length: -1}
	line, err := r.br.ReadSlice('\n')
	if err != nil {
		return f, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) || len(line) < len("HTTP/1.1 200\n") {
		return f, fmt.Errorf("%w: %.40q", errMalformed, line)
	}
	*a = answer{body: a.body[:0]}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return f, fmt.Errorf("%w: %.40q", errMalformed, line)
	}
	for {
		line, err := r.br.ReadSlice('\n')
		if err != nil {
			return f, err
		}
		if len(line) <= 2 {
			return f, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if err := a.field(&f, name, bytes.TrimSpace(value)); err != nil {
			return f, err
		}
	}
}

// field takes from a field what matters here. Names are told by their length first: most are not looked at.
func (a *answer) field(f *framing, name, value []byte) (err error) {
	is := func(other string) bool { return len(name) == len(other) && bytes.EqualFold(name, []byte(other)) }
	switch {
	case is("Content-Length"):
		if f.length, err = strconv.Atoi(string(value)); err != nil || f.length < 0 {
			return fmt.Errorf("%w: Content-Length %.20q", errMalformed, value)
		}
	case is("Transfer-Encoding"):
		f.chunked = bytes.EqualFold(value, []byte("chunked"))
	case is("Content-Type"):
		a.events = bytes.HasPrefix(value, []byte("text/event-stream"))
	case is("Cache-Status"):
		a.cache = cacheOutcomeOf(value)
	case is("Connection"):
		a.closes = bytes.EqualFold(value, []byte("close"))
	case is("Mcp-Session-Id"):
		a.sessionID = string(value)
	}
	return nil
}

// cacheOutcomeOf reads the last member, which is that of the hop next to the client (RFC 9211, section 2).
func cacheOutcomeOf(value []byte) cacheOutcome {
	member := value[bytes.LastIndexByte(value, ',')+1:]
	switch {
	case !bytes.HasPrefix(bytes.TrimSpace(member), []byte("fluentd-perf")):
		return cacheNone
	case bytes.Contains(member, []byte("; hit")):
		return cacheHit
	case bytes.Contains(member, []byte("collapsed")):
		return cacheCollapsed
	}
	return cacheMiss
}

// bodyOf reads the body into a.body.
func (r *answerReader) bodyOf(a *answer, f framing) error {
	switch {
	case a.status == 204 || a.status == 304:
		return nil
	case f.chunked:
		return r.chunks(a)
	case f.length < 0:
		a.closes = true
		return r.untilClose(a)
	case f.length > maxBody:
		return fmt.Errorf("%w: a body of %d bytes", errMalformed, f.length)
	case f.length <= readBuffer: // where it lies
		body, err := r.br.Peek(f.length)
		if err != nil {
			return noEOF(err)
		}
		a.body = body
		_, err = r.br.Discard(f.length) // it stays there until the next read
		return err
	}
	r.buf = sized(r.buf, f.length)
	a.body = r.buf
	_, err := io.ReadFull(r.br, a.body)
	return noEOF(err)
}

func (r *answerReader) untilClose(a *answer) (err error) {
	a.body, err = io.ReadAll(io.LimitReader(r.br, maxBody))
	return err
}

// chunks reads a chunked body with its trailer.
func (r *answerReader) chunks(a *answer) error {
	r.buf = r.buf[:0]
	for {
		line, err := r.br.ReadSlice('\n')
		if err != nil {
			return noEOF(err)
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 31)
		if err != nil || len(r.buf)+int(n) > maxBody {
			return fmt.Errorf("%w: a chunk %.20q", errMalformed, line)
		}
		if n == 0 {
			a.body = r.buf
			return r.trailer()
		}
		at := len(r.buf)
		r.buf = sized(r.buf, at+int(n))
		if _, err := io.ReadFull(r.br, r.buf[at:]); err != nil {
			return noEOF(err)
		}
		if _, err := r.br.Discard(len("\r\n")); err != nil {
			return noEOF(err)
		}
	}
}

func (r *answerReader) trailer() error {
	for {
		line, err := r.br.ReadSlice('\n')
		if err != nil {
			return noEOF(err)
		}
		if len(line) <= 2 {
			return nil
		}
	}
}

// sized returns b with a length, its first bytes kept.
func sized(b []byte, length int) []byte {
	if length <= cap(b) {
		return b[:length]
	}
	larger := make([]byte, length, 2*length)
	copy(larger, b)
	return larger
}

// noEOF makes an end in the middle of an answer an error that says so.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
