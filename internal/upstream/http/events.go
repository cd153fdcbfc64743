package http

import (
	"bytes"
	"errors"
	"io"

	"fluentd-perf/internal/mcp"
)

// answerEvents makes the result a stream of events.
func (x *exchange) answerEvents(res *mcp.Result) *mcp.Result {
	x.stream = true
	e := &events{x: x, scans: x.answersRequest()}
	e.r = mcp.NewEventReader(e, x.u.opts.Buffers, int(x.u.opts.EventLimit))
	if x.passesPieces() {
		e.r.Pieces(heldSize)
	}
	res.Events = e
	res.Timing = x.timing(x.watch.now())
	return res
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
	scans bool
	begun bool  // an event was handed out
	open  bool  // the event that was handed out last was a piece
	err   error // the stream has ended so
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
		e.x.paused = e.x.watch.now()
	}
	switch {
	case ev.Last: // what is too large to look into counts as the answer
		ev.Answer = true
	case e.scans && isMessage(&ev):
		e.scan(&ev)
	}
	if ev.Answer && !e.x.answered {
		e.x.whole(e.x.watch.now())
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
	ev, err := mcp.NewEventReader(bytes.NewReader(whole), nil, len(whole)).Next()
	var m mcp.Message
	if err != nil || !isMessage(&ev) || mcp.Scan(ev.Data, &m) != nil {
		return mcp.Event{}, io.EOF
	}
	e.err = e.ended(io.EOF)
	return ev, nil
}

// bindNext begins the bound of the next event, or goes on with that of one of which a piece was handed out: the time since was
// the reader's.
func (e *events) bindNext() {
	if e.open {
		e.x.resume()
	} else {
		e.x.bound, e.x.begun = 0, false // no byte of it has been asked for
	}
}

// Read reads the body for the EventReader. With its first byte the bound of an event begins.
func (e *events) Read(p []byte) (int, error) {
	n, err := e.x.Read(p)
	e.x.begun = e.x.begun || n > 0 && e.x.bound == 0
	return n, err
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
}

// maxElements is how many of an array are looked at.
const maxElements = 1000

// mayAnswer reports whether there may be an answer in an array: servers of 2025-03-26 may put what they send before the
// answer into one (basic/transports).
func mayAnswer(array []byte) bool {
	elements, err := mcp.Elements(nil, array, maxElements)
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
	if e.err == nil {
		e.err = io.ErrClosedPipe
	}
	return nil
}
