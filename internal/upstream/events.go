package upstream

import (
	"bytes"
	"errors"
	"io"
	"time"

	"fluentd-perf/internal/mcp"
)

// answerEvents makes the result a stream of events.
func (x *exchange) answerEvents(res *mcp.Result) {
	x.kind = eventStream
	e := &events{x: x, scans: x.answersRequest()}
	e.r = mcp.NewEventReader(x, x.u.buffers, int(x.u.opts.EventLimit))
	if x.passesPieces() {
		e.r.Pieces(heldSize)
	}
	res.Events = e
	res.Timing = x.timing(x.watch.now())
}

// answersRequest reports whether a stream on this lane is to carry an answer.
func (x *exchange) answersRequest() bool {
	switch x.call.Lane {
	case mcp.LaneRequest, mcp.LaneOpaque, mcp.LaneBatch, mcp.LaneListen:
		return true
	}
	return false
}

// passesPieces reports whether an event that is too large to hold passes in pieces: nobody shares the stream of the call, or
// takes it apart.
func (x *exchange) passesPieces() bool {
	return (x.call.Lane == mcp.LaneRequest || x.call.Lane == mcp.LaneOpaque) && !x.holds()
}

// events is the stream of an answer. On streams that answer requests each message is scanned, and none is refused.
type events struct {
	x     *exchange
	r     *mcp.EventReader
	tail  *mcp.EventReader // the server's, once its last event was completed
	scans bool
	begun bool          // an event was handed out
	open  bool          // the event that was handed out last was a piece
	left  time.Duration // when that was
	err   error         // the stream has ended so
}

// Next returns the next event. An event over the limit ends the stream with bad_answer, a break with broke_off.
func (e *events) Next() (mcp.Event, error) {
	if e.err != nil {
		return mcp.Event{}, e.err
	}
	e.bindNext()
	ev, err := e.r.Next()
	if err == io.EOF && e.scans {
		ev, err = e.last()
	}
	if err != nil {
		e.err = e.ended(err)
		return mcp.Event{}, e.err
	}
	if !e.begun && e.r.Mark() != "" { // it passes with the first event
		ev.Raw = append([]byte(e.r.Mark()), ev.Raw...)
	}
	e.begun = true
	if e.open = ev.Partial; e.open {
		e.left = e.x.watch.now()
	}
	switch {
	case ev.Last: // what is too large to look into counts as the answer
		ev.Answer = true
		e.x.noteAnswer(&ev)
	case e.scans && isMessage(&ev):
		e.scan(&ev)
	}
	return ev, nil
}

// last returns the last event of a stream whose server left out the blank line behind it, completed, if it is a message: some
// clients take it as it is, others wait for ever. It returns io.EOF where there is none.
func (e *events) last() (mcp.Event, error) {
	rest := e.r.Rest()
	if len(rest) == 0 || e.open {
		return mcp.Event{}, io.EOF
	}
	whole := append(bytes.Clone(bytes.TrimRight(rest, "\r\n")), "\n\n"...)
	e.tail = mcp.NewEventReader(bytes.NewReader(whole), nil, len(whole))
	ev, err := e.tail.Next()
	var m mcp.Message
	if err != nil || !isMessage(&ev) || mcp.Scan(ev.Data, &m) != nil {
		return mcp.Event{}, io.EOF
	}
	e.r, e.tail = e.tail, e.r // its end is the stream's
	return ev, nil
}

// bindNext begins the bound of the next event, or goes on with that of one of which a piece was handed out: the time since was
// the reader's.
func (e *events) bindNext() {
	if !e.open {
		e.x.nextEvent()
		return
	}
	if e.x.bound != 0 {
		e.x.bound += e.x.watch.now() - e.left
	}
}

// ended lets go of the connection and turns an error into what Next returns.
func (e *events) ended(err error) error {
	switch {
	case err == io.EOF:
		e.x.finish()
		return io.EOF
	case errors.Is(err, mcp.ErrEventTooLarge):
		return e.x.refuse(mcp.ReasonBadAnswer, "the server sent an event over the limit", err)
	}
	return e.x.fail(err)
}

// isMessage reports whether an event carries a message: its data is not empty, as that of a priming event is (2025-11-25,
// basic/transports), and it has no other name.
func isMessage(ev *mcp.Event) bool {
	return len(ev.Data) > 0 && (len(ev.Name) == 0 || string(ev.Name) == "message")
}

// scan looks at a message. A POST has one request: every result and every error is its answer, whatever its id, and so is
// what cannot be read.
func (e *events) scan(ev *mcp.Event) {
	x, m := e.x, &ev.Message
	if mcp.Scan(ev.Data, m) != nil {
		*m = mcp.Message{}
		ev.Answer = true
	}
	switch m.Kind {
	case mcp.KindResult, mcp.KindError:
		ev.Answer = true
		ev.Exact = x.answers(ev.Data, m)
	case mcp.KindBatch:
		ev.Answer = mayAnswer(ev.Data)
	}
	if x.call.Lane == mcp.LaneBatch { // whoever made the array counts its answers
		ev.Answer = false
	}
	x.noteAnswer(ev)
}

// noteAnswer notes that the answer has come, once.
func (x *exchange) noteAnswer(ev *mcp.Event) {
	if ev.Answer && !x.answered {
		x.whole(x.watch.now())
	}
}

// mostElements is how many of an array are looked at.
const mostElements = 1000

// mayAnswer reports whether there may be an answer in an array: servers of 2025-03-26 may put what they send before the
// answer into one (basic/transports).
func mayAnswer(array []byte) bool {
	elements, err := mcp.Elements(nil, array, mostElements)
	if err != nil {
		return true
	}
	for _, at := range elements {
		var m mcp.Message
		if mcp.Scan(at.Of(array), &m) != nil || m.Kind == mcp.KindResult || m.Kind == mcp.KindError {
			return true
		}
	}
	return false
}

// Close ends the stream at once.
func (e *events) Close() error {
	e.x.finish()
	e.r.Close()
	if e.tail != nil {
		e.tail.Close()
	}
	if e.err == nil {
		e.err = io.ErrClosedPipe
	}
	return nil
}
