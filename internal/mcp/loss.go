package mcp

import (
	"bytes"
	"net/http"
	"strings"
)

// Loss says what an answer to a call in a legacy session says of that session.
type Loss uint8

// The degrees of a loss (design: "Sessions and healing").
const (
	LossNone     Loss = iota
	LossDoubtful      // it speaks of a session, or may do: a ping in the session tells
	LossSure          // the server does not know the session
)

// LossOf returns what an answer to a call with a session id says of the session. 404 is the standard's word for a lost
// session (2025-11-25, basic/transports, "Session Management"), the rest is what servers send instead. A 2xx is never a
// loss, nor is what cannot be read: encoded, larger than is held, or a stream.
//
// What a server says under the id of a request is about that request: there a 404 is no loss by itself, and an error of
// arguments or of a resource is none whatever its words.
func LossOf(c *Call, r *Result) Loss {
	if r.Status < http.StatusMultipleChoices || r.Events != nil {
		return LossNone
	}
	if r.Raw != nil || len(r.Header["Content-Encoding"]) > 0 {
		if r.Status == http.StatusGone {
			return LossSure
		}
		return LossNone
	}
	of := subjectOf(c, r)
	if of != ofSession && (r.Message.Kind == KindResult || isArgumentError(r)) {
		return LossNone
	}
	return lossOfStatus(c, r, of)
}

func lossOfStatus(c *Call, r *Result, of subject) Loss {
	switch r.Status {
	case http.StatusGone:
		return LossSure
	case http.StatusBadRequest, http.StatusNotFound:
		return lossOfRefusal(c, r, of)
	case http.StatusUnauthorized:
		if len(r.Header["Www-Authenticate"]) > 0 {
			return LossNone // it asks for signing in
		}
	case http.StatusServiceUnavailable:
	default:
		return LossNone
	}
	return doubtIf(speaksOfSession(wordsOf(r)))
}

// lossOfRefusal is LossOf for 400 and 404.
func lossOfRefusal(c *Call, r *Result, of subject) Loss {
	words := wordsOf(r)
	notFound := r.Status == http.StatusNotFound
	switch {
	case notFound && of == ofSession:
		return LossSure
	case isLossText(words) && !(of != ofSession && mayHaveSessions(c)):
		return LossSure
	}
	return doubtIf(notFound && of == ofUnknown || speaksOfSession(words))
}

func doubtIf(doubtful bool) Loss {
	if doubtful {
		return LossDoubtful
	}
	return LossNone
}

// subject is what a server's answer is about.
type subject uint8

const (
	ofSession subject = iota // the session, or the whole of HTTP: it is no JSON-RPC, or has no id, or that of no request
	ofRequest                // the request: it has its id
	ofUnknown                // it is JSON-RPC, but whose cannot be told
)

// subjectOf looks at the id of an answer.
func subjectOf(c *Call, r *Result) subject {
	said := r.Said()
	switch r.Message.Kind {
	case KindError, KindResult:
		id := r.Message.ID.Of(said)
		switch {
		case isNullID(id):
			return ofSession
		case c.Lane == LaneOpaque || c.Lane == LaneBatch:
			return ofUnknown
		case c.Message.Kind == KindRequest && AlikeID(c.ID(), id):
			return ofRequest
		}
		return ofSession
	case KindInvalid:
		if !bytes.Contains(said, []byte(`"jsonrpc"`)) {
			return ofSession
		}
	}
	return ofUnknown
}

// AlikeID reports whether two ids are the same but for their type: some servers answer 1 as "1".
func AlikeID(a, b []byte) bool {
	return SameID(a, b) || len(a) > 0 && len(b) > 0 && bytes.Equal(bytes.Trim(a, `"`), bytes.Trim(b, `"`))
}

// isArgumentError reports whether an answer is an error of the request's own arguments, method or resource.
func isArgumentError(r *Result) bool {
	switch string(r.Message.ErrorCode.Of(r.Said())) {
	case "-32602", "-32601", "-32002":
		return true
	}
	return false
}

// mayHaveSessions reports whether what answers the call may speak of sessions of its own: a tool does, a browser's for one.
func mayHaveSessions(c *Call) bool {
	return c.Method() == MethodToolsCall || c.Method() == MethodOther || c.Lane == LaneBatch
}

// lossTexts are the exact words of the SDKs, but for case, with a status of 400 or 404.
var lossTexts = [...]string{
	"session not found",                         // Go SDK, mcp/streamable.go; TypeScript SDK, streamableHttp.ts; Python SDK from 1.26, streamable_http_manager.py
	"bad request: no valid session id provided", // Python SDK before 1.26, streamable_http_manager.py; TypeScript SDK, its examples
	"bad request: server not initialized",       // TypeScript SDK, streamableHttp.ts
	"invalid session id",                        // mcp-go before pull request 689, server/streamable_http.go
	"not found: invalid or expired session id",  // Python SDK, streamable_http.py
	"not found: session has been terminated",    // Python SDK, streamable_http.py
}

func isLossText(words string) bool {
	for _, text := range lossTexts {
		if strings.EqualFold(words, text) {
			return true
		}
	}
	return false
}

// uninitialized are the ways to say, in lower case and the American spelling, that initialize has not been called.
var uninitialized = [...]string{
	"not initialized", "not yet initialized", "not been initialized", "not yet been initialized", "n't initialized",
	"n't been initialized", "uninitialized", "before initialize", "before initialization", "without initialize",
	"initialize first", "initialize request first", "must initialize", "must be initialized", "call initialize",
	"send initialize", "send an initialize", "not an initialize request", "initialization required",
}

// speaksOfSession reports whether an error is about a session, or about not being initialized.
func speaksOfSession(words string) bool {
	words = strings.ReplaceAll(strings.ToLower(words), "initialise", "initialize")
	if strings.Contains(words, "session") {
		return true
	}
	for _, text := range uninitialized {
		if strings.Contains(words, text) {
			return true
		}
	}
	return false
}

// wordsOf returns what an answer says in words: the message of a JSON-RPC error, whose data may be about anything, or the
// whole of a body that is something else.
func wordsOf(r *Result) string {
	said := r.Said()
	if r.Message.Kind != KindError {
		return string(bytes.TrimSpace(said))
	}
	return messageOf(r.Message.Error.Of(said))
}

// messageOf returns the message of a JSON-RPC error, as it stands there if it is no Unicode.
func messageOf(rpcError []byte) string {
	message, err := Member(rpcError, "message")
	if err != nil {
		return ""
	}
	token := message.Of(rpcError)
	if text, ok := Text(token); ok {
		return strings.TrimSpace(text)
	}
	return string(bytes.Trim(token, `"`))
}
