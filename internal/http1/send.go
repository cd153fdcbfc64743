package http1

import (
	"syscall"
	"time"
)

// sending is a request on its way out.
type sending struct {
	buf    *buffer // memory of first; nil: first has memory of its own, or none
	first  []byte  // the head, and as much of the body as fits behind it: what is written in one write
	rest   []byte  // of the body
	writer *writer // writes what the socket does not take at once; nil: nothing of that kind
	broken error   // it could not be written whole
}

// newSending joins head and body in the buffer, as far as there is room.
func newSending(buf *buffer, head, body []byte) sending {
	n := 0
	if room := cap(head) - len(head); room > 0 {
		n = min(room, len(body))
		head = append(head, body[:n]...)
	}
	return sending{buf: buf, first: head, rest: body[n:]}
}

// pending reports whether something is not written yet, and no writer has it.
func (s *sending) pending() bool { return len(s.first)+len(s.rest) > 0 && s.writer == nil }

// next is what to write next.
func (s *sending) next() []byte {
	if len(s.first) > 0 {
		return s.first
	}
	return s.rest
}

// wrote notes that n bytes of next were written.
func (s *sending) wrote(n int) {
	if len(s.first) == 0 {
		s.rest = s.rest[n:]
		return
	}
	if s.first = s.first[n:]; len(s.first) == 0 {
		s.free()
	}
}

// drop forgets what is not written.
func (s *sending) drop() {
	s.rest = nil
	s.free()
}

func (s *sending) free() {
	s.first = nil
	if s.buf != nil {
		putBuffer(s.buf)
		s.buf = nil
	}
}

// writeNow writes what the socket takes without waiting. done: all is written, or nothing more can be.
func (s *sending) writeNow(fd int) (n int, done bool) {
	for len(s.first)+len(s.rest) > 0 {
		m, err := syscall.Write(fd, s.next())
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return n, false
		case err != nil:
			s.broken = err
			if n > 0 { // else it goes out on another connection
				s.drop()
			}
			return n, true
		default:
			n += m
			s.wrote(m)
		}
	}
	return n, true
}

// writer is the goroutine that writes a body while the answer is awaited: servers may answer before they have read it all.
type writer struct {
	done chan struct{} // closed when it has ended, and no longer reads the request's memory
	err  error
}

// start has a goroutine write the rest.
func (s *sending) start(c *conn, written func()) {
	s.writer = &writer{done: make(chan struct{})}
	go func() {
		defer close(s.writer.done)
		for _, part := range [...][]byte{s.first, s.rest} {
			if _, s.writer.err = c.rw.Write(part); s.writer.err != nil {
				return
			}
		}
		written()
	}()
}

// lastWrite is how long an answer that has come whole waits for the rest of its request to be written: a server that has read
// it all may be faster than the scheduler here.
const lastWrite = 50 * time.Millisecond

// finished reports whether the whole request was written.
func (s *sending) finished(c *conn) bool {
	if s.writer == nil {
		return s.broken == nil
	}
	if c.tcp.SetWriteDeadline(time.Now().Add(lastWrite)) != nil {
		return false
	}
	<-s.writer.done
	return s.writer.err == nil && c.tcp.SetWriteDeadline(time.Time{}) == nil
}

// wait waits for the writer's end, when the connection has been closed, and frees the memory.
func (s *sending) wait() {
	if s.writer != nil {
		<-s.writer.done
	}
	s.drop()
}
