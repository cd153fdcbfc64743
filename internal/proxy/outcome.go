package proxy

import (
	"net/http"
	"slices"
	"strings"

	"fluentd-perf/internal/mcp"
)

// outcome is what came of a request: a closed set, since it is a label.
type outcome uint8

const (
	outcomeOK outcome = iota
	outcomeRPCError
	outcomeHTTPError
	outcomeOpaque    // an answer to a request that the daemon did not understand, relayed as bytes
	outcomeResumable // a legacy stream ended early; its client resumes by Last-Event-ID
	outcomeSlowBody
	outcomeToolError // a result with isError
	outcomeFailed    // the first of those that are a failure's reason
)

// outcomeNames are the label's values. A test holds that no reason is missing.
var outcomeNames = [...]string{
	"ok", "rpc_error", "http_error", "opaque", "resumable", "slow_body", "tool_error",
	string(mcp.ReasonParse), string(mcp.ReasonInvalidMessage), string(mcp.ReasonBodyTooLarge), string(mcp.ReasonPoolWait),
	string(mcp.ReasonTooManyStreams), string(mcp.ReasonTooManyCalls), string(mcp.ReasonConnect), string(mcp.ReasonBrokeOff),
	string(mcp.ReasonBadAnswer), string(mcp.ReasonRedirect), string(mcp.ReasonDraining), string(mcp.ReasonConnectTimeout),
	string(mcp.ReasonFirstByte), string(mcp.ReasonIdle), string(mcp.ReasonCallTimeout), string(mcp.ReasonCanceled),
	string(mcp.ReasonBreakerOpen), string(mcp.ReasonQueueFull), string(mcp.ReasonQueueWait), string(mcp.ReasonInFlight),
	string(mcp.ReasonSessionRestarted), string(mcp.ReasonSessionLost), string(mcp.ReasonRPCAnswers), string(mcp.ReasonRPCTimeout),
	string(mcp.ReasonBuffered),
}

const outcomeCount = len(outcomeNames)

func (o outcome) String() string { return outcomeNames[o] }

func outcomeOfReason(r mcp.Reason) outcome {
	i := slices.Index(outcomeNames[outcomeFailed:], string(r))
	if i < 0 {
		panic("proxy: the reason " + string(r) + " is in no list of outcomes (this is a bug)")
	}
	return outcomeFailed + outcome(i)
}

func outcomeOfStatus(status int) outcome {
	if status >= http.StatusBadRequest {
		return outcomeHTTPError
	}
	return outcomeOK
}

// outcomeOf is the outcome of a whole answer. What is no request has no answer in JSON-RPC, and the answer to an array of
// /rpc is the daemon's own.
func outcomeOf(lane mcp.Lane, res *mcp.Result) outcome {
	o := outcomeOfMessage(res.Message.Kind)
	if o == outcomeOpaque && (res.Status >= http.StatusBadRequest || !isAnswered(lane) || len(res.Body) == 0) {
		return outcomeOfStatus(res.Status)
	}
	return o
}

// isAnswered reports whether what comes on a lane has an answer in JSON-RPC.
func isAnswered(lane mcp.Lane) bool { return isRequest(lane) || lane == mcp.LaneOpaque }

// outcomeOfRaw is the outcome of an answer that nobody has looked into. By its type a page is no JSON-RPC, whatever its
// status says; what is encoded, or too large to be looked into, may be.
func outcomeOfRaw(c *mcp.Call, res *mcp.Result) outcome {
	o := outcomeOfStatus(res.Status)
	if o != outcomeOK || !isAnswered(c.Lane) || c.Era == mcp.EraPlain || res.Header.Get("Content-Encoding") != "" {
		return o
	}
	media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "", "application/json", "text/event-stream":
		return o
	}
	return outcomeOpaque
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
