package era

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// Codes of MCP's (2026-07-28, basic/versioning).
const (
	unsupportedVersion = -32022
	missingCapability  = -32021
)

// Reply is a server's answer to a request.
type Reply struct {
	Status        int
	Header        header.List
	Body          []byte      // one response to the request; nil where there was none
	Message       mcp.Message // the scan of Body
	OtherMessages bool        // the server sent other messages before
	Repeatable    bool        // the request may run twice
}

// Failure is the failure of a request of which the answer is no JSON-RPC response: a status that says all, most likely.
func (r *Reply) Failure() *mcp.Failure {
	f := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes,
		Message: fmt.Sprintf("the server answered with HTTP status %d", r.Status),
	}
	if r.Status >= 200 && r.Status < 300 {
		f.Message += " and no JSON-RPC response"
	}
	if s, err := strconv.ParseUint(r.Header.Get("Retry-After"), 10, 16); err == nil {
		f.RetryAfter = time.Duration(s) * time.Second
	}
	return f
}

// ErrorCode returns the code of the JSON-RPC error that the reply is, or 0.
func (r *Reply) ErrorCode() int {
	if r.Message.Kind != mcp.KindError {
		return 0
	}
	n, err := strconv.Atoi(string(r.Message.ErrorCode.Of(r.Body)))
	if err != nil {
		return 0
	}
	return n
}

// IsRefused reports whether the JSON-RPC error comes with an HTTP status of refusal, as MCP has it for the codes of its
// own. A server that hands on what another one said to it, after the request ran, does not use it.
func (r *Reply) IsRefused() bool {
	return r.Status >= http.StatusBadRequest && r.Status < http.StatusInternalServerError
}

// Denied reports whether the status says nothing of the server's era: the caller is not let in, or not now.
func (r *Reply) Denied() bool {
	return r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden || r.Status == http.StatusTooManyRequests ||
		r.Status > http.StatusNotImplemented
}

// errorText returns the message of the JSON-RPC error that the reply is, in lower case, or "".
func (r *Reply) errorText() string { return strings.ToLower(mcp.ErrorText(r.Message.Error.Of(r.Body))) }

// notModern reports whether the server says that it does not speak the version of a modern request, or answers as a legacy
// server does (2026-07-28, basic/versioning).
func (r *Reply) notModern() bool {
	code := r.ErrorCode()
	switch {
	case code == unsupportedVersion:
		return true
	case r.Status == http.StatusNotFound || r.Status == http.StatusMethodNotAllowed:
		return r.Body == nil
	case r.Status == http.StatusBadRequest && (code == -32000 || code == -32001):
		text := r.errorText()
		return mcp.SaysNotExecuted(r.Status, text) || strings.Contains(text, "session") || strings.Contains(text, "protocol version")
	}
	return false
}

// notExecuted reports of a reply that is not a modern server's whether the request may be sent in the other era: it surely
// did not run, or may run twice. Of a server that has proved to be modern only the one error says so.
func (r *Reply) notExecuted(known *Known) bool {
	switch {
	case r.ErrorCode() == unsupportedVersion:
		return r.IsRefused() || r.Repeatable
	case known.proved:
		return false
	}
	return r.Repeatable || r.Body == nil && !r.OtherMessages || mcp.SaysNotExecuted(r.Status, r.errorText())
}

// modernOnly reports whether the server misses what a modern request has in a legacy one, which has not run or may run twice.
func (r *Reply) modernOnly() bool {
	code := r.ErrorCode()
	return (code == unsupportedVersion || code == mcp.CodeHeaderMismatch) && (r.IsRefused() || r.Repeatable)
}
