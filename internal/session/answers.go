package session

import (
	"bytes"
	"slices"

	"fluentd-perf/internal/mcp"
)

// asked is a request of the server's that its agent has not answered yet.
type asked struct {
	id    []byte
	place int // of the place where the server sent it
}

// isStaleAnswer reports whether an agent's answer is to a request of before the place. Servers begin to count anew, so of two
// requests with the same id the first is taken to be answered first: an answer to it must never reach the second. In a
// session that was recovered, an answer to what is not known is one of before, unless something came since that nobody could
// read.
func (e *session) isStaleAnswer(at *place, id []byte) (stale bool) {
	if at.number == 0 {
		return false
	}
	e.change(func() {
		i := e.askedLocked(id)
		if i < 0 {
			stale = !e.unread
			return
		}
		if stale = e.asked[i].place < at.number; stale {
			e.asked = slices.Delete(e.asked, i, i+1)
		}
	})
	return stale
}

// tookAnswer notes that the server has taken an agent's answer.
func (e *session) tookAnswer(id []byte) {
	e.change(func() {
		if i := e.askedLocked(id); i >= 0 {
			e.asked = slices.Delete(e.asked, i, i+1)
		}
	})
}

func (e *session) askedLocked(id []byte) int {
	return slices.IndexFunc(e.asked, func(a asked) bool { return mcp.SameID(a.id, id) })
}

// passed notes what an event of the server's says, on a stream of the place: its id, if the stream is a POST's; and what the
// server asks. Servers of 2025-03-26 may put what they send into arrays (basic/transports). It returns the event's message, of
// KindInvalid where nobody could read it.
func (e *session) passed(at *place, p *postStream, ev *mcp.Event) mcp.Message {
	if len(ev.ID) > 0 && p != nil {
		e.passedID(p, string(ev.ID))
	}
	m := ev.Message // GET streams come without a scan
	if ev.Partial || ev.Last || len(ev.Data) > 0 && m.Kind == mcp.KindInvalid && mcp.Scan(ev.Data, &m) != nil {
		e.passedUnread(at)
		return mcp.Message{}
	}
	switch m.Kind {
	case mcp.KindRequest:
		e.addAsked(at, m.ID.Of(ev.Data))
	case mcp.KindBatch:
		mcp.EachMessage(ev.Data, func(element []byte, one *mcp.Message) {
			if one.Kind == mcp.KindRequest {
				e.addAsked(at, one.ID.Of(element))
			}
		})
	}
	return m
}

func (e *session) addAsked(at *place, id []byte) {
	if len(id) > maxToken {
		return
	}
	e.change(func() {
		e.asked = appendBounded(e.asked, asked{bytes.Clone(id), at.number}, maxAsked)
	})
}

// passedUnread notes that something of the server's came in the place that nobody could read: it may have asked something.
func (e *session) passedUnread(at *place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unread = e.unread || e.at == at
}
