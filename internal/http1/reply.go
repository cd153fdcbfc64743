package http1

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/http1/header"
)

// reply is the answer to a request on its way out. The head lies before the body in the buffer that is written. Where the length of the
// body is not known, there is a gap between them until something has to leave: an answer that has ended by then gets its length,
// any other is sent in chunks.
type reply struct {
	buf *buffer // of out; nil: there is none, or out has memory of its own
	out []byte  // is not written yet

	begun   bool
	sealed  bool  // the head is complete
	chunked bool  // it is, and there are chunks
	bare    bool  // by its status it has no body
	close   bool  // the connection closes after it
	length  int64 // of the body; -1: not known
	written int64 // of the body
	head    int   // of out, before the gap
	dated   bool

	parts  [3][]byte // of one write
	vector net.Buffers
	err    error // of a write, sticky
}

// gap is room for the longest that may stand between head and body: the coding, and the size of the first chunk.
const gap = len("Transfer-Encoding: chunked\r\n\r\n") + len("00000000\r\n")

// Begin writes the head of the answer, once. Header goes out as it is, but for the fields that say how the connection is used, which
// are the Server's own: of `Connection: close` it takes note. What is no valid field does not leave. length is the body's, -1 where it
// is not known. Nothing leaves before Flush, the end of the handler, or so much of the body that there is no more room.
func (q *Inbound) Begin(status int, h header.List, length int64) {
	q.beginHead(status)
	for _, f := range h {
		q.field(f.Name, f.Value)
	}
	q.endHead(status, length)
}

func (q *Inbound) beginHead(status int) {
	r := &q.reply
	r.begun = true
	r.close = q.Close
	b := append(r.room(), "HTTP/1.1 "...)
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = strconv.AppendInt(append(b, "status code "...), int64(status), 10) // as net/http
	}
	r.out = append(b, "\r\n"...)
}

func (q *Inbound) field(name, value string) {
	r := &q.reply
	switch {
	case !header.Valid(name, value):
		return
	case header.EqualNames(name, "Connection"):
		for option := range header.Elements(value) {
			r.close = r.close || header.EqualNames(option, "close")
		}
		return
	case ofConnection(name):
		return
	case header.EqualNames(name, "Date"):
		r.dated = true
	}
	r.out = appendField(r.out, header.Field{Name: name, Value: value})
}

// endHead completes the head as far as that can be done without the body.
func (q *Inbound) endHead(status int, length int64) {
	r := &q.reply
	if !r.dated {
		r.out = append(r.out, q.conn.server.dateNow()...)
	}
	if r.close {
		r.out = append(r.out, "Connection: close\r\n"...)
	}
	r.bare = status < 200 || status == http.StatusNoContent || status == http.StatusNotModified
	r.length = length
	switch {
	case r.bare:
		r.length, r.sealed = 0, true
	case length >= 0:
		r.out = appendLength(r.out, length)
		r.sealed = true
	default:
		r.head = len(r.out)
		r.out = append(r.out, make([]byte, gap)...)
		return
	}
	r.out = append(r.out, "\r\n"...)
}

func appendLength(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), "\r\n"...)
}

// seal completes a head behind which the body has no known length. whole: what is there is all of it.
func (r *reply) seal(whole bool) {
	var space [gap]byte
	f := space[:0]
	body := len(r.out) - r.head - gap
	switch {
	case whole:
		f = append(appendLength(f, int64(body)), "\r\n"...)
	default:
		f = append(f, "Transfer-Encoding: chunked\r\n\r\n"...)
		if body > 0 {
			f = append(strconv.AppendInt(f, int64(body), 16), "\r\n"...)
			r.out = append(r.out, "\r\n"...)
		}
	}
	free := gap - len(f)
	copy(r.out[free:], r.out[:r.head])
	copy(r.out[free+r.head:], f)
	r.out = r.out[free:]
	r.sealed, r.chunked = true, !whole
}

// room returns what is not written, in a buffer.
func (r *reply) room() []byte {
	if r.out == nil {
		r.buf = getBuffer()
		r.out = r.buf[:0]
	}
	return r.out
}

func (r *reply) left() int { return cap(r.out) - len(r.out) }

// Write writes of the body, after an empty head of status 200 where Begin was not called. More than the length is
// http.ErrContentLength, and http.ErrBodyNotAllowed where the status has no body.
func (q *Inbound) Write(p []byte) (int, error) {
	r := &q.reply
	if !r.begun {
		q.Begin(http.StatusOK, nil, -1)
	}
	switch {
	case r.err != nil:
		return 0, r.err
	case len(p) == 0:
		return 0, nil
	case r.bare:
		return 0, http.ErrBodyNotAllowed
	case r.length >= 0 && r.written+int64(len(p)) > r.length:
		return 0, http.ErrContentLength
	}
	r.written += int64(len(p))
	switch {
	case r.length >= 0:
		q.put(p)
	case !r.sealed && len(p) <= r.left():
		r.out = append(r.out, p...)
	default:
		if !r.sealed {
			r.seal(false)
		}
		r.out = append(strconv.AppendInt(r.room(), int64(len(p)), 16), "\r\n"...)
		q.put(p, lineEnd)
	}
	if r.err != nil {
		return 0, r.err
	}
	return len(p), nil
}

var lineEnd, lastChunk = []byte("\r\n"), []byte("0\r\n\r\n")

// put has parts written, behind what is there: later, if there is room for them, else now, all in one write.
func (q *Inbound) put(parts ...[]byte) {
	r := &q.reply
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if r.out == nil && size <= bufferSize || size <= r.left() {
		b := r.room()
		for _, p := range parts {
			b = append(b, p...)
		}
		r.out = b
		return
	}
	r.parts[0] = r.out
	r.vector = r.parts[:1+copy(r.parts[1:], parts)]
	q.conn.bound()
	if _, err := r.vector.WriteTo(q.conn.sock); err != nil {
		q.fail(err)
	}
	r.parts = [3][]byte{}
	q.free()
}

// Flush writes what is there, the head at least. It returns the error of this or of an earlier write.
func (q *Inbound) Flush() error {
	r := &q.reply
	if !r.begun {
		q.Begin(http.StatusOK, nil, -1)
	}
	if !r.sealed {
		r.seal(false)
	}
	if len(r.out) > 0 && r.err == nil {
		if _, err := q.conn.write(r.out); err != nil {
			q.fail(err)
		}
	}
	q.free()
	return r.err
}

func (q *Inbound) fail(err error) {
	q.reply.err = err
	q.broken = true
}

// free gives the memory of what was to be written back. A stream that waits has none.
func (q *Inbound) free() {
	r := &q.reply
	if r.buf != nil {
		putBuffer(r.buf)
	}
	r.buf, r.out = nil, nil
}

// SetWriteDeadline bounds the writes to come and the one that is under way, in place of a bound of the Server's (one to two minutes for
// each); zero: the Server's. It may be called by any goroutine.
func (q *Inbound) SetWriteDeadline(t time.Time) error { return q.conn.setWriteDeadline(t) }

// end ends the answer, and reports whether the connection may be used again.
func (q *Inbound) end() (keep bool) {
	r := &q.reply
	if !r.begun {
		q.Begin(http.StatusOK, nil, 0)
	}
	switch {
	case !r.sealed:
		r.seal(true)
	case r.chunked:
		q.put(lastChunk)
	case r.written < r.length:
		q.broken = true // the agent must not take it for whole
	}
	err := q.Flush()
	return err == nil && !q.broken && !r.close && q.left <= maxDiscard && q.discard()
}

// maxDiscard is how much of a body that the handler did not read is read, so that the connection can be used again. It is net/http's.
const maxDiscard = 256 << 10

// discard reads what is left of the body.
func (q *Inbound) discard() bool {
	if q.left == 0 {
		return true
	}
	buf := getBuffer()
	defer putBuffer(buf)
	for q.left > 0 {
		if _, err := q.Read(buf[:]); err != nil && q.left > 0 {
			return false
		}
	}
	return true
}
