package harness

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// Header fields of requests. SESSION stands for the id of the session that the client is in.
const (
	AcceptBoth         = "Accept: application/json, text/event-stream"
	JSONContent        = "Content-Type: application/json"
	InSession          = "Mcp-Session-Id: SESSION"
	LegacyVersionField = "MCP-Protocol-Version: 2025-11-25"
	ModernVersionField = "MCP-Protocol-Version: 2026-07-28"
)

// SessionField names a session to a server that takes any.
const SessionField = "Mcp-Session-Id: s-1"

// The content types of answers.
const (
	JSONType = "application/json"
	SSEType  = "text/event-stream"
)

// InitializeRequest is an `initialize` of 2025-11-25.
const InitializeRequest = `{"jsonrpc":"2.0","id":"first","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`

// ProgressMessage is a server's progress notification.
const ProgressMessage = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`

// Soon is what an error takes at most that needs no timeout to be noticed, and how late one that does may come, on a machine that is busy
// with other things. Which timeout it was, if any, is in the error's reason.
const Soon = 5 * time.Second

// CheckFailure checks the daemon's own error: code, reason, sent, and the rest of its data. Reasons and sents are words of
// which one must be there.
func CheckFailure(t *testing.T, a RPCAnswer, id, upstream string, code int, reasons, sents string) {
	t.Helper()
	if string(a.ID) != id {
		t.Errorf("id %s, want %s", a.ID, id)
	}
	if a.Error == nil || a.Error.Data == nil {
		t.Fatalf("no error of the daemon's: %+v", a)
	}
	e, data := a.Error, a.Error.Data
	if e.Code != code || !OneOf(data.Reason, reasons) || !OneOf(data.Sent, sents) {
		t.Errorf("got %d %s sent %s (%s), want %d %s sent %s", e.Code, data.Reason, data.Sent, e.Message, code, reasons, sents)
	}
	if data.Source != "fluentd-perf" || data.Upstream != upstream || data.RequestID == "" || e.Message == "" {
		t.Errorf("incomplete data: %q %+v", e.Message, *data)
	}
}

// OneOf reports whether s is a word of a list.
func OneOf(s, list string) bool {
	for word := range strings.FieldsSeq(list) {
		if s == word {
			return true
		}
	}
	return false
}

// StreamingGET plays one script for GETs and Minimal for the rest.
func StreamingGET(get mcptest.Script) mcptest.Script {
	return func(x *mcptest.Exchange) {
		if x.Verb == http.MethodGet {
			get(x)
			return
		}
		mcptest.Minimal(x)
	}
}

// PingMessage is a server's message with a number.
func PingMessage(n string) string { return `{"jsonrpc":"2.0","id":` + n + `,"method":"ping"}` }

// Bearer is the header field of a credential.
func Bearer(token string) string { return "Authorization: Bearer " + token }

// SecretMark is in everything that must not be logged.
const SecretMark = "SECRET-"

// SameType reports whether the content type arrived. One that the server did not name must not be made up.
func SameType(r Reply, kind string) bool {
	got, has := r.Header["Content-Type"]
	return !has && kind == "" || len(got) == 1 && got[0] == kind
}

// LegacyInitialize opens an upstream without session ids, so that the daemon knows what it is.
func LegacyInitialize(a *Agent, s *mcptest.Server) {
	a.T.Helper()
	s.Once(func(x *mcptest.Exchange) {
		x.Result(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"prompts":{},"resources":{}},"serverInfo":{"name":"s","version":"1"}}`)
	})
	if r := a.Post(InitializeRequest); r.Status != http.StatusOK {
		a.T.Fatalf("initialize: %d %s", r.Status, r.Body)
	}
}
