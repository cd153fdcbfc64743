package session

import (
	"time"

	"fluentd-perf/internal/http1/header"
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
		Start: time.Now(), Conn: t.Conn, Header: t.Header.Clone(),
	}
	c.Header.Drop(ofOneCall)
	c.Header.Add("Accept", "application/json, text/event-stream")
	if id != "" {
		c.Header.Add(sessionHeader, id)
	}
	if body == nil {
		return c
	}
	c.Header.Add("Content-Type", "application/json")
	if err := mcp.Scan(body, &c.Message); err != nil {
		panic("session: a message of the daemon's own is none (this is a bug): " + err.Error())
	}
	return c
}

// ofOneCall reports whether a header field belongs to one call and not to the agent. Its like for arrays is perCall and perBody in
// package rpc.
func ofOneCall(f header.Field) bool {
	return mcp.IsParamHeader(f.Name) || fieldsOfOneCall.Has(f.Name)
}

var fieldsOfOneCall = header.Names{
	sessionHeader, lastEventHeader, "Mcp-Method", "Mcp-Name", "Idempotency-Key", "X-Idempotency-Key", "Accept", "Content-Type",
	"Content-Length",
}
