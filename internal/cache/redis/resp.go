package redis

import (
	"bytes"
	"fmt"
	"strconv"
)

// Limits of an answer in RESP, the protocol of Redis, version 2.
const (
	maxLine  = 16 << 10 // bytes of a line
	maxList  = 64 << 10 // elements of a list
	maxDepth = 8        // lists in lists
)

// respCheck follows a stream of RESP and finds where it breaks its grammar or the limits. It keeps no payload.
type respCheck struct {
	maxBulk int // bytes of a string

	err   error
	skip  int           // bytes of a bulk string, with its line end, that are still to come
	kind  byte          // of the line that has begun; 0 between two
	line  int           // bytes of it so far
	head  [24]byte      // the first of them
	open  [maxDepth]int // elements that each open list still lacks
	depth int           // of open
}

// feed takes the next bytes. Its error is for good.
func (r *respCheck) feed(b []byte) error {
	for len(b) > 0 && r.err == nil {
		switch {
		case r.skip > 0:
			n := min(r.skip, len(b))
			b, r.skip = b[n:], r.skip-n
			if r.skip == 0 {
				r.element()
			}
		case r.kind == 0:
			r.kind, b = b[0], b[1:]
			if bytes.IndexByte([]byte("+-:$*"), r.kind) < 0 {
				r.fail("a line begins with %q", r.kind)
			}
		default:
			b = r.text(b)
		}
	}
	return r.err
}

func (r *respCheck) fail(format string, args ...any) {
	r.err = fmt.Errorf("%w: %s", errRubbish, fmt.Sprintf(format, args...))
}

// text takes bytes of a line up to its end, and returns the rest.
func (r *respCheck) text(b []byte) []byte {
	end := bytes.IndexByte(b, '\n')
	part := b
	if end >= 0 {
		part = b[:end]
	}
	if r.line < len(r.head) {
		copy(r.head[r.line:], part)
	}
	if r.line += len(part); r.line > maxLine {
		r.fail("a line of more than %d bytes", maxLine)
		return nil
	}
	if end < 0 {
		return nil
	}
	r.ended()
	r.kind, r.line = 0, 0
	return b[end+1:]
}

// ended takes a whole line.
func (r *respCheck) ended() {
	if r.kind != '$' && r.kind != '*' {
		r.element()
		return
	}
	n, err := strconv.Atoi(string(bytes.TrimSuffix(r.head[:min(r.line, len(r.head))], []byte("\r"))))
	switch {
	case err != nil || r.line > len(r.head) || n < -1:
		r.fail("a length that is none")
	case n == -1:
		r.element()
	case r.kind == '$' && n > r.maxBulk:
		r.fail("a string of %d bytes", n)
	case r.kind == '$':
		r.skip = n + 2
	case n > maxList:
		r.fail("a list of %d elements", n)
	case n == 0:
		r.element()
	case r.depth == maxDepth:
		r.fail("lists in lists, more than %d deep", maxDepth)
	default:
		r.open[r.depth] = n
		r.depth++
	}
}

// element closes the lists that are whole with the element that just ended.
func (r *respCheck) element() {
	for r.depth > 0 {
		if r.open[r.depth-1]--; r.open[r.depth-1] > 0 {
			return
		}
		r.depth--
	}
}
