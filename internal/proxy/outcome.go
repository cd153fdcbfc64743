package proxy

import (
	"net/http"
	"strings"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// outcome is what came of a request: a closed set, since it is a label. Beside these it is the reason of a failure.
type outcome string

const (
	outcomeOK        outcome = "ok"
	outcomeRPCError  outcome = "rpc_error"
	outcomeHTTPError outcome = "http_error"
	outcomeOpaque    outcome = "opaque"    // an answer to a request that the daemon did not understand, relayed as bytes
	outcomeResumable outcome = "resumable" // a legacy stream ended early; its client resumes by Last-Event-ID
	outcomeSlowBody  outcome = "slow_body"
	outcomeToolError outcome = "tool_error" // a result with isError
)

// outcomeOf is the outcome of an answer that is no stream of events. What is no request has no answer in JSON-RPC, and the
// answer to an array of /rpc is the daemon's own.
func outcomeOf(c *mcp.Call, res *mcp.Result) outcome {
	o := outcomeOfMessage(res.Message.Kind)
	switch {
	case o != outcomeOpaque:
		return o
	case res.Status >= http.StatusBadRequest:
		return outcomeHTTPError
	case !isAnswered(c.Lane), res.Raw == nil && len(res.Body) == 0, res.Raw != nil && mayBeMessage(c, res.Header):
		return outcomeOK
	}
	return outcomeOpaque
}

// isAnswered reports whether what comes on a lane has an answer in JSON-RPC.
func isAnswered(lane mcp.Lane) bool { return isRequest(lane) || lane == mcp.LaneOpaque }

// mayBeMessage reports whether a body that nobody has looked into may be JSON-RPC. By its type a page is none; what is encoded,
// or too large to be looked into, may be.
func mayBeMessage(c *mcp.Call, h header.List) bool {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "", "application/json", "text/event-stream":
		return true
	}
	return c.Era == mcp.EraPlain || h.Get("Content-Encoding") != ""
}

// outcomeOfMessage is the outcome of an answer in JSON-RPC, of outcomeOpaque where it is none.
func outcomeOfMessage(k mcp.Kind) outcome {
	switch k {
	case mcp.KindResult:
		return outcomeOK
	case mcp.KindError:
		return outcomeRPCError
	}
	return outcomeOpaque
}

// noteResult keeps what the result of a tools/call says of itself; m is its scan. A tool that failed is an outcome of its own:
// the relay worked.
func (q *request) noteResult(b []byte, m *mcp.Message) {
	q.isToolResult = q.call.Method() == mcp.MethodToolsCall && m.Kind == mcp.KindResult
	q.toolFailed = q.isToolResult && string(m.IsError.Of(b)) == "true"
	if q.toolFailed && q.outcome == outcomeOK {
		q.outcome = outcomeToolError
	}
}
