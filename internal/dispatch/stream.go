package dispatch

import (
	"io"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// tracked is an answer that goes on, as Events or as Raw, with all that the call holds: the slot, the endpoint, the breaker's
// ticket. They are let go at the response event, at the end or a break, or at Close, whichever is first.
type tracked struct {
	events mcp.Events
	raw    io.ReadCloser

	attempt attempt
	slot    func() // nil: none, or let go

	first  *mcp.Event // to be handed out before the others
	one    bool       // an answer to come ends the wait: the call is no array
	due    bool       // it has not come yet, and is due on this stream
	legacy bool
	withID bool // an event id has come: a legacy client can resume
}

// track makes the answer carry what the call holds, which is then no longer the run's.
func (r *run) track(o *outcome) {
	a := &tracked{
		events: o.result.Events, raw: o.result.Raw, attempt: r.attempt, slot: r.slot, first: o.first,
		one: isOne(r.call), due: answerDue(r.call, o.result.Status), legacy: r.call.Era == mcp.EraLegacy,
	}
	r.attempt, r.slot = attempt{}, nil
	if a.attempt.health != unknown {
		a.attempt.tell() // its status says enough
	}
	if a.events != nil {
		o.result.Events = a
	} else {
		o.result.Raw = a
	}
	if a.first != nil && a.first.Answer {
		a.end(healthy, nil) // the wait is over, whenever it is read
	}
}

// end learns what came of the call, unless its status has said that already, and lets go of everything.
func (a *tracked) end(h health, f *mcp.Failure) {
	if a.attempt.health != failing {
		a.attempt.learn(h, f)
	}
	a.letGo()
}

func (a *tracked) letGo() {
	a.attempt.leave()
	if a.slot != nil {
		a.slot()
		a.slot = nil
	}
}

// Next implements mcp.Events.
func (a *tracked) Next() (mcp.Event, error) {
	var ev mcp.Event
	var err error
	if a.first != nil {
		ev, a.first = *a.first, nil
	} else if ev, err = a.events.Next(); err != nil {
		a.broke(err)
		return ev, err
	}
	if len(ev.ID) > 0 {
		a.withID = true
	}
	if ev.Answer && a.one {
		a.due = false
		a.end(healthy, nil)
	}
	return ev, nil
}

// isOne reports whether a call is taken for one request.
func isOne(c *mcp.Call) bool {
	return c.Lane == mcp.LaneRequest || c.Lane == mcp.LaneOpaque && c.Message.Kind != mcp.KindBatch
}

// Read implements io.Reader.
func (a *tracked) Read(p []byte) (int, error) {
	n, err := a.raw.Read(p)
	if err != nil {
		a.due = false // bytes that nobody looks into: their end is the answer's
		a.broke(err)
	}
	return n, err
}

// broke ends a stream. One that a legacy client can resume has not failed when it ends or breaks off.
func (a *tracked) broke(err error) {
	defer a.letGo()
	f := failureOf(err)
	switch {
	case err == io.EOF && !a.due:
		a.end(healthy, nil)
	case !a.legacy || !a.withID || f.Reason != mcp.ReasonBrokeOff:
		a.end(healthOfFailure(f), f)
	}
}

// Close implements mcp.Events and io.Closer.
func (a *tracked) Close() error {
	defer a.letGo()
	if a.events != nil {
		return a.events.Close()
	}
	return a.raw.Close()
}

// answerDue reports whether the stream of a call is to carry its answer. A 202 says that it comes elsewhere.
func answerDue(c *mcp.Call, status int) bool {
	return c.Lane == mcp.LaneRequest && status >= http.StatusOK && status < http.StatusMultipleChoices && status != http.StatusAccepted
}
