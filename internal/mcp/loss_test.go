package mcp_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// lossCall is a call with an id, where it is a request.
func lossCall(lane mcp.Lane, body string) *mcp.Call {
	c := &mcp.Call{Lane: lane, Body: []byte(body), Header: header.Of(http.Header{"Mcp-Session-Id": {"s"}})}
	if lane == mcp.LaneOpaque {
		c.Message = mcp.Message{Method: mcp.MethodOther, Kind: mcp.KindBatch}
	} else if body != "" {
		if err := mcp.Scan(c.Body, &c.Message); err != nil {
			panic(err)
		}
	}
	return c
}

var (
	listCall     = lossCall(mcp.LaneRequest, `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`)
	toolCall     = lossCall(mcp.LaneRequest, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"browser"}}`)
	strangeCall  = lossCall(mcp.LaneRequest, `{"jsonrpc":"2.0","id":7,"method":"browser/attach"}`)
	noteCall     = lossCall(mcp.LaneNotification, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	responseCall = lossCall(mcp.LaneResponse, `{"jsonrpc":"2.0","id":7,"result":{}}`)
	opaqueCall   = lossCall(mcp.LaneOpaque, `[{"jsonrpc":"2.0","id":7,"method":"tools/list"}]`)
	getCall      = lossCall(mcp.LaneStream, "")
	deleteCall   = lossCall(mcp.LaneEnd, "")
)

// answered is an answer as the upstream hands it on: held whole, and scanned where it is JSON-RPC.
func answered(status int, contentType, body string) *mcp.Result {
	r := &mcp.Result{Status: status, Header: header.List{}, Body: []byte(body)}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if data, ok := strings.CutPrefix(body, "event: message\ndata: "); ok && contentType == "text/event-stream" {
		r.Data = []byte(strings.TrimSuffix(data, "\n\n"))
	}
	if mcp.Scan(r.Scanned(), &r.Message) != nil {
		r.Message = mcp.Message{}
	}
	return r
}

func rpcError(id string, code int, message string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, id, code, message)
}

// TestLossOfShapes holds every row of what servers were seen to say, as JSON, as one SSE event, and in text of each kind.
func TestLossOfShapes(t *testing.T) {
	const none, doubtful, sure = mcp.LossNone, mcp.LossDoubtful, mcp.LossSure
	for _, c := range []struct {
		status         int
		code           int
		words          string
		otherID, text  mcp.Loss // under another id, null or none; and in text, of whatever type
		own, tool, get mcp.Loss // under the request's own id: of a list, of a tools/call; and to a GET
	}{
		{404, -32001, "Session not found", sure, sure, sure, doubtful, sure},                                              // TypeScript, Go in text
		{404, -32600, "Session not found", sure, sure, sure, doubtful, sure},                                              // Python from 1.26
		{404, -32600, "Not Found: Invalid or expired session ID", sure, sure, sure, doubtful, sure},                       // Python, one transport
		{404, -32600, "Not Found: Session has been terminated", sure, sure, sure, doubtful, sure},                         // the same
		{404, -32000, "Not Found: Unknown Mcp-Session-Id header", sure, sure, doubtful, doubtful, sure},                   // hand-made
		{404, -32000, "unknown SESSION 1b9d", sure, sure, doubtful, doubtful, sure},                                       // hand-made
		{404, -32000, "Server not initialized", sure, sure, doubtful, doubtful, sure},                                     // hand-made
		{404, -32603, "nothing here", sure, sure, none, none, sure},                                                       // says nothing of a session
		{404, -32601, "Method not found", sure, sure, none, none, sure},                                                   // 2026-07-28 servers
		{404, -32601, "Session not found", sure, sure, none, none, sure},                                                  // about the method
		{400, -32000, "Bad Request: No valid session ID provided", sure, sure, sure, doubtful, sure},                      // Python before 1.26, TypeScript
		{400, -32000, "Bad Request: Server not initialized", sure, sure, sure, doubtful, sure},                            // TypeScript 1.12.1
		{400, -32001, "Session not found", sure, sure, sure, doubtful, sure},                                              // copies
		{400, -32600, "Invalid session ID", sure, sure, sure, doubtful, sure},                                             // mcp-go in text
		{400, -32000, "INVALID SESSION id", sure, sure, sure, doubtful, sure},                                             // whatever the case
		{400, -32000, "Bad Request: Mcp-Session-Id header is required", doubtful, doubtful, doubtful, doubtful, doubtful}, // TypeScript
		{400, -32000, "Bad Request: No valid session ID or not an initialize request", doubtful, doubtful, doubtful, doubtful, doubtful},
		{400, -32600, "The server has not been initialised yet", doubtful, doubtful, doubtful, doubtful, doubtful},
		{400, -32600, "Please send an initialize request first", doubtful, doubtful, doubtful, doubtful, doubtful},
		{400, -32602, "Session not found", sure, sure, none, none, sure},
		{400, -32602, "session_id is not a valid argument", doubtful, doubtful, none, none, doubtful},
		{400, -32002, "resource of this session not found", doubtful, doubtful, none, none, doubtful},
		{400, -32601, "sessions/list: no such method", doubtful, doubtful, none, none, doubtful},
		{400, -32000, "Could not initialize the database", none, none, none, none, none},
		{400, -32600, "Bad Request: Unsupported protocol version", none, none, none, none, none},
		{401, -32001, "Unauthorized: Session not found", doubtful, doubtful, doubtful, doubtful, doubtful}, // rmcp
		{401, -32001, "Unauthorized", none, none, none, none, none},
		{410, -32000, "Gone", sure, sure, sure, sure, sure},
		{410, -32602, "Gone", sure, sure, none, none, sure},
		{503, -32001, "Service Unavailable: MCP session is unknown", doubtful, doubtful, doubtful, doubtful, doubtful},
		{503, -32000, "Server not initialized", doubtful, doubtful, doubtful, doubtful, doubtful},
		{503, -32000, "try again", none, none, none, none, none},
		{403, -32000, "Session not found", none, none, none, none, none},
		{405, -32000, "Session not found", none, none, none, none, none},
		{409, -32000, "Session not found", none, none, none, none, none},
		{429, -32000, "Too many sessions", none, none, none, none, none},
		{500, -32000, "Session not found", none, none, none, none, none},
		{502, -32000, "Session not found", none, none, none, none, none},
		{200, -32001, "Session not found", none, none, none, none, none},
		{202, -32001, "Session not found", none, none, none, none, none},
	} {
		check := func(what string, call *mcp.Call, r *mcp.Result, want mcp.Loss) {
			t.Helper()
			if got := mcp.LossOf(call, r); got != want {
				t.Errorf("%d %d %q, %s: %d, want %d", c.status, c.code, c.words, what, got, want)
			}
		}
		for framing, frame := range map[string]func(body string) *mcp.Result{
			"JSON":          func(b string) *mcp.Result { return answered(c.status, "application/json", b) },
			"JSON as text":  func(b string) *mcp.Result { return answered(c.status, "text/plain", b) },
			"JSON, no type": func(b string) *mcp.Result { return answered(c.status, "", b+"\n") },
			"one event": func(b string) *mcp.Result {
				return answered(c.status, "text/event-stream", "event: message\ndata: "+b+"\n\n")
			},
			"loose: a mark": func(b string) *mcp.Result { return answered(c.status, "application/json", "\ufeff"+b) },
			"loose: a half": func(b string) *mcp.Result {
				return answered(c.status, "application/json", strings.Replace(b, `"error"`, `"result":null,"error"`, 1))
			},
			"another type": func(b string) *mcp.Result { return answered(c.status, "application/problem+json", b) },
		} {
			for _, id := range []string{"null", `"server-error"`, "8"} {
				r := frame(rpcError(id, c.code, c.words))
				check(framing+" under "+id, listCall, r, c.otherID)
				check(framing+" under "+id, toolCall, r, c.otherID)
				check(framing+" under "+id, noteCall, r, c.otherID)
			}
			check(framing+" without an id", toolCall, frame(strings.Replace(rpcError("null", c.code, c.words), `"id":null,`, "", 1)), c.otherID)
			for _, id := range []string{"7", "7.0", `"7"`} {
				r := frame(rpcError(id, c.code, c.words))
				check(framing+" under its own id "+id, listCall, r, c.own)
				check(framing+" under its own id "+id, toolCall, r, c.tool)
				check(framing+" under its own id "+id, strangeCall, r, c.tool)
				check(framing+" under what is no request's id", responseCall, r, c.otherID)
				check(framing+" to a GET", getCall, r, c.get)
				check(framing+" to a DELETE", deleteCall, r, c.get)
			}
		}
		for _, contentType := range []string{"text/plain", "text/plain; charset=utf-8", "", "text/html", "text/event-stream", "application/octet-stream"} {
			r := answered(c.status, contentType, " "+c.words+"\n")
			check("text as "+contentType, listCall, r, c.text)
			check("text as "+contentType, toolCall, r, c.text)
			check("text as "+contentType, noteCall, r, c.text)
			check("text as "+contentType, opaqueCall, r, c.text)
			check("text as "+contentType, getCall, r, c.text)
		}
	}
}

// TestLossOfAround holds what stands around those shapes: whose answer it is not known, what cannot be read, what asks for signing in.
func TestLossOfAround(t *testing.T) {
	const none, doubtful, sure = mcp.LossNone, mcp.LossDoubtful, mcp.LossSure
	with := func(r *mcp.Result, name, value string) *mcp.Result { r.Header.Set(name, value); return r }
	raw := func(status int) *mcp.Result {
		return &mcp.Result{Status: status, Header: header.List{}, Raw: io.NopCloser(strings.NewReader("session not found"))}
	}
	for name, c := range map[string]struct {
		call *mcp.Call
		r    *mcp.Result
		want mcp.Loss
	}{
		"404, nothing":                        {listCall, answered(404, "", ""), sure},
		"410, nothing":                        {listCall, answered(410, "", ""), sure},
		"400, nothing":                        {listCall, answered(400, "", ""), none},
		"503, nothing":                        {listCall, answered(503, "", ""), none},
		"404, JSON of its own":                {listCall, answered(404, "application/json", `{"error":"Session not found or expired. Please reinitialize."}`), sure},
		"400, JSON of its own":                {listCall, answered(400, "application/json", `{"detail":"No valid session"}`), doubtful},
		"400, an error without its version":   {listCall, answered(400, "application/json", `{"error":{"code":-32000,"message":"Session not found"}}`), doubtful},
		"400, JSON about something else":      {listCall, answered(400, "application/json", `{"detail":"no"}`), none},
		"400, HTML":                           {listCall, answered(400, "text/html", `<html><title>Invalid session ID</title></html>`), doubtful},
		"404, HTML":                           {toolCall, answered(404, "text/html", `<html>not found</html>`), sure},
		"503, HTML":                           {listCall, answered(503, "text/html", `<p>no backend for this session</p>`), doubtful},
		"503, HTML about something else":      {listCall, answered(503, "text/html", `<p>busy</p>`), none},
		"401, asks for signing in":            {listCall, with(answered(401, "text/plain", "Unauthorized: Session not found"), "WWW-Authenticate", "Bearer"), none},
		"401, asks, as JSON":                  {listCall, with(answered(401, "application/json", rpcError("null", -32001, "Session not found")), "WWW-Authenticate", `Bearer error="invalid_token"`), none},
		"404, its own result":                 {listCall, answered(404, "application/json", `{"jsonrpc":"2.0","id":7,"result":{}}`), none},
		"410, its own result":                 {listCall, answered(410, "application/json", `{"jsonrpc":"2.0","id":7,"result":{}}`), none},
		"404, an array":                       {listCall, answered(404, "application/json", `[`+rpcError("7", -32602, "no such tool")+`]`), doubtful},
		"400, an array":                       {listCall, answered(400, "application/json", `[`+rpcError("7", -32602, "no such tool")+`]`), none},
		"404, a name twice in the envelope":   {listCall, answered(404, "application/json", `{"jsonrpc":"2.0","id":7,"id":7,"error":{"code":1,"message":"no"}}`), doubtful},
		"404, events":                         {listCall, answered(404, "text/event-stream", "data: "+rpcError("7", -32602, "no")+"\n\ndata: x\n\n"), doubtful},
		"404 to an array, an error of one":    {opaqueCall, answered(404, "application/json", rpcError("7", -32000, "no")), doubtful},
		"404 to an array, of its arguments":   {opaqueCall, answered(404, "application/json", rpcError("7", -32602, "no")), none},
		"404 to an array, of the whole":       {opaqueCall, answered(404, "application/json", rpcError("null", -32000, "no")), sure},
		"400 to an array, exact, under an id": {opaqueCall, answered(400, "application/json", rpcError("7", -32000, "Session not found")), doubtful},
		"400 to an array, exact, of it all":   {opaqueCall, answered(400, "application/json", rpcError("null", -32000, "Bad Request: Server not initialized")), sure},
		"404, encoded":                        {listCall, with(answered(404, "text/plain", "session not found"), "Content-Encoding", "gzip"), none},
		"410, encoded":                        {listCall, with(answered(410, "text/plain", "x"), "Content-Encoding", "gzip"), sure},
		"404, too large":                      {listCall, raw(404), none},
		"400, too large":                      {listCall, raw(400), none},
		"410, too large":                      {listCall, raw(410), sure},
		"the data of an error":                {listCall, answered(400, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no","data":"session"}}`), none},
		"escapes":                             {listCall, answered(400, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Invalid \u0073ession ID"}}`), sure},
		"half of a pair":                      {listCall, answered(400, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"session \ud800"}}`), doubtful},
		"no message":                          {listCall, answered(400, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000}}`), none},
	} {
		if got := mcp.LossOf(c.call, c.r); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestSentLikelier(t *testing.T) {
	order := []mcp.Sent{mcp.SentNo, mcp.SentUnknown, mcp.SentYes}
	for i, a := range order {
		for j, b := range order {
			if got := a.Likelier(b); got != order[max(i, j)] {
				t.Errorf("%s and %s: %s", a, b, got)
			}
		}
	}
}
