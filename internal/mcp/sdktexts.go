package mcp

import (
	"bytes"
	"net/http"
	"strings"
)

// sdkTexts are the exact words, but for case, with which the transports of SDKs refuse a request with 400 or 404. A new SDK's
// words are added here and nowhere else.
var sdkTexts = [...]struct {
	text        string
	lost        bool // the server does not know the session
	notExecuted bool // with 400: the transport has not looked into the request
}{
	{"session not found", true, false},                              // Go SDK, mcp/streamable.go; TypeScript SDK, streamableHttp.ts; Python SDK from 1.26, streamable_http_manager.py
	{badRequest + "no valid session id provided", true, true},       // Python SDK before 1.26, streamable_http_manager.py; TypeScript SDK, its examples
	{badRequest + "server not initialized", true, true},             // TypeScript SDK, streamableHttp.ts
	{"invalid session id", true, false},                             // mcp-go before pull request 689, server/streamable_http.go
	{"not found: invalid or expired session id", true, false},       // Python SDK, streamable_http.py
	{"not found: session has been terminated", true, false},         // Python SDK, streamable_http.py
	{badRequest + "mcp-session-id header is required", false, true}, // TypeScript SDK, streamableHttp.ts
	{badRequest + "missing session id", false, true},                // Python SDK, streamable_http.py
}

// badRequest begins the texts of some SDKs; servers leave it out.
const badRequest = "bad request: "

// saysLost reports whether the text is an SDK's for a session that the server does not know.
func saysLost(text string) bool {
	for _, t := range sdkTexts {
		if t.lost && strings.EqualFold(text, t.text) {
			return true
		}
	}
	return false
}

// SaysNotExecuted reports whether a refusal with that text is that of an SDK's transport, which has not looked into the request:
// a tool has other texts. "Bad Request: " need not stand before it.
func SaysNotExecuted(status int, text string) bool {
	for _, t := range sdkTexts {
		if t.notExecuted && (strings.EqualFold(text, t.text) || strings.EqualFold(text, strings.TrimPrefix(t.text, badRequest))) {
			return status == http.StatusBadRequest
		}
	}
	return false
}

// ErrorText returns the message of a JSON-RPC error, as it stands there if it is no Unicode; "" where there is none.
func ErrorText(rpcError []byte) string {
	token := MemberOf(rpcError, "message")
	if text, ok := Text(token); ok {
		return strings.TrimSpace(text)
	}
	return string(bytes.Trim(token, `"`))
}
