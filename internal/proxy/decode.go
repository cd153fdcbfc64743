package proxy

import (
	"slices"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

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
	q.identify()
}

// identify notes whose the call is.
func (q *request) identify() {
	if partition := q.handler.opts.Partition; partition != nil {
		q.call.Own = mcp.Principal{Partition: partition(&q.call), Known: true}
	}
}

// decodeHead makes the call of a request whose body, if it has one, means nothing. It is read all the same: net/http would
// do that before the answer, without a deadline, and not notice an agent that leaves. It reports false if that has failed, and
// the agent was answered.
func (q *request) decodeHead(lane mcp.Lane) bool {
	q.call.Lane = lane
	if _, ok := q.readBody(); !ok {
		return false
	}
	q.release() // a stream may stay open for hours
	q.decodeHeader()
	dropLegacy(&q.call)
	q.identify()
	return true
}

// decodeHeader makes the call's header, and reads the version from it.
func (q *request) decodeHeader() {
	c := &q.call
	c.Header = q.outHeader()
	c.Version = c.Header.Get("Mcp-Protocol-Version")
	c.Era = mcp.EraOf(c.Version)
}

// decodeMessage scans the body. One that the daemon does not understand is the server's to judge: the call is opaque, its era
// and version those of its header.
func (q *request) decodeMessage() {
	c := &q.call
	if mcp.IsEncoded(c.Header) || mcp.Scan(c.Body, &c.Message) != nil || c.Message.Kind == mcp.KindBatch {
		// Of an array the kind stays; which of its calls an id belongs to is not known.
		c.Message = mcp.Message{Kind: c.Message.Kind, Method: mcp.MethodOther}
		c.Lane = mcp.LaneOpaque
		return
	}
	if own := c.Message.ProtocolVersion.Of(c.Body); own != nil && !mcp.TextIs(own, c.Version) {
		if v, ok := mcp.Text(own); ok && mcp.EraOf(v) == mcp.EraModern {
			c.Era, c.Version = mcp.EraModern, v
		}
	}
	c.Mismatch = c.Era == mcp.EraModern && c.HeaderDiffers()
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

// dropLegacy takes off what was removed from the protocol in 2026-07-28 (SEP-2567): it is to be ignored, so it is not even
// passed on. The header is the call's own, which is not complete before.
func dropLegacy(c *mcp.Call) {
	if c.Era == mcp.EraModern && !c.Mismatch {
		c.Header.Drop(func(f header.Field) bool {
			return header.EqualNames(f.Name, sessionHeader) || header.EqualNames(f.Name, "Last-Event-Id")
		})
		c.Header = slices.Clip(c.Header) // so that copies which add to it do not share what they add
	}
}
