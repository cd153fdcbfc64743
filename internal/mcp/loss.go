package mcp

import "strings"

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
