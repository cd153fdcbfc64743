package rpc

import (
	"net/http"
	"slices"
	"strings"

	"fluentd-perf/internal/mcp"
)

// unsupportedVersion is the code of MCP's UnsupportedProtocolVersion (2026-07-28, basic/versioning).
const unsupportedVersion = -32022

// errorMessage returns the message of the JSON-RPC error that the reply is, in lower case, or "".
func (p *arrayReply) errorMessage() string {
	rpcError := p.message.Error.Of(p.body)
	at, err := mcp.Member(rpcError, "message")
	if err != nil {
		return ""
	}
	text, _ := mcp.Text(at.Of(rpcError))
	return strings.ToLower(text)
}

// isRefused reports whether the JSON-RPC error comes with an HTTP status of refusal, as MCP has it for the codes of its
// own. A server that hands on what another one said to it, after the call ran, does not use it.
func (p *arrayReply) isRefused() bool {
	return p.status >= http.StatusBadRequest && p.status < http.StatusInternalServerError
}

// unbegun is what the SDKs' transports say with 400, behind "Bad Request: ", to what they did not look into. A tool has
// other words.
var unbegun = []string{
	"no valid session id provided", "mcp-session-id header is required", "missing session id", "server not initialized",
}

// isUnbegun reports whether the reply is one of those words.
func (p *arrayReply) isUnbegun() bool {
	return p.status == http.StatusBadRequest && slices.Contains(unbegun, strings.TrimPrefix(p.errorMessage(), "bad request: "))
}

// lost reports whether the server says that it does not know the session (2025-11-25, basic/transports, "Session
// Management", and what servers do instead). See unheard for whether the request has run.
func (p *arrayReply) lost() bool {
	switch code := p.errorCode(); p.status {
	case http.StatusNotFound:
		return p.body == nil || code == -32001
	case http.StatusBadRequest:
		return (code == -32000 || code == -32001) && (p.namesSession() || p.isUnbegun())
	}
	return false
}

func (p *arrayReply) namesSession() bool { return strings.Contains(p.errorMessage(), "session") }

// unheard reports of a reply that is lost whether the message surely did not run: 404 is what the specification has for it.
// An error with 400 may be of a tool, which has sessions of other kinds or hands on what another server said.
func (p *arrayReply) unheard() bool {
	return p.status == http.StatusNotFound && (p.body == nil && !p.spoke || p.namesSession())
}

// foreign reports whether the server says that it does not speak the version of a modern request, or answers as a legacy
// server does (2026-07-28, basic/versioning). See unread for whether the request has run.
func (p *arrayReply) foreign() bool {
	switch code := p.errorCode(); {
	case code == unsupportedVersion:
		return true
	case p.status == http.StatusNotFound || p.status == http.StatusMethodNotAllowed:
		return p.body == nil
	case p.status == http.StatusBadRequest:
		return (code == -32000 || code == -32001) && (p.namesSession() || p.isUnbegun() || p.namesVersion())
	}
	return false
}

func (p *arrayReply) namesVersion() bool {
	return strings.Contains(p.errorMessage(), "protocol version")
}

// unread reports of a reply that is foreign whether the request may be sent in the other era: it surely did not run, or may
// run twice. Of a server that was heard to be modern only the one error says so.
func (p *arrayReply) unread(know *eraKnown) bool {
	switch {
	case p.errorCode() == unsupportedVersion:
		return p.isRefused() || p.repeats
	case know.proved:
		return false
	}
	return p.repeats || p.body == nil && !p.spoke || p.isUnbegun()
}

// modernOnly reports whether the server misses the modern envelope in a legacy message, which has not run or may run twice.
func (p *arrayReply) modernOnly() bool {
	code := p.errorCode()
	return (code == unsupportedVersion || code == mcp.CodeHeaderMismatch) && (p.isRefused() || p.repeats)
}
