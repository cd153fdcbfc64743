package session

import (
	"math"
	"slices"

	"fluentd-perf/internal/mcp"
)

// each calls f for each message of an array (2025-03-26, basic, "Batching") until f returns false. Elements that are no
// message are left out. The array was scanned before, so its own size bounds the work.
func each(array []byte, f func(element []byte, m *mcp.Message) bool) {
	elements, _ := mcp.Elements(nil, array, math.MaxInt)
	for _, span := range elements {
		var m mcp.Message
		element := span.Of(array)
		if mcp.Scan(element, &m) == nil && !f(element, &m) {
			return
		}
	}
}

func isAnswer(m *mcp.Message) bool { return m.Kind == mcp.KindResult || m.Kind == mcp.KindError }

// without returns an array's call less the answers that drop takes out by their id: the call itself where it takes none,
// nil where nothing is left.
func without(c *mcp.Call, drop func(id []byte) bool) *mcp.Call {
	elements, _ := mcp.Elements(nil, c.Body, math.MaxInt)
	kept := slices.DeleteFunc(elements, func(span mcp.Span) bool {
		var m mcp.Message
		element := span.Of(c.Body)
		return mcp.Scan(element, &m) == nil && isAnswer(&m) && drop(m.ID.Of(element))
	})
	switch len(kept) {
	case len(elements):
		return c
	case 0:
		return nil
	}
	out := *c
	out.Body = arrayOf(c.Body, kept)
	out.Message = mcp.Message{}
	if err := mcp.Scan(out.Body, &out.Message); err != nil {
		panic("session: what is left of an array is none (this is a bug): " + err.Error())
	}
	return &out
}

// arrayOf makes an array of elements of another.
func arrayOf(array []byte, elements []mcp.Span) []byte {
	out := make([]byte, 0, len(array))
	for i, span := range elements {
		out = append(out, "[,"[min(i, 1)])
		out = append(out, span.Of(array)...)
	}
	return append(out, ']')
}

// current returns the call less the answers to questions of before the place; nil where nothing is left.
func (e *session) current(c *mcp.Call, at place) *mcp.Call {
	switch {
	case at.gen == 0:
	case c.Lane == mcp.LaneResponse && e.stale(at, c.ID()):
		return nil
	case c.Lane == mcp.LaneBatch:
		return without(c, func(id []byte) bool { return e.stale(at, id) })
	}
	return c
}

// afterLoss returns what of a call that met the loss is for the session's new place; nil for nothing. The questions that it
// answers are gone, and a healing has said notifications/initialized.
func afterLoss(c *mcp.Call) *mcp.Call {
	switch {
	case c.Lane == mcp.LaneResponse || c.Method() == mcp.MethodInitialized:
		return nil
	case c.Lane == mcp.LaneBatch:
		return without(c, func([]byte) bool { return true })
	}
	return c
}

// settled notes that the server has taken the answers in a call.
func (e *session) settled(c *mcp.Call) {
	switch c.Lane {
	case mcp.LaneResponse:
		e.settle(c.ID())
	case mcp.LaneBatch:
		if !e.isAsked() {
			return
		}
		each(c.Body, func(element []byte, m *mcp.Message) bool {
			if isAnswer(m) {
				e.settle(m.ID.Of(element))
			}
			return true
		})
	}
}
