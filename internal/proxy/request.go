package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// request is one request of an agent, from its head to the end of the answer. It belongs to the goroutine that serves it.
type request struct {
	handler  *Handler
	upstream *upstream
	w        http.ResponseWriter
	in       *http.Request // the agent's, never changed
	alias    bool          // reached by /mcp
	call     mcp.Call      // what goes out
	underWay               // owned by upstream.calls

	// What came of it, for the access line and the metrics.
	seq               uint64
	status            int
	bytesIn, bytesOut int64
	outcome           outcome
	isToolResult      bool // the answer was looked into, and is the result of a tools/call
	toolFailed        bool // which says isError
	reserved          int  // bytes of opts.Buffered
	reservedSmall     int  // bytes of smallBodies
	hit               bool // the cache or another call brought the answer
	failure           *mcp.Failure
	failed            *mcp.FailedCalls // of an array
	timing            mcp.Timing

	bodySpace [1 << 10]byte // of the request's body, where it fits
	values    [2]string     // of the answer's Server-Timing and Content-Length
	text      [160]byte     // in which they lie, where they fit; not changed once they are there
}

// begin makes the request. Whoever begins one finishes it.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, u *upstream) *request {
	return &request{
		handler: h, upstream: u, w: w, in: r, seq: h.lastID.Add(1),
		call: mcp.Call{Upstream: u.Name, Query: u.queryOf(r.URL.RawQuery), Start: time.Now(), Conn: r.RemoteAddr},
	}
}

// post relays one POST.
func (q *request) post() {
	body, ok := q.readBody()
	if !ok {
		return
	}
	q.decode(body)
	switch {
	case q.reservedSmall > 0 && q.expectsAnswer():
		q.fail(tooMuchBuffered())
	case q.call.Lane.Long():
		q.relayStream()
	case q.isCall():
		q.relayCall(q.upstream.Caller)
	default: // answers to the server, and notifications, belong to calls that are to finish
		q.relayOneWay()
	}
}

// get relays a GET: the session's stream, or what the server says instead.
func (q *request) get() {
	if q.decodeHead(mcp.LaneStream) {
		q.relayStream()
	}
}

// delete relays a DELETE: the end of a session.
func (q *request) delete() {
	if q.decodeHead(mcp.LaneEnd) {
		q.relayOneWay()
	}
}

// array relays an array whole: it is taken apart by the stage behind. Of what era an element is, that stage finds out, so
// the header goes on with the session that only legacy has.
func (q *request) array() {
	c := &q.call
	c.Lane, c.Request = mcp.LaneArray, q.id()
	body, ok := q.readBody()
	if !ok {
		return
	}
	if q.reservedSmall > 0 {
		q.fail(tooMuchBuffered())
		return
	}
	c.Body = body
	q.decodeHeader()
	if mcp.IsEncoded(c.Header) { // it cannot be taken apart as it came (RFC 9110, 15.5.16 and 12.5.3)
		q.w.Header()["Accept-Encoding"] = identityEncoding
		q.status, q.outcome = http.StatusUnsupportedMediaType, outcomeHTTPError
		plain(q.w, q.status, "an encoded body cannot be taken apart: send it without Content-Encoding")
		return
	}
	q.relayCall(q.upstream.Array)
}

// isCall reports whether the message is, or may hold, a request.
func (q *request) isCall() bool {
	switch q.call.Lane {
	case mcp.LaneRequest:
		return true
	case mcp.LaneOpaque:
		return q.call.Message.Kind != mcp.KindBatch || mcp.HasRequest(q.call.Body)
	case mcp.LaneMessage:
		return q.call.Message.Kind == mcp.KindRequest
	}
	return false
}

// expectsAnswer reports whether an answer has to come for the message, or may have to.
func (q *request) expectsAnswer() bool {
	k := q.call.Message.Kind
	return k != mcp.KindNotification && k != mcp.KindResult && k != mcp.KindError
}

// sessionKey is the session to which the call belongs. Where the agent has none, all calls without one are taken for one.
func (q *request) sessionKey() sessionKey {
	return sessionKey{q.upstream.Name, header(q.call.Header, sessionHeader)}
}

// relayCall relays what is counted as a call in flight.
func (q *request) relayCall(next mcp.Caller) {
	key := q.sessionKey()
	draining, refused := q.handler.streams.beginCall(key)
	if draining && q.call.Lane != mcp.LaneMessage { // whose answer comes on the stream: the session goes on here or nowhere
		q.w.Header()["Connection"] = connectionClose
	}
	if refused {
		q.fail(mcp.Draining())
		return
	}
	defer q.handler.streams.endCall(key)
	q.relay(next)
}

// relayOneWay relays what gets no answer but that it has arrived.
func (q *request) relayOneWay() {
	q.handler.streams.oneWay.Add(1)
	defer q.handler.streams.oneWay.Add(-1)
	q.relay(q.upstream.Caller)
}

// relay hands the call to next and writes what comes back.
func (q *request) relay(next mcp.Caller) {
	q.upstream.calls.begin(q)
	defer q.upstream.calls.end(q)
	res, err := next.Call(q.in.Context(), &q.call)
	if err != nil {
		q.fail(failureOf(err))
		return
	}
	defer res.Close()
	q.answer(res)
}

// relayStream relays a stream that stays open: it takes a place among the streams first.
func (q *request) relayStream() {
	var key sessionKey
	if q.call.Lane == mcp.LaneStream { // servers put nothing of calls on a listen stream (2026-07-28)
		key = q.sessionKey()
	}
	st, ctx, f := q.handler.streams.begin(q.in.Context(), key)
	if f != nil {
		q.fail(f)
		return
	}
	defer q.handler.streams.end(st)
	res, err := q.upstream.Caller.Call(ctx, &q.call)
	if err != nil {
		q.fail(withReason(ctx, err))
		return
	}
	defer res.Close()
	if d, ok := res.Events.(mcp.Drainer); ok {
		q.handler.streams.setDrainer(st, d)
	}
	if res.Events != nil {
		q.upstream.metrics.streams.Inc()
		defer q.upstream.metrics.streams.Dec()
	}
	q.answer(res)
}

// withReason turns the cancellation of a stream's context into its cause: the drain, say.
func withReason(ctx context.Context, err error) *mcp.Failure {
	f := failureOf(err)
	var cause *mcp.Failure
	if f.Reason == mcp.ReasonCanceled && errors.As(context.Cause(ctx), &cause) {
		return cause
	}
	return f
}
