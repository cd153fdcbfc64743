package proxy

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// statusOf returns the HTTP status of a failure (docs/resilience.md): the daemon's own codes are 1000 more than that, and a
// message that is wrong in itself gets 400.
func statusOf(f *mcp.Failure) int {
	if f.Code < 1000 {
		return http.StatusBadRequest
	}
	return f.Code - 1000
}

// shape is how a failure is answered.
type shape int

const (
	inJSON  shape = iota // a JSON-RPC error without id
	withID               // a JSON-RPC error with the request's id
	inText               // a line of text, which leaves a client's session alone
	aborted              // by an aborted connection, which no client takes for an answer
)

// shapeOf says how a failure is answered, for what clients understand (reference/mcp-protocol.md, 4.4): the one place that knows
// the shapes. A request is answered with a 200, which every client turns into a structured error; everything that is no request,
// and what is wrong with the message itself, by status. At the drain a stream is refused by a closed connection: its client
// comes back, while a 503 ends a Go client's session.
func (q *request) shapeOf(f *mcp.Failure) (status int, how shape) {
	status = statusOf(f)
	lane, draining := q.call.Lane, f.Reason == mcp.ReasonDraining
	switch {
	case f.Reason == mcp.ReasonCanceled, // the agent has left; if it has not, this is at least no success
		draining && lane == mcp.LaneStream, draining && lane == mcp.LaneListen && !q.handler.inFlight.refuses():
		return status, aborted
	case lane == mcp.LaneStream && f.Reason != mcp.ReasonBadAnswer && f.Reason != mcp.ReasonRedirect:
		return http.StatusServiceUnavailable, inText
	case lane == mcp.LaneStream, lane == mcp.LaneFetch:
		return status, inText
	case f.Reason == mcp.ReasonBuffered: // mostly the body was not read: nobody knows what it is
		return status, inJSON
	case f.Code < 0, f.Code == mcp.CodeTooLarge, lane == mcp.LaneMessage:
		return status, withID
	case !isRequest(lane):
		return status, inJSON
	case q.call.Method() == mcp.MethodServerDiscover && status == http.StatusTooManyRequests:
		return http.StatusServiceUnavailable, withID // no client may take the server for a legacy one because of a 4xx of ours
	case q.call.Method() == mcp.MethodServerDiscover, q.handler.opts.ErrorsHTTP:
		return status, withID
	}
	return http.StatusOK, withID
}

// isRequest reports whether a lane carries one request, whose id is known.
func isRequest(lane mcp.Lane) bool { return lane == mcp.LaneRequest || lane == mcp.LaneListen }

// fail answers with a failure, where no byte of an answer has been written yet.
func (q *request) fail(f *mcp.Failure) {
	q.note(f)
	status, how := q.shapeOf(f)
	h := q.w.Header()
	if status != http.StatusOK && f.RetryAfter > 0 { // in seconds, rounded up
		h.Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	var id []byte
	switch how {
	case aborted:
		q.breakOff(f)
	case inText:
		q.plain(status, fmt.Sprintf("%s (%d %s)", f.Message, f.Code, f.Reason))
		return
	case withID:
		id = q.call.ID()
		if id == nil && (f.Code == mcp.CodeParse || f.Code == mcp.CodeInvalidRequest) {
			id = unreadableID(q.call.Body)
		}
	}
	h["Content-Type"] = jsonType
	q.answerBody(&mcp.Result{Status: status, Body: q.errorMessage(f, id)})
}

// unreadableID is the id of a body that is no message, as far as one can be told: null where not (JSON-RPC 2.0, section 5).
func unreadableID(body []byte) []byte {
	var m mcp.Message
	if mcp.Scan(body, &m) != nil && m.ID.Present() {
		return m.ID.Of(body)
	}
	return []byte("null")
}

// breakOff ends the agent's connection in the middle, which no client takes for an answer. It does not return.
func (q *request) breakOff(f *mcp.Failure) {
	q.note(f)
	panic(http.ErrAbortHandler)
}

// note keeps what went wrong for the access line and the metrics.
func (q *request) note(f *mcp.Failure) {
	q.failure = f
	q.outcome = outcome(f.Reason)
}

// noteAgentLeft notes that the answer could not be written.
func (q *request) noteAgentLeft() {
	q.note(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes})
}

// errorMessage makes a JSON-RPC error with the id's own bytes.
func (q *request) errorMessage(f *mcp.Failure, id []byte) []byte {
	return mcp.AppendError(nil, f, id, q.upstream.Name, q.id())
}
