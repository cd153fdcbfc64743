package proxy

import "fluentd-perf/internal/mcp"

// decode settles what the call is, by the header that goes to the server and the body. The call is complete after it, and
// nobody changes it again.
func (q *request) decode(body []byte) {
	q.decodeHeader()
	q.call.Body = body
	q.decodeMessage()
	if q.upstream.OldTransport {
		q.call.Lane = mcp.LaneMessage
	}
	dropLegacy(&q.call)
}

// decodeHead makes the call of a request whose body, if it has one, means nothing. It is read all the same: net/http would
// do that before the answer, without a deadline, and not notice an agent that leaves. It reports false if that has failed, and
// the agent was answered.
func (q *request) decodeHead(lane mcp.Lane) bool {
	q.call.Lane = lane
	if _, ok := q.readBody(); !ok {
		return false
	}
	q.decodeHeader()
	dropLegacy(&q.call)
	return true
}

// decodeHeader makes the call's header, and reads the version from it.
func (q *request) decodeHeader() {
	c := &q.call
	c.Header = q.outHeader()
	c.Version = header(c.Header, "Mcp-Protocol-Version")
	c.Era = mcp.EraOf(c.Version)
}

// decodeMessage scans the body. One that the daemon does not understand is the server's to judge: the call is opaque, its era
// and version those of its header.
func (q *request) decodeMessage() {
	c := &q.call
	if mcp.IsEncoded(c.Header) || mcp.Scan(c.Body, &c.Message) != nil || c.Message.Kind == mcp.KindBatch {
		// Of an array the kind stays; an id cannot be told whose it is.
		c.Message = mcp.Message{Kind: c.Message.Kind, Method: mcp.MethodOther}
		c.Lane = mcp.LaneOpaque
		return
	}
	if own := c.Message.ProtocolVersion.Of(c.Body); own != nil && !mcp.TextIs(own, c.Version) {
		if v, ok := mcp.Text(own); ok && mcp.EraOf(v) == mcp.EraModern {
			c.Era, c.Version = mcp.EraModern, v
		}
	}
	c.Mismatch = c.Era == mcp.EraModern && differs(c)
	c.Lane = laneOf(&c.Message)
}

func laneOf(m *mcp.Message) mcp.Lane {
	switch {
	case m.Kind == mcp.KindNotification:
		return mcp.LaneNotification
	case m.Kind == mcp.KindResult, m.Kind == mcp.KindError:
		return mcp.LaneResponse
	case m.Method == mcp.MethodSubscriptionsListen:
		return mcp.LaneListen
	}
	return mcp.LaneRequest
}

// differs reports whether the header of a modern request says something else than its body, or says it twice: the version,
// `Mcp-Method` or `Mcp-Name` (2026-07-28, basic/transports/streamable-http, SEP-2243). Only requests carry them.
func differs(c *mcp.Call) bool {
	m := &c.Message
	if m.Kind != mcp.KindRequest {
		return false
	}
	if !headerIs(c, "Mcp-Protocol-Version", m.ProtocolVersion) || !headerIs(c, "Mcp-Method", m.MethodName) {
		return true
	}
	named, ok := m.Named()
	return ok && !headerIs(c, "Mcp-Name", named)
}

// headerIs reports whether the header is there once and its value, decoded, is the JSON string at a place of the body.
func headerIs(c *mcp.Call, name string, at mcp.Span) bool {
	values := c.Header[name]
	return len(values) == 1 && mcp.TextIs(at.Of(c.Body), mcp.HeaderText(values[0]))
}

// dropLegacy takes off what was removed from the protocol in 2026-07-28 (SEP-2567): it is to be ignored, so it is not even
// passed on. The header is the call's own, which is not complete before.
func dropLegacy(c *mcp.Call) {
	if c.Era == mcp.EraModern && !c.Mismatch {
		delete(c.Header, sessionHeader)
		delete(c.Header, "Last-Event-Id")
	}
}
