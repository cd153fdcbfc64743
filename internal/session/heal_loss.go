package session

import (
	"bytes"
	"net/http"
	"strings"

	"fluentd-perf/internal/mcp"
)

// isLoss reports whether an answer to a call with a session id says that the server does not know the session (2025-11-25,
// basic/transports, "Session Management"): 404, unless its body is a JSON-RPC error that is about something else, or what
// servers say instead, 400 and a JSON-RPC error that names the session. A body that cannot be looked into is none.
func isLoss(res *mcp.Result) bool {
	if res.Status != http.StatusNotFound && res.Status != http.StatusBadRequest {
		return false
	}
	if res.Events != nil || res.Raw != nil || len(res.Header["Content-Encoding"]) > 0 {
		return false
	}
	var m mcp.Message
	isRPC := mcp.Scan(res.Body, &m) == nil && (m.Kind == mcp.KindError || m.Kind == mcp.KindBatch)
	code := string(m.ErrorCode.Of(res.Body))
	if res.Status == http.StatusNotFound {
		return !isRPC || code == "-32001" || code == "-32600" && mcp.NamesSession(m.Error.Of(res.Body)) // the Python SDK's
	}
	return isRPC && (code == "-32000" || code == "-32001") && mcp.NamesSession(m.Error.Of(res.Body))
}

// maxLossText is how much of a server's own words about a lost session is passed on, in bytes.
const maxLossText = 4 << 10

// pass closes the answer that was a loss, so that it holds nothing, and returns what passes it on: 404 in text, which
// every client takes for the end of the session. That is the server's own where it says it so.
func (s *Stage) pass(res *mcp.Result) *mcp.Result {
	lost := lostResult()
	isText := strings.HasPrefix(strings.ToLower(res.Header.Get("Content-Type")), "text/plain")
	if isText && res.Status == http.StatusNotFound && len(res.Body) > 0 && len(res.Body) <= maxLossText {
		lost.Header, lost.Body = res.Header, bytes.Clone(res.Body)
	}
	s.discard(res)
	return lost
}

// lostResult is a loss in the daemon's words.
func lostResult() *mcp.Result {
	return &mcp.Result{
		Status: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		Body: []byte("session not found\n"),
	}
}
