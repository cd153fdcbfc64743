package http1

import (
	"strings"
	"time"

	"fluentd-perf/internal/http1/header"
)

// framing is what a head says of the length of the body, and of what becomes of the connection.
type framing struct {
	old        bool // HTTP/1.0
	lengths    int  // how many Content-Length there are
	length     string
	codings    int // how many Transfer-Encoding there are
	coding     string
	closes     bool // Connection: close
	keeps      bool // Connection: keep-alive
	badTrailer bool // it names a field that cannot come behind the body
	idle       time.Duration
}

// note looks at one field.
func (f *framing) note(name, value string) {
	switch {
	case header.EqualNames(name, "Content-Length"):
		f.lengths++
		f.length = value
	case header.EqualNames(name, "Transfer-Encoding"):
		f.codings++
		f.coding = value
	case header.EqualNames(name, "Connection"):
		for option := range header.Elements(value) {
			f.closes = f.closes || header.EqualNames(option, "close")
			f.keeps = f.keeps || header.EqualNames(option, "keep-alive")
		}
	case header.EqualNames(name, "Keep-Alive"):
		f.idle = idleHint(value)
	case header.EqualNames(name, "Trailer"):
		f.noteTrailer(value)
	}
}

// noteTrailer looks for fields that RFC 9110, section 6.5.1 forbids in trailers, because the framing depends on them.
func (f *framing) noteTrailer(value string) {
	for name := range header.Elements(value) {
		for _, forbidden := range [...]string{"Transfer-Encoding", "Content-Length", "Trailer"} {
			f.badTrailer = f.badTrailer || header.EqualNames(name, forbidden)
		}
	}
}

// idleHint reads `Keep-Alive: timeout=5`, by which servers (Node's, for one) say how long they keep an idle connection. 0:
// it does not say.
func idleHint(value string) time.Duration {
	for part := range header.Elements(value) {
		name, seconds, _ := strings.Cut(part, "=")
		if n, ok := decimal(seconds); ok && n < 1<<31 && header.EqualNames(name, "timeout") {
			return time.Duration(n) * time.Second
		}
	}
	return 0
}

// bodyKind says where a body ends.
type bodyKind uint8

const (
	bodyNone    bodyKind = iota
	bodyLength           // after so many bytes
	bodyChunked          // with the last chunk
	bodyToClose          // with the connection
)

// frame says where the body of the answer ends (RFC 9112, section 6.3). What one would have to guess is refused: a length
// that is given twice, even twice the same, or that is no number; any transfer coding but chunked, which is compared without
// regard to case (section 7); both at once, and a coding in HTTP/1.0.
func (a *Answer) frame(f *framing) error {
	length, ok := decimal(f.length)
	switch {
	case f.lengths > 1 || f.lengths == 1 && !ok:
		return malformed("Content-Length")
	case f.codings > 1 || f.codings == 1 && (f.old || f.lengths > 0 || !header.EqualNames(f.coding, "chunked")):
		return malformed("Transfer-Encoding")
	case f.codings == 1 && f.badTrailer:
		return malformed("Trailer")
	}
	a.keep = !f.closes && (!f.old || f.keeps)
	a.idle = f.idle
	a.Length, a.left, a.kind = -1, 0, bodyToClose
	switch {
	case a.bodiless():
		a.Length, a.kind = 0, bodyNone
		// A 204 that speaks of a body may be followed by one, which would be taken for the next answer.
		a.keep = a.keep && (a.head || a.Status == 304 || f.codings == 0 && length == 0)
	case f.codings == 1:
		a.kind = bodyChunked
	case f.lengths == 1:
		a.Length, a.left, a.kind = length, length, bodyLength
	}
	if a.kind == bodyLength && length == 0 {
		a.kind = bodyNone
	}
	return nil
}

// bodiless reports whether an answer has no body whatever its head says.
func (a *Answer) bodiless() bool {
	return a.head || a.Status < 200 || a.Status == 204 || a.Status == 304
}
