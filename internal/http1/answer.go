package http1

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"fluentd-perf/internal/http1/header"
)

// Answer is one call: the head of its answer, and a reader of the body. It is used by one goroutine at a time.
//
// When Read has returned io.EOF the body was whole by its framing, and the connection is another call's already: Close is of
// no effect then. Status, Header and Length stay as they are, whatever becomes of the body.
type Answer struct {
	Status int
	Header header.List // as received; trailers are not in it
	Length int64       // of the body, -1 where the head does not say

	ctx  context.Context // the call's, of which only the cause of its end is asked
	conn *conn           // nil: it is no longer this call's
	use  uint64          // of conn, see conn.state
	send sending
	sent Sent

	trace Trace
	buf   *buffer // of data; nil: there is none, or data has memory of its own
	data  []byte  // was read and not taken yet

	head   bool // the request was HEAD
	keep   bool // the connection may be used again, as far as the head says
	idle   time.Duration
	kind   bodyKind
	left   int64 // of a body of known length
	chunks chunks
	err    error // how the body has ended

	fields [12]header.Field // memory for Header: most heads have fewer
}

// max1xx is how many interim answers are skipped.
const max1xx = 64

// readHead reads up to the head of the answer that counts.
func (a *Answer) readHead() error {
	for range max1xx + 1 {
		n, err := a.awaitHead()
		if err != nil {
			return err
		}
		a.Header = a.fields[:0]
		if err := a.parse(string(a.data[:n])); err != nil {
			return err
		}
		a.data = a.data[n:]
		switch {
		case a.Status >= 200:
			a.freeEmpty()
			return nil
		case a.Status == 101:
			return malformed("it switches protocols, for which nobody asked")
		}
	}
	return malformed("too many interim answers")
}

// awaitHead reads until there is a whole head in data, and returns its length.
func (a *Answer) awaitHead() (int, error) {
	var end headEnd
	for {
		if err := checkStart(a.data); err != nil {
			return 0, err
		}
		if n, err := end.find(a.data); n > 0 || err != nil {
			return n, err
		}
		if err := a.readMore(); err != nil {
			return 0, err
		}
	}
}

// readMore reads more behind data, into larger memory where there is no room.
func (a *Answer) readMore() error {
	if a.buf == nil && a.data == nil {
		a.buf = getBuffer()
		a.data = a.buf[:0]
	}
	if len(a.data) == cap(a.data) {
		larger := make([]byte, len(a.data), max(2*len(a.data), bufferSize))
		copy(larger, a.data)
		a.free()
		a.data = larger
	}
	n, err := a.conn.read(a.data[len(a.data):cap(a.data)])
	a.data = a.data[:len(a.data)+n]
	if n > 0 {
		a.began()
		return nil
	}
	return eofInside(err)
}

// began notes that the server has begun to answer.
func (a *Answer) began() {
	if a.sent == SentYes {
		return
	}
	a.sent = SentYes
	if a.trace != nil {
		a.trace.Answering()
	}
}

// written notes that the request was written whole.
func (a *Answer) written() {
	if a.trace != nil {
		a.trace.Written()
	}
}

// free gives the memory of data back, and freeEmpty does where nothing is in it.
func (a *Answer) free() {
	if a.buf != nil {
		putBuffer(a.buf)
	}
	a.buf, a.data = nil, nil
}

func (a *Answer) freeEmpty() {
	if len(a.data) == 0 {
		a.free()
	}
}

// SetReadDeadline bounds the reads to come; zero means no bound. A Read that it ends returns an Error of
// os.ErrDeadlineExceeded, and the next one goes on where it left off.
func (a *Answer) SetReadDeadline(t time.Time) {
	if a.conn != nil {
		a.conn.bound(t)
	}
}

// Waits reports whether a Read may have to wait: of the body more is to come than was read with its head.
func (a *Answer) Waits() bool { return a.kind != bodyLength || int64(len(a.data)) < a.left }

// Read reads of the body. With its last bytes it returns io.EOF at once where the framing says that they are the last.
func (a *Answer) Read(p []byte) (int, error) {
	switch {
	case a.err != nil:
		return 0, a.err
	case a.kind == bodyNone:
		return 0, a.finish()
	case len(p) == 0:
		return 0, nil
	}
	n, err := a.readBody(p)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF:
		return n, a.finish()
	case errors.Is(err, os.ErrDeadlineExceeded) && a.ctx.Err() == nil:
		return n, &Error{a.sent, err}
	}
	return n, a.fail(err)
}

// readBody reads by the framing. io.EOF is a whole body.
func (a *Answer) readBody(p []byte) (int, error) {
	switch a.kind {
	case bodyLength:
		n, err := a.take(p[:min(int64(len(p)), a.left)])
		if a.left -= int64(n); a.left == 0 {
			return n, io.EOF
		}
		return n, eofInside(err)
	case bodyChunked:
		return a.readChunks(p)
	}
	return a.take(p)
}

// readChunks reads until there is some data, or the end.
func (a *Answer) readChunks(p []byte) (int, error) {
	for {
		n, err := a.take(p)
		data, used, bad := a.chunks.decode(p[:n])
		switch {
		case bad != nil:
			return data, bad
		case a.chunks.state == chunksEnded:
			a.keep = a.keep && used == n // what is behind the body was asked for by nobody
			return data, io.EOF
		case data > 0 || err != nil:
			return data, eofInside(err)
		}
	}
}

// take hands out what was read with the head, then what comes.
func (a *Answer) take(p []byte) (int, error) {
	if len(a.data) > 0 {
		n := copy(p, a.data)
		a.data = a.data[n:]
		a.freeEmpty()
		return n, nil
	}
	return a.conn.read(p)
}

// eofInside makes an error of an end that comes too early.
func eofInside(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// finish lets go of the connection after a whole answer and returns io.EOF.
func (a *Answer) finish() error {
	c := a.conn
	behind := len(a.data) > 0
	a.free()
	reusable := a.ctx.Err() == nil && a.keep && !behind && a.kind != bodyToClose && a.send.finished(c)
	a.err, a.conn = io.EOF, nil
	if c.release(a.use) && reusable {
		c.hint = a.idle
		c.pool.put(c)
	} else {
		c.pool.discard(c)
	}
	a.send.wait()
	return a.err
}

// fail closes the connection and returns why: the end of the context, else err. What was sent is known by then.
func (a *Answer) fail(err error) error {
	if cause := context.Cause(a.ctx); cause != nil {
		err = cause
	}
	a.err = &Error{a.sent, err}
	a.abort()
	return a.err
}

// abort closes the connection.
func (a *Answer) abort() {
	a.letGo()
	a.send.wait()
	a.free()
}

// letGo closes the connection and keeps what is to be sent.
func (a *Answer) letGo() {
	c := a.conn
	a.conn = nil
	c.release(a.use)
	c.pool.discard(c)
}

// Close ends the body. Where it was not read to its end, the connection is closed.
func (a *Answer) Close() error {
	if a.kind == bodyNone && a.err == nil {
		_ = a.finish() // io.EOF
	}
	if a.conn != nil {
		a.err = io.ErrClosedPipe
		a.abort()
	}
	return nil
}
