package upstream

import (
	"errors"
	"io"

	"fluentd-perf/internal/mcp"
)

// answerEvents makes the result a stream of events.
func (x *exchange) answerEvents(res *mcp.Result) {
	x.kind = eventStream
	e := &events{x: x, scans: x.answersRequest()}
	e.r = mcp.NewEventReader(x, x.u.buffers, int(x.u.opts.EventLimit))
	res.Events = e
	res.Timing = x.timing(x.watch.now())
}

// events is the stream of an answer. On streams that answer requests each message is scanned.
type events struct {
	x     *exchange
	r     *mcp.EventReader
	scans bool
	err   error // the stream has ended so
}

// Next returns the next event. A message that is not JSON-RPC, an answer to another request and an event over the limit
// end the stream with bad_answer, a break with broke_off.
func (e *events) Next() (mcp.Event, error) {
	if e.err != nil {
		return mcp.Event{}, e.err
	}
	e.x.nextEvent()
	ev, err := e.r.Next()
	if err == nil && e.scans {
		err = e.scan(&ev)
	}
	if err != nil {
		e.err = e.ended(err)
		return mcp.Event{}, e.err
	}
	return ev, nil
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
	return e.x.fault(err)
}

// scan looks at an event that carries a message: its data is not empty, as that of a priming event is (2025-11-25,
// basic/transports), and it has no other name.
func (e *events) scan(ev *mcp.Event) error {
	if len(ev.Data) == 0 || len(ev.Name) != 0 && string(ev.Name) != "message" {
		return nil
	}
	x, m := e.x, &ev.Message
	if err := mcp.Scan(ev.Data, m); err != nil {
		return &badAnswer{"the server sent an event that is not JSON-RPC", err}
	}
	if x.call.Lane == mcp.LaneBatch {
		return nil
	}
	switch m.Kind {
	case mcp.KindResult, mcp.KindError:
		if !x.isAnswer(ev.Data, m) {
			return &badAnswer{message: "the server answered another request"}
		}
		ev.Answer = true
		x.whole(x.watch.now())
	case mcp.KindBatch:
		// Servers of 2025-03-26 may batch what they send before the answer (basic/transports).
		if x.call.Era != mcp.EraLegacy {
			return &badAnswer{message: "the server sent an array"}
		}
		if ev.Answer = x.batchedAnswer(ev.Data, m); ev.Answer {
			x.whole(x.watch.now())
		}
	}
	return nil
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
