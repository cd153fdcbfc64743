package http

import (
	"bytes"
	"fmt"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// answer makes a Result of an answer: events, a whole body, or bytes as they come. Nothing that comes whole by its framing
// is refused: what is no JSON-RPC is the agent's to judge, as it would be without the daemon.
func (x *exchange) answer(h *head) (*mcp.Result, *mcp.Failure) {
	if h.status < http.StatusOK {
		// 101 was not asked for, other 1xx do not come this far, and below 100 is no status at all.
		return nil, x.refuse(mcp.ReasonBadAnswer, "the server answered with a status that is none", fmt.Errorf("status %d", h.status))
	}
	res := &x.result
	*res = mcp.Result{Status: h.status, Header: h.header}
	if x.misleads(res) {
		return nil, x.refuse(mcp.ReasonBadAnswer, "the server's answer to server/discover is neither JSON nor an event stream", nil)
	}
	return x.answerBody(res, h.length)
}

// misleads reports whether an answer would keep a client from a server that it could talk to: old servers answer
// server/discover with a page and status 200, and clients that go on to initialize after any error give up at that.
func (x *exchange) misleads(res *mcp.Result) bool {
	h := res.Header
	return x.call.Lane == mcp.LaneRequest && x.call.Method() == mcp.MethodServerDiscover && res.Status == http.StatusOK &&
		!isJSON(h) && !isEvents(h)
}

// answerBody says how an answer is read. Whoever shares, keeps or sends again, or takes apart, needs it whole, up to
// CheckBody; a status that is an error may be one in JSON-RPC whatever its type; of other answers only JSON is looked into.
func (x *exchange) answerBody(res *mcp.Result, length int64) (*mcp.Result, *mcp.Failure) {
	h, lane := res.Header, x.call.Lane
	switch {
	case lane == mcp.LaneFetch, length == 0 && !isEvents(h):
		return x.answerHeld(res, length, x.u.opts.CheckBody, 0)
	case res.Status >= http.StatusMultipleChoices:
		return x.answerHeld(res, length, heldSize, heldTime)
	case mcp.IsEncoded(h):
		x.stream = isEvents(h)
		return x.answerRaw(res, nil), nil
	case isEvents(h):
		return x.answerEvents(res), nil
	case lane != mcp.LaneStream && !x.answersRequest(): // what is said to a notification, an answer or the end of a session: next to nothing
		return x.answerHeld(res, length, heldSize, heldTime)
	case !isJSON(h) && x.call.Era != mcp.EraPlain:
		return x.answerRaw(res, nil), nil
	case x.holds():
		return x.answerHeld(res, length, x.u.opts.CheckBody, 0)
	}
	return x.answerHeld(res, length, heldSize, heldTime)
}

// holds reports whether an answer to the call may be shared, kept or sent again, or is taken apart.
func (x *exchange) holds() bool {
	c := x.call
	return c.Whole || c.Repeatable() || c.Lane == mcp.LaneRequest && c.Method() == mcp.MethodInitialize
}

// scan looks at a body that came whole, once. An answer under another id than the call's is loose.
func (x *exchange) scan(res *mcp.Result) {
	if len(res.Body) == 0 || mcp.IsEncoded(res.Header) {
		return
	}
	if isEvents(res.Header) {
		res.Data = onlyMessage(res.Body)
	}
	m := &res.Message
	if mcp.Scan(res.Scanned(), m) != nil {
		*m = mcp.Message{}
		return
	}
	good := res.Status < http.StatusMultipleChoices
	if x.call.Lane == mcp.LaneBatch { // whoever made the array takes its answer apart
		res.Checked = good && !m.Loose
		return
	}
	exact := x.answers(res.Scanned(), m)
	res.Checked = exact && good && res.Data == nil
}

// answers reports whether b is strictly one valid answer to the call, and notes on one that is not that it is loose.
func (x *exchange) answers(b []byte, m *mcp.Message) bool {
	if m.Kind != mcp.KindResult && m.Kind != mcp.KindError {
		return false
	}
	switch x.call.Lane {
	case mcp.LaneRequest, mcp.LaneListen:
		m.Loose = m.Loose || !x.call.Answers(b, m)
		return !m.Loose
	}
	return false
}

// onlyMessage returns the data of the one message in a body of events, nil where there is none or another one.
func onlyMessage(body []byte) []byte {
	r := mcp.NewEventReader(bytes.NewReader(body), nil, len(body))
	defer r.Close()
	var only []byte
	for {
		ev, err := r.Next()
		switch {
		case err != nil:
			return only
		case !isMessage(&ev):
		case only != nil:
			return nil
		default:
			only = bytes.Clone(ev.Data)
		}
	}
}
