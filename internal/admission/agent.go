package admission

import "fluentd-perf/internal/mcp"

// bytesPerCost is how much of a body costs as much as another call.
const bytesPerCost = 16 << 10

func costOf(c *mcp.Call) uint64 { return 1 + uint64(len(c.Body))/bytesPerCost }

// agentOf names the agent of a call that has to wait: by its session, else by its credential and the name that it gives
// itself, else by its connection. No name is empty.
func agentOf(c *mcp.Call, partition func(*mcp.Call) [32]byte) string {
	if c.Endpoint != "" { // HTTP+SSE: the stream is the session
		return "e" + c.Endpoint
	}
	if id := c.Header.Get("Mcp-Session-Id"); id != "" {
		return "s" + id
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
