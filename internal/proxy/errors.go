package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// streamRetryAfter is what an agent is told to wait where there are too many streams.
const streamRetryAfter = 5 * time.Second

// failureOf returns err as the *mcp.Failure that every stage returns; anything else is a bug in a stage.
func failureOf(err error) *mcp.Failure {
	var f *mcp.Failure
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, context.Canceled) {
		return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: err}
	}
	panic(fmt.Sprintf("proxy: a stage returned a %T that is no *mcp.Failure: %v (this is a bug)", err, err))
}

// httpStatuses are the HTTP statuses that belong to failures' codes (docs/resilience.md).
var httpStatuses = map[int]int{
	mcp.CodeSessionRestart: http.StatusGone,
	mcp.CodeTooLarge:       http.StatusRequestEntityTooLarge,
	mcp.CodeOverloaded:     http.StatusTooManyRequests,
	mcp.CodeBadGateway:     http.StatusBadGateway,
	mcp.CodeUnavailable:    http.StatusServiceUnavailable,
	mcp.CodeDeadlinePassed: http.StatusGatewayTimeout,
}

// statusOf returns the HTTP status of a failure: 400 for every other code.
func statusOf(f *mcp.Failure) int { return cmp.Or(httpStatuses[f.Code], http.StatusBadRequest) }

// shapeOf says how a failure is told, for what clients understand (reference/mcp-protocol.md, 4.4): the one place that knows
// the shapes. A request is told in a 200, which every client turns into a structured error; everything that is no request,
// and what is wrong with the message itself, by status.
func (q *request) shapeOf(f *mcp.Failure) (status int, withID bool) {
	status = statusOf(f)
	switch lane := q.call.Lane; {
	case f.Reason == mcp.ReasonBuffered: // mostly the body was not read: nobody knows what it is
		return status, false
	case f.Code < 0, f.Code == mcp.CodeTooLarge, lane == mcp.LaneMessage:
		return status, true
	case !isRequest(lane):
		return status, false
	case q.call.Method() == mcp.MethodServerDiscover && status == http.StatusTooManyRequests:
		return http.StatusServiceUnavailable, true // no client may take the server for a legacy one because of a 4xx of ours
	case q.call.Method() == mcp.MethodServerDiscover, q.handler.opts.ErrorsHTTP:
		return status, true
	}
	return http.StatusOK, true
}

// isRequest reports whether a lane carries one request, whose id is known.
func isRequest(lane mcp.Lane) bool { return lane == mcp.LaneRequest || lane == mcp.LaneListen }

// fail tells the agent of a failure where no byte of an answer has been written yet.
func (q *request) fail(f *mcp.Failure) {
	if f.Reason == mcp.ReasonCanceled { // nobody is there; should somebody be, an aborted connection is no made-up success
		q.breakOff(f)
	}
	q.note(f)
	switch {
	case q.call.Lane == mcp.LaneStream:
		q.failStream(f)
		return
	case q.call.Lane == mcp.LaneListen && f.Reason == mcp.ReasonDraining && !q.handler.streams.refusing.Load():
		q.breakOff(f) // like a GET: its client is to find a refused connection and come back
	case q.call.Lane == mcp.LaneFetch:
		q.status = statusOf(f)
		plain(q.w, q.status, f.Message)
		return
	}
	status, withID := q.shapeOf(f)
	h := q.w.Header()
	h["Content-Type"] = jsonType
	if status != http.StatusOK {
		setRetryAfter(h, f.RetryAfter)
	}
	var id []byte
	if withID {
		id = q.call.ID()
	}
	q.status = status
	q.answerBody(h, &mcp.Result{Status: status, Body: q.errorMessage(f, id)})
}

// failStream answers a GET that got no stream: in text, which leaves a client's session alone. At the drain the
// connection is closed instead: a refused connection is retried, a 503 ends a Go client's session.
func (q *request) failStream(f *mcp.Failure) {
	if f.Reason == mcp.ReasonDraining {
		q.breakOff(f)
	}
	q.status = http.StatusServiceUnavailable
	if f.Reason == mcp.ReasonBadAnswer || f.Reason == mcp.ReasonRedirect {
		q.status = http.StatusBadGateway
	}
	setRetryAfter(q.w.Header(), f.RetryAfter)
	plain(q.w, q.status, fmt.Sprintf("%s (%d %s)", f.Message, f.Code, f.Reason))
}

// breakOff ends the agent's connection in the middle, which no client takes for an answer. It does not return.
func (q *request) breakOff(f *mcp.Failure) {
	q.note(f)
	panic(http.ErrAbortHandler)
}

// note keeps what went wrong for the access line and the metrics.
func (q *request) note(f *mcp.Failure) {
	q.failure = f
	q.outcome = outcomeOfReason(f.Reason)
}

// noteAgentLeft notes that the answer could not be written.
func (q *request) noteAgentLeft() {
	q.note(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes})
}

// setRetryAfter rounds up to the seconds that the header counts in.
func setRetryAfter(h http.Header, d time.Duration) {
	if d > 0 {
		h.Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
}

// errorMessage makes a JSON-RPC error with the id's own bytes.
func (q *request) errorMessage(f *mcp.Failure, id []byte) []byte {
	return mcp.AppendError(nil, f, id, q.upstream.Name, q.id())
}
