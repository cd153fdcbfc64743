package mcp

import "bytes"

// cutEvent is what is known of an event of which pieces have been handed out. The zero cutEvent: there were none.
type cutEvent struct {
	begun   bool // there were some
	inLine  bool // what is held starts within a line, which is longer than a piece
	comment bool // that line is a comment that stands alone: its end is the event's
	id      []byte
	hasID   bool
}

// Pieces has the reader hand out an event that is incomplete with limit bytes or more in pieces: events with Partial and
// nothing but Raw, each as soon as more bytes are there, and at the end one with Last, which has the rest of Raw and the
// event's id. It is called before the first Next. Then no event is too large, and the reader holds little more than limit
// bytes, whatever comes. Events that are complete earlier are as without it. An id of limit bytes or more is handed out as
// an empty one.
//
// Where the stream ends or breaks within such an event, the last of its bytes come as one more piece, and nothing has
// Last. It is for streams that pass as they come: what must be changed on its way cannot be found in it.
func (r *EventReader) Pieces(limit int) {
	r.piece = max(limit, len("id:")) // so that an id that is too long is known as one
}

// pieceSize returns how many of the bytes held, of an incomplete event, go out as a piece: lines as far as they are complete,
// so that ids are found, and all if that is a line too long to hold. 0: wait for more.
func (r *EventReader) pieceSize() int {
	held := len(r.w.held())
	switch {
	case r.piece == 0 || !r.begun || !r.cut.begun && held < r.piece:
		return 0
	case r.block.line > 0:
		return r.block.line
	case r.cut.inLine || held >= r.piece:
		return held
	}
	return 0
}

// handOut hands out the first n bytes held, of an event that is not complete, and keeps what is known of it.
func (r *EventReader) handOut(n int) Event {
	held, b := r.w.held(), r.block
	if b.id.Present() {
		r.cut.setID(b.id.Of(held))
	}
	if b.line < n && !r.cut.inLine {
		line := held[b.line:]
		r.cut.inLine, r.cut.comment = true, line[0] == ':' && !b.fields
		if bytes.HasPrefix(line, []byte("id:")) {
			r.cut.setID(nil)
		}
	}
	r.cut.begun, r.w.keep = true, true
	r.drop(n)
	r.block.fields = b.fields
	return Event{Raw: held[:n:n], Partial: true}
}

func (c *cutEvent) setID(id []byte) { c.id, c.hasID = append([]byte{}, id...), true }

// last hands out the end of an event of which pieces have been handed out: raw, in which b was found.
func (r *EventReader) last(raw []byte, b *block) Event {
	if b.id.Present() {
		r.cut.setID(b.id.Of(raw))
	}
	e := Event{Raw: raw, ID: r.cut.id, HasID: r.cut.hasID, Last: true}
	r.cut, r.w.keep = cutEvent{}, false
	return e
}
