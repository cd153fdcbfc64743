package http1

import (
	"bytes"
	"strconv"

	"fluentd-perf/internal/http1/header"
)

const (
	maxChunkLine = 1 << 10  // of the line of a chunk's size, with its extensions, or of a trailer; in bytes
	maxSizeHex   = 15       // digits of a size
	maxOverhead  = 16 << 10 // of what is no data, beyond 16 bytes a chunk and twice its data: net/http's rule
	maxTrailers  = 4<<10 - 1
)

// chunks takes the framing of the chunked coding (RFC 9112, section 7.1) off bytes that come in any pieces. It works in place,
// so that a body needs no memory but its reader's, and keeps only the line in the middle of which a piece has ended.
type chunks struct {
	state    chunkState
	line     []byte // so far, where it has begun in an earlier piece
	left     int64  // bytes of the chunk that have not come
	overhead int64  // what was no data, beyond what is fair
	trailers int    // bytes
}

// chunkState is what comes next.
type chunkState uint8

const (
	chunkSize     chunkState = iota // a line
	chunkData                       // left bytes
	chunkEnd                        // an empty line
	chunkTrailers                   // lines to an empty one
	chunksEnded                     // nothing
)

// decode moves the data in b to its start and returns how much it is, and how many bytes of b belong to the body: fewer than
// all of them only where it has ended.
func (c *chunks) decode(b []byte) (data, used int, err error) {
	for used < len(b) && c.state != chunksEnded && err == nil {
		if c.state == chunkData {
			n := int(min(c.left, int64(len(b)-used)))
			data += copy(b[data:], b[used:used+n])
			used += n
			if c.left -= int64(n); c.left == 0 {
				c.state = chunkEnd
			}
			continue
		}
		var line []byte
		var n int
		if line, n, err = c.takeLine(b[used:]); line != nil {
			err = c.endLine(line)
		}
		used += n
	}
	return data, used, err
}

// takeLine takes n bytes of b for a line, and returns that without its CRLF, nil where it is not whole yet.
func (c *chunks) takeLine(b []byte) (line []byte, n int, err error) {
	end := bytes.IndexByte(b, '\n')
	if n = end + 1; end < 0 {
		n = len(b)
	}
	if len(c.line)+n > maxChunkLine {
		return nil, n, malformed("a line between chunks is too long")
	}
	line = b[:n]
	if end < 0 || len(c.line) > 0 {
		c.line = append(c.line, line...)
		line = c.line
	}
	if end < 0 {
		return nil, n, nil
	}
	c.line = c.line[:0]
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, n, malformed("a line between chunks that ends with LF alone")
	}
	return line, n, nil
}

// endLine takes a whole line.
func (c *chunks) endLine(line []byte) error {
	switch {
	case c.state == chunkSize:
		return c.size(line)
	case c.state == chunkEnd && len(line) == 0:
		c.state = chunkSize
	case c.state == chunkEnd:
		return malformed("a chunk is longer than its size")
	case len(line) == 0:
		c.state = chunksEnded
	default:
		return c.trailer(line)
	}
	return nil
}

// size takes the line of a size. Some servers fill it up with blanks, which net/http takes too.
func (c *chunks) size(line []byte) error {
	length := int64(len(line)) + 4 // with its end, and that of the data
	digits, extension, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte(";"))
	size, err := strconv.ParseInt(string(digits), 16, 62)
	if err != nil || digits[0] == '+' || digits[0] == '-' || len(digits) > maxSizeHex || !header.ValidValue(string(extension)) {
		return malformed("the size of a chunk")
	}
	if c.overhead = max(c.overhead+length-16-2*size, 0); c.overhead > maxOverhead {
		return malformed("more framing than data")
	}
	if c.left, c.state = size, chunkData; size == 0 {
		c.state = chunkTrailers
	}
	return nil
}

// trailer checks a trailer as the field of a head, and drops it.
func (c *chunks) trailer(line []byte) error {
	if c.trailers += len(line) + 2; c.trailers+2 > maxTrailers {
		return malformed("the trailers are too long")
	}
	_, _, err := parseField(string(line))
	return err
}
