package session

import (
	"maps"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// ownRequest makes a request of the daemon's own, with params as JSON if there are any; see ownCall.
func (s *Stage) ownRequest(t *mcp.Call, m mcp.Method, params, id string) *mcp.Call {
	if params != "" {
		params = `,"params":` + params
	}
	body := `{"jsonrpc":"2.0","id":` + string(s.ids.Next()) + `,"method":"` + m.String() + `"` + params + `}`
	return ownCall(t, mcp.LaneRequest, []byte(body), id)
}

// ownCall makes a call of the daemon's own in the session of that id, if any: with the headers of an agent's call, less
// what belongs to that call alone.
func ownCall(t *mcp.Call, lane mcp.Lane, body []byte, id string) *mcp.Call {
	c := &mcp.Call{
		Upstream: t.Upstream, Lane: lane, Era: mcp.EraLegacy, Version: t.Version, Body: body, Query: t.Query, Whole: true,
		Start: time.Now(), Conn: t.Conn, Header: maps.Clone(t.Header),
	}
	maps.DeleteFunc(c.Header, func(name string, _ []string) bool { return ofOneCall(name) })
	c.Header["Accept"] = []string{"application/json, text/event-stream"}
	if id != "" {
		c.Header[sessionHeader] = []string{id}
	}
	if body == nil {
		return c
	}
	c.Header["Content-Type"] = []string{"application/json"}
	if err := mcp.Scan(body, &c.Message); err != nil {
		panic("session: a message of the daemon's own is none (this is a bug): " + err.Error())
	}
	return c
}

// ofOneCall reports whether a header field belongs to one call and not to the agent. Its like for arrays is perCall and perBody in
// package rpc.
func ofOneCall(canonical string) bool {
	switch canonical {
	case sessionHeader, lastEventHeader, "Mcp-Method", "Mcp-Name", "Idempotency-Key", "X-Idempotency-Key", "Accept",
		"Content-Type", "Content-Length":
		return true
	}
	return strings.HasPrefix(canonical, "Mcp-Param-")
}
