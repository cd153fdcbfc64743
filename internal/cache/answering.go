package cache

import (
	"io"

	"fluentd-perf/internal/mcp"
)

// answered calls changed when the answer to a call is there: now, or at a stream's answer or end, or at the end of a body
// that passes as it comes (design: "Read your writes"). An opaque call may have several answers: it is called at each of
// them and at the end. A nil res is a call that failed.
func (u *Upstream) answered(c *mcp.Call, res *mcp.Result, changed func()) {
	switch {
	case res != nil && res.Events != nil:
		own := answering{Events: res.Events, changed: changed, many: c.Lane == mcp.LaneOpaque}
		if d, ok := res.Events.(mcp.Drainer); ok {
			res.Events = &drainedAnswering{own, d}
		} else {
			res.Events = &own
		}
	case res != nil && res.Raw != nil:
		res.Raw = &ending{ReadCloser: res.Raw, changed: changed}
	default:
		changed()
	}
}

// answering is a stream of which the answer, or else the end, changes something.
type answering struct {
	mcp.Events
	changed func()
	many    bool // answers
	over    bool
}

// Next returns the next event.
func (a *answering) Next() (mcp.Event, error) {
	ev, err := a.Events.Next()
	switch {
	case err != nil || ev.Answer && !a.many && !ev.Last:
		a.end()
	case ev.Answer: // one of several, or a large event of which nobody knows what it was
		a.changed()
	}
	return ev, err
}

func (a *answering) end() {
	if !a.over {
		a.over = true
		a.changed()
	}
}

// Close ends the stream.
func (a *answering) Close() error {
	a.end()
	return a.Events.Close()
}

// drainedAnswering is one that owes answers when the daemon stops.
type drainedAnswering struct {
	answering
	mcp.Drainer
}

// ending is a body of which the end changes something.
type ending struct {
	io.ReadCloser
	changed func()
	over    bool
}

// Read reads on.
func (e *ending) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil {
		e.end()
	}
	return n, err
}

func (e *ending) end() {
	if !e.over {
		e.over = true
		e.changed()
	}
}

// Close ends the body.
func (e *ending) Close() error {
	e.end()
	return e.ReadCloser.Close()
}
