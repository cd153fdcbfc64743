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

// respCheck follows a stream of RESP and finds where it breaks its grammar or the limits. It keeps no more than a line.
type respCheck struct {
	maxBulk int // bytes of a string

	err   error
	skip  int           // bytes of a bulk string, with its line end, that are still to come
	line  []byte        // what has come of one
	open  [maxDepth]int // elements that each open list still lacks
	depth int           // of open
}

// feed takes the next bytes. Its error is for good.
func (r *respCheck) feed(b []byte) error {
	for len(b) > 0 && r.err == nil {
		if r.skip > 0 {
			n := min(r.skip, len(b))
			b, r.skip = b[n:], r.skip-n
			continue
		}
		part, rest, whole := bytes.Cut(b, []byte("\n"))
		r.line, b = append(r.line, part...), rest
		switch {
		case len(r.line) == 0 || bytes.IndexByte([]byte("+-:$*"), r.line[0]) < 0:
			r.fail("a line begins with %.1q", r.line)
		case len(r.line) > 1+maxLine:
			r.fail("a line of more than %d bytes", maxLine)
		case whole:
			r.element(r.line[0], bytes.TrimSuffix(r.line[1:], []byte("\r")))
			r.line = r.line[:0]
		}
	}
	return r.err
}

func (r *respCheck) fail(format string, args ...any) {
	r.err = fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

// element takes the line that begins an element, and closes the lists that are whole with it.
func (r *respCheck) element(kind byte, text []byte) {
	if kind == '$' || kind == '*' {
		n, err := strconv.Atoi(string(text))
		switch {
		case err != nil || len(text) > 20 || n < -1:
			r.fail("a length that is none")
		case kind == '$' && n > r.maxBulk:
			r.fail("a string of %d bytes", n)
		case kind == '$' && n >= 0:
			r.skip = n + 2
		case n > maxList:
			r.fail("a list of %d elements", n)
		case n > 0 && r.depth == maxDepth:
			r.fail("lists in lists, more than %d deep", maxDepth)
		case n > 0:
			r.open[r.depth] = n
			r.depth++
			return
		}
	}
	for r.depth > 0 {
		if r.open[r.depth-1]--; r.open[r.depth-1] > 0 {
			return
		}
		r.depth--
	}
}
