package breaker

import (
	"errors"
	"io"

	"fluentd-perf/internal/mcp"
)

// held is an answer that goes on, as Events or as Raw, with all that the call holds: the slot, the endpoint, the breaker's
// permit. They are let go at the response event, at the end or a break, or at Close, whichever is first.
type held struct {
	events mcp.Events
	raw    io.ReadCloser

	try    try
	ticket Ticket
	cancel func() // may be nil

	first  *mcp.Event // to be handed out before the others
	one    bool       // an answer to come settles all: the call is no array
	owes   bool       // it has not come yet, and is due on this stream
	legacy bool
	withID bool // an event id has come: a legacy client can resume
}

// hold makes the answer carry what the call holds, which is then no longer the run's.
func (r *run) hold(o *outcome) {
	h := &held{
		events: o.result.Events, raw: o.result.Raw, try: r.try, ticket: r.ticket, cancel: o.cancel, first: o.first,
		one: isOne(r.call), owes: owesAnswer(r.call, o.result.Status), legacy: r.call.Era == mcp.EraLegacy,
	}
	r.try, r.ticket = try{}, Ticket{}
	if h.try.verdict != Ignored {
		h.try.report() // its status says enough
	}
	if h.events != nil {
		o.result.Events = h
	} else {
		o.result.Raw = h
	}
	if h.first != nil && h.first.Answer {
		h.end(Succeeded, nil) // the wait is over, whenever it is read
	}
}

// end reports what came of the call, and lets go of everything.
func (h *held) end(v Verdict, cause error) {
	h.try.learn(v, cause)
	h.letGo()
}

func (h *held) letGo() {
	h.try.leave()
	h.ticket.Leave()
}

// Next implements mcp.Events.
func (h *held) Next() (mcp.Event, error) {
	var ev mcp.Event
	var err error
	if h.first != nil {
		ev, h.first = *h.first, nil
	} else if ev, err = h.events.Next(); err != nil {
		h.broke(err)
		return ev, err
	}
	if len(ev.ID) > 0 {
		h.withID = true
	}
	if ev.Answer && h.one {
		h.owes = false
		h.end(Succeeded, nil)
	}
	return ev, nil
}

// isOne reports whether a call is taken for one request.
func isOne(c *mcp.Call) bool {
	return c.Lane == mcp.LaneRequest || c.Lane == mcp.LaneOpaque && c.Message.Kind != mcp.KindBatch
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	n, err := h.raw.Read(p)
	if err != nil {
		h.owes = false // bytes that nobody looks into: their end is the answer's
		h.broke(err)
	}
	return n, err
}

// broke ends a stream. One that a legacy client can resume has not failed when it ends or breaks off.
func (h *held) broke(err error) {
	var f *mcp.Failure
	isFailure := errors.As(err, &f)
	switch {
	case h.legacy && h.withID && (err == io.EOF && h.owes || isFailure && f.Reason == mcp.ReasonBrokeOff):
	case isFailure:
		h.try.learnFailure(f)
	case err == io.EOF && h.owes:
		h.try.learn(Failed, errNoAnswer)
	case err == io.EOF:
		h.try.learn(Succeeded, nil)
	}
	h.letGo()
}

// Close implements mcp.Events and io.Closer.
func (h *held) Close() error {
	defer h.letGo()
	if h.cancel != nil {
		defer h.cancel()
	}
	if h.events != nil {
		return h.events.Close()
	}
	return h.raw.Close()
}
