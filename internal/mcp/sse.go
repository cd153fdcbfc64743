package mcp

import (
	"bytes"
	"errors"
	"io"
	"math"
)

// ErrEventTooLarge says that an event is over the limit of its EventReader. The stream cannot be read on.
var ErrEventTooLarge = errors.New("mcp: event too large")

const byteOrderMark = "\xef\xbb\xbf"

// EventReader splits a byte stream into SSE events as the WHATWG HTML standard says (section 9.2, "Server-sent events"):
// lines end with LF, CR or CRLF, also mixed; a byte order mark at the very start is dropped; unknown fields and ids with
// a NUL are ignored, a retry counts only if it is made of digits. UTF-8 is not checked: the scan of the data does that.
//
// An event is handed out once the line end is there that completes it. If that is a CR, an LF that comes later still
// belongs to it, and comes out by itself. What dispatches nothing comes out as an event with Raw alone: such an LF, a blank
// line, a block without fields that count, and each comment line between two events, with the blank line behind it if that
// has been read as well. So comments, which servers send to keep a stream alive, never wait for the next event. All Raw
// together is the stream byte for byte, without that mark and without an incomplete event at the end.
//
// Events share the read buffer: nothing is copied but data of several lines. Time is linear in the bytes however they are
// cut. The reader waits in a buffer of 1 KiB and needs a larger one only while an event is incomplete. It is used from
// one goroutine.
type EventReader struct {
	w      window
	limit  int
	piece  int // from how many bytes on an incomplete event goes out in pieces; 0: never
	err    error
	begun  bool // a byte order mark at the start has been dealt with
	marked bool // there was one
	cr     bool // the last line ended with a CR that was the last byte held: an LF at the next line's start belongs to it
	block  block
	cut    cutEvent
	joined []byte // data of several lines of the event handed out last
}

// NewEventReader returns an EventReader of r's events, which may be of up to limit bytes each, field names and line ends
// counted. Buffers come from the pool, which may be nil.
func NewEventReader(r io.Reader, pool *BufferPool, limit int) *EventReader {
	return &EventReader{w: window{r: r, pool: pool}, limit: min(limit, math.MaxInt32)}
}

// Next returns the next event, all but Message and Answer filled in; it is valid until Next or Close is called again. At
// the end of the stream Next returns io.EOF, and what is left of an incomplete event is dropped, as the standard says;
// another error of the reader is returned as it is, an event over the limit as ErrEventTooLarge, each again by every
// later Next.
func (r *EventReader) Next() (Event, error) {
	r.free()
	for !r.advance() {
		if r.err != nil {
			return Event{}, r.err
		}
		if n := r.pieceSize(); n > 0 {
			return r.handOut(n), nil
		}
		if err := r.w.fill(); err != nil {
			if rest := len(r.w.held()); r.cut.begun && rest > 0 {
				return r.handOut(rest), nil
			}
			return Event{}, err
		}
	}
	e := r.event()
	e.More = r.advance()
	return e, nil
}

// Mark returns the byte order mark that the stream began with, which is in no event's Raw, or nothing. It is known with the
// first event.
func (r *EventReader) Mark() string {
	if r.marked {
		return byteOrderMark
	}
	return ""
}

// Rest returns what is left of an incomplete event at the end of the stream, valid until Close.
func (r *EventReader) Rest() []byte { return r.w.held() }

// Close gives the buffers back; the event that Next returned last is gone with them. It does not close the stream. More
// calls of it do nothing.
func (r *EventReader) Close() {
	r.free()
	r.block, r.cut = block{}, cutEvent{}
	r.w.close()
}

func (r *EventReader) free() {
	if r.joined != nil {
		r.w.pool.Put(r.joined)
		r.joined = nil
	}
}

// drop uses up the first n bytes held, and keeps what is known of the rest.
func (r *EventReader) drop(n int) {
	r.w.drop(n)
	r.block = block{lf: max(r.block.lf-n, 0)}
}

// event hands out the block, which must be complete, and starts the next one.
func (r *EventReader) event() Event {
	b := &r.block
	raw := r.w.held()[:b.size:b.size]
	if r.cut.begun {
		e := r.last(raw, b)
		r.drop(b.size)
		return e
	}
	e := Event{Raw: raw, Name: b.name.Of(raw), Data: b.data.Of(raw), ID: b.id.Of(raw), HasID: b.id.Present(), Retry: b.retry.Of(raw)}
	if b.lines > 1 {
		r.joined = join(r.w.pool.Get(b.size), raw)
		e.Data = r.joined
	}
	r.drop(b.size)
	return e
}

// advance reads on in what is held, and reports whether that completes the block.
func (r *EventReader) advance() bool {
	b := &r.block
	if b.size > 0 {
		return true
	}
	if r.err != nil || !r.begin() {
		return false
	}
	for held := r.w.held(); b.size == 0; {
		end := b.lineEnd(held)
		if end < 0 {
			r.bound(len(held))
			return false
		}
		next := r.pass(held, end)
		blank, comment := end == b.line, held[b.line] == ':' && !b.fields
		if r.cut.inLine {
			blank, comment = false, r.cut.comment
		}
		if !blank && !comment {
			r.endLine(held, end)
			b.line, b.pos = next, next
			continue
		}
		if !r.bound(end + 1) {
			return false
		}
		if comment && next < len(held) && isLineEnd(held[next]) {
			next = r.pass(held, next)
		}
		b.size = next
	}
	return true
}

// endLine takes in the line that ends before end, or was too long to hold.
func (r *EventReader) endLine(held []byte, end int) {
	if r.cut.inLine {
		r.cut.inLine, r.block.fields = false, true
		return
	}
	r.block.field(held, end)
}

// bound reports whether n bytes are within the limit. What does not count is the LF of a CRLF, or a blank line, behind
// that which completes an event: whether it has been read already is chance.
func (r *EventReader) bound(n int) bool {
	if n > r.limit && r.piece == 0 {
		r.err = ErrEventTooLarge
	}
	return r.err == nil
}

// begin deals with what does not belong to a line: it drops a byte order mark, and passes the LF of a CRLF of which the CR
// came earlier, which is a block of its own if that CR ended one. It returns false if more bytes are needed to know.
func (r *EventReader) begin() bool {
	held := r.w.held()
	if !r.begun {
		if len(held) < len(byteOrderMark) && string(held) == byteOrderMark[:len(held)] {
			return false
		}
		r.begun = true
		if bytes.HasPrefix(held, []byte(byteOrderMark)) {
			r.drop(len(byteOrderMark))
			r.marked = true
		}
	}
	b := &r.block
	if held = r.w.held(); r.cr && b.line < len(held) {
		r.cr = false
		if held[b.line] == '\n' {
			if b.line == 0 && !r.cut.begun {
				b.size = 1
			}
			b.line++
			b.pos = b.line
		}
	}
	return true
}

// pass returns the offset behind the line end at i.
func (r *EventReader) pass(held []byte, i int) int {
	if held[i] == '\r' {
		if i++; i == len(held) {
			r.cr = true
			return i
		}
		if held[i] != '\n' {
			return i
		}
	}
	return i + 1
}
