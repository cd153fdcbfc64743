package proxy

import (
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// What an agent is told to wait where the daemon has an opinion.
const (
	streamRetryAfter = 5 * time.Second
)

// httpStatus returns the HTTP status that belongs to a failure's code (design/wire.md, "Errors made by the daemon").
func httpStatus(code int) int {
	switch code {
	case mcp.CodeSessionRestart:
		return http.StatusGone
	case mcp.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case mcp.CodeOverloaded:
		return http.StatusTooManyRequests
	case mcp.CodeBadGateway:
		return http.StatusBadGateway
	case mcp.CodeUnavailable:
		return http.StatusServiceUnavailable
	case mcp.CodeDeadlinePassed:
		return http.StatusGatewayTimeout
	}
	return http.StatusBadRequest
}

// shape says how a failure is told, for what clients understand (reference/mcp-protocol.md, 4.4).
type shape struct {
	status int
	withID bool
}

// shapeOf is the one place that knows the shapes. A request is told in a 200, which every client turns into a structured
// error; everything that is no request, and what is wrong with the message itself, by status.
func (x *exchange) shapeOf(f *mcp.Failure) shape {
	status := httpStatus(f.Code)
	switch {
	case f.Reason == mcp.ReasonBuffered: // mostly the body was not read: nobody knows what it is
		return shape{status, false}
	case f.Code < 0 || f.Code == mcp.CodeTooLarge:
		return shape{status, true}
	case x.call.Lane == mcp.LaneMessage:
		return shape{status, true}
	case x.call.Lane != mcp.LaneRequest && x.call.Lane != mcp.LaneListen:
		return shape{status, false}
	case x.call.Method() == mcp.MethodServerDiscover:
		// No client may take the server for a legacy one because of a 4xx of ours.
		if status == http.StatusTooManyRequests {
			status = http.StatusServiceUnavailable
		}
		return shape{status, true}
	case x.door.opts.ErrorsHTTP:
		return shape{status, true}
	}
	return shape{http.StatusOK, true}
}

// fail tells the agent of a failure where no byte of an answer has been written yet.
func (x *exchange) fail(f *mcp.Failure) {
	x.note(f)
	switch {
	case f.Reason == mcp.ReasonCanceled:
		// Nobody is there. Should somebody be, an aborted connection is no made-up success.
		x.abort() // does not return
	case x.call.Lane == mcp.LaneStream:
		x.failStream(f)
		return
	case x.call.Lane == mcp.LaneListen && f.Reason == mcp.ReasonDraining && !x.door.streams.refusing.Load():
		x.abort() // like a GET: its client is to find a refused connection and come back
	case x.call.Lane == mcp.LaneFetch:
		x.status = httpStatus(f.Code)
		plain(x.w, x.status, f.Message)
		return
	}
	s := x.shapeOf(f)
	h := x.w.Header()
	h["Content-Type"] = jsonType
	x.serverTiming(h, x.timing)
	if s.status != http.StatusOK {
		setRetryAfter(h, f.RetryAfter)
	}
	var id []byte
	if s.withID {
		id = x.call.ID()
	}
	body := x.errorMessage(f, id)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.status = s.status
	x.w.WriteHeader(s.status)
	x.write(body)
}

// failStream answers a GET that got no stream: in text, which leaves a client's session alone. At the drain the
// connection is closed instead: a refused connection is retried, a 503 ends a Go client's session.
func (x *exchange) failStream(f *mcp.Failure) {
	if f.Reason == mcp.ReasonDraining {
		x.abort() // does not return
	}
	status := http.StatusServiceUnavailable
	if f.Reason == mcp.ReasonBadAnswer || f.Reason == mcp.ReasonRedirect {
		status = http.StatusBadGateway
	}
	x.status = status
	setRetryAfter(x.w.Header(), f.RetryAfter)
	plain(x.w, status, f.Message+" ("+strconv.Itoa(f.Code)+" "+string(f.Reason)+")")
}

// setRetryAfter rounds up to the seconds that the header counts in.
func setRetryAfter(h http.Header, d time.Duration) {
	if d > 0 {
		h.Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
}

// errorMessage makes a JSON-RPC error with the id's own bytes.
func (x *exchange) errorMessage(f *mcp.Failure, id []byte) []byte {
	return mcp.AppendError(nil, f, id, x.up.Name, x.requestID())
}
