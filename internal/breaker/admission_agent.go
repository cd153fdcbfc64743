package breaker

import "fluentd-perf/internal/mcp"

// bytesPerCost is how much of a body costs as much as another call.
const bytesPerCost = 16 << 10

func costOf(c *mcp.Call) uint64 { return 1 + uint64(len(c.Body))/bytesPerCost }

// takesSlot reports whether a call is one that a server has to answer, and not a stream.
func takesSlot(c *mcp.Call) bool {
	switch c.Lane {
	case mcp.LaneRequest:
		return true
	case mcp.LaneBatch:
		return true
	case mcp.LaneOpaque: // taken for the most that it could be
		return c.Message.Kind != mcp.KindBatch || hasRequest(c.Body)
	case mcp.LaneMessage:
		return c.Message.Kind == mcp.KindRequest || c.Message.Kind == mcp.KindBatch && hasRequest(c.Body)
	}
	return false
}

// mostElements is how many of an array are looked at: it is as many as /rpc takes.
const mostElements = 1000

// hasRequest reports whether there is a request in an array. An array of answers to the server must not wait: a call that
// holds a slot may be waiting for them.
func hasRequest(array []byte) bool {
	elements, err := mcp.Elements(nil, array, mostElements)
	if err != nil {
		return true // nobody knows, or it is too long for answers
	}
	for _, e := range elements {
		var m mcp.Message
		if err := mcp.Scan(e.Of(array), &m); err != nil || m.Kind == mcp.KindRequest {
			return true
		}
	}
	return false
}

// agentOf names the agent of a call that has to wait: by its session, else by its credential and the name that it gives
// itself, else by its connection. No name is empty.
func agentOf(c *mcp.Call, partition func(*mcp.Call) [32]byte) string {
	if c.Endpoint != "" { // HTTP+SSE: the stream is the session
		return "e" + c.Endpoint
	}
	if ids := c.Header["Mcp-Session-Id"]; len(ids) > 0 && ids[0] != "" {
		return "s" + ids[0]
	}
	if name, ok := clientName(c); ok && partition != nil {
		p := partition(c)
		return "p" + string(p[:]) + name
	}
	return "c" + c.Conn
}

// clientName returns io.modelcontextprotocol/clientInfo.name as sent (2026-07-28, basic/index, "_meta").
func clientName(c *mcp.Call) (string, bool) {
	info := c.Message.ClientInfo.Of(c.Body)
	if info == nil {
		return "", false
	}
	name, err := mcp.Member(info, "name")
	if err != nil || !name.Present() {
		return "", false
	}
	return string(name.Of(info)), true
}
