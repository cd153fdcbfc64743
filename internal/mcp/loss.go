package mcp

import (
	"bytes"
	"net/http"
	"strings"
)

// Loss says what an answer to a call in a legacy session says of that session.
type Loss uint8

// The degrees of a loss (docs/design.md, "Sessions").
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
	if r.Raw != nil || r.Header.Has("Content-Encoding") {
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
		if r.Header.Has("Www-Authenticate") {
			return LossNone // it asks for signing in
		}
	case http.StatusServiceUnavailable:
	default:
		return LossNone
	}
	return doubtfulIf(mentionsSession(textOf(r)))
}

// lossOfRefusal is LossOf for 400 and 404.
func lossOfRefusal(c *Call, r *Result, of subject) Loss {
	text := textOf(r)
	notFound := r.Status == http.StatusNotFound
	switch {
	case notFound && of == ofSession:
		return LossSure
	case saysLost(text) && !(of != ofSession && mayHaveSessions(c)):
		return LossSure
	}
	return doubtfulIf(notFound && of == ofUnknown || mentionsSession(text))
}

func doubtfulIf(doubtful bool) Loss {
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
	ofUnknown                // it is JSON-RPC, but whose is not known
)

// subjectOf looks at the id of an answer.
func subjectOf(c *Call, r *Result) subject {
	said := r.Scanned()
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
	switch string(r.Message.ErrorCode.Of(r.Scanned())) {
	case "-32602", "-32601", "-32002":
		return true
	}
	return false
}

// mayHaveSessions reports whether what answers the call may speak of sessions of its own: a tool does, a browser's for one.
func mayHaveSessions(c *Call) bool {
	return c.Method() == MethodToolsCall || c.Method() == MethodOther || c.Lane == LaneBatch
}

// uninitialized are the ways to say, in lower case and the American spelling, that initialize has not been called.
var uninitialized = [...]string{
	"not initialized", "not yet initialized", "not been initialized", "not yet been initialized", "n't initialized",
	"n't been initialized", "uninitialized", "before initialize", "before initialization", "without initialize",
	"initialize first", "initialize request first", "must initialize", "must be initialized", "call initialize",
	"send initialize", "send an initialize", "not an initialize request", "initialization required",
}

// mentionsSession reports whether an error is about a session, or about not being initialized.
func mentionsSession(text string) bool {
	text = strings.ReplaceAll(strings.ToLower(text), "initialise", "initialize")
	if strings.Contains(text, "session") {
		return true
	}
	for _, phrase := range uninitialized {
		if strings.Contains(text, phrase) {
			return true
		}
	}
	return false
}

// textOf returns what an answer says in words: the message of a JSON-RPC error, whose data may be about anything, or the
// whole of a body that is something else.
func textOf(r *Result) string {
	said := r.Scanned()
	if r.Message.Kind != KindError {
		return string(bytes.TrimSpace(said))
	}
	return ErrorText(r.Message.Error.Of(said))
}
