package mcp

import (
	"net/http"
	"strings"
)

// Loss says what an answer to a call in a legacy session says of that session.
type Loss uint8

// The degrees of a loss (design: "Sessions and healing").
const (
	LossNone     Loss = iota
	LossDoubtful      // it speaks of a session: a ping in the session tells
	LossSure          // the server does not know the session
)

// LossOf returns what an answer to a call with a session id says of the session (2025-11-25, basic/transports, "Session
// Management", has 404 alone; the rest is what servers send instead). A 2xx is never a loss, nor is what is encoded, larger
// than is held, or a stream.
func LossOf(c *Call, r *Result) Loss {
	if r.Events != nil || r.Raw != nil || len(r.Header["Content-Encoding"]) > 0 {
		return LossNone
	}
	own := r.Message.Kind == KindError && SameID(c.ID(), r.Message.ID.Of(r.Said()))
	switch r.Status {
	case http.StatusGone:
		return LossSure
	case http.StatusNotFound:
		if !own {
			return LossSure
		}
	case http.StatusBadRequest, http.StatusServiceUnavailable:
	case http.StatusUnauthorized:
		if len(r.Header["Www-Authenticate"]) > 0 {
			return LossNone
		}
	default:
		return LossNone
	}
	if NamesSession(r.Message.Error.Of(r.Said())) {
		return LossDoubtful
	}
	return LossNone
}

// NamesSession reports whether the message of a JSON-RPC error, given as its error member, is about a session: that is how
// servers say that they have lost one (2025-11-25, basic/transports, "Session Management", has the status alone). Its data
// may be about anything.
func NamesSession(rpcError []byte) bool {
	message, err := Member(rpcError, "message")
	if err != nil {
		return false
	}
	text, _ := Text(message.Of(rpcError))
	return strings.Contains(strings.ToLower(text), "session")
}
