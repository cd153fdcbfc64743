package proxy

import (
	"context"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// request is one request of an agent, from its head to the end of the answer. It belongs to the goroutine that serves it.
type request struct {
	handler  *Handler
	upstream *upstream
	w        http.ResponseWriter
	in       *http.Request // the agent's, never changed
	call     mcp.Call      // what goes out

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
	failed            mcp.FailedCalls // of an array
	timing            mcp.Timing

	bodySpace [1 << 10]byte    // of the request's body, where it fits
	fields    [16]header.Field // of the call's header, where they fit
	answered  [16]string       // the values of the answer's header, where they fit
	values    [2]string        // of the answer's Server-Timing and Content-Length
	text      [160]byte        // in which they lie, where they fit; not changed once they are there
}

// begin makes the request. Whoever begins one finishes it.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, u *upstream) *request {
	return &request{
		handler: h, upstream: u, w: w, in: r, seq: h.lastID.Add(1), outcome: outcomeOK,
		call: mcp.Call{Upstream: u.Name, Query: u.queryOf(r.URL.RawQuery), Start: time.Now(), Conn: r.RemoteAddr},
	}
}

// endpoint relays what comes to the MCP endpoint: a message, the session's stream, or the end of a session.
func (q *request) endpoint() {
	switch q.in.Method {
	case http.MethodPost:
		q.post()
	case http.MethodGet:
		if q.decodeHead(mcp.LaneStream) {
			q.relayStream()
		}
	default:
		if q.decodeHead(mcp.LaneEnd) {
			q.relay(q.upstream.Caller, true)
		}
	}
}

// message relays a POST of the HTTP+SSE transport (2024-11-05, basic/transports): the path is the one that the stage wrote into
// the stream's endpoint event.
func (q *request) message() {
	q.call.Endpoint = chi.URLParam(q.in, "id")
	q.post()
}

// post relays one message.
func (q *request) post() {
	body, ok := q.readBody()
	if !ok {
		return
	}
	q.decode(body)
	switch kind := q.call.Message.Kind; {
	case q.reservedSmall > 0 && kind != mcp.KindNotification && !kind.IsAnswer(): // it has an answer, or may have one
		q.fail(tooMuchBuffered())
	case q.call.Lane.Long():
		q.relayStream()
	default: // answers to the server, and notifications, belong to calls that are to finish
		q.relay(q.upstream.Caller, !q.call.HoldsRequest())
	}
}

// array relays an array whole: it is taken apart by the stage behind. Of what era an element is, that stage finds out, so
// the header goes on with the session that only legacy has.
func (q *request) array() {
	c := &q.call
	c.Lane, c.Request = mcp.LaneArray, q.id()
	body, ok := q.readBody()
	switch {
	case !ok:
		return
	case q.reservedSmall > 0:
		q.fail(tooMuchBuffered())
		return
	}
	c.Body = body
	q.decodeHeader()
	if mcp.IsEncoded(c.Header) { // it cannot be taken apart as it came (RFC 9110, 15.5.16 and 12.5.3)
		q.w.Header()["Accept-Encoding"] = identityEncoding
		q.outcome = outcomeHTTPError
		q.plain(http.StatusUnsupportedMediaType, "an encoded body cannot be taken apart: send it without Content-Encoding")
		return
	}
	q.relay(q.upstream.Array, false)
}

// sessionKey is the session to which the call belongs. Where the agent has none, all calls without one are taken for one.
func (q *request) sessionKey() sessionKey {
	return sessionKey{q.upstream.Name, q.call.Header.Get(sessionHeader)}
}

// relay hands the call to next and writes what comes back. oneWay says that the call gets no answer but that it has arrived.
func (q *request) relay(next mcp.Caller, oneWay bool) {
	all := q.handler.inFlight
	draining, refused := all.begin(q, oneWay)
	if draining && !oneWay && q.call.Lane != mcp.LaneMessage { // whose answer comes on the stream: the session goes on here or nowhere
		q.w.Header()["Connection"] = connectionClose
	}
	if refused != nil {
		q.fail(refused)
		return
	}
	defer all.end(q, oneWay)
	res, err := next.Call(q.in.Context(), &q.call)
	if err != nil {
		q.fail(mcp.AsFailure(err))
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
	all := q.handler.inFlight
	st, ctx, refused := all.beginStream(q.in.Context(), key, q.upstream.Users)
	if refused != nil {
		q.fail(refused)
		return
	}
	defer all.endStream(st)
	res, err := q.upstream.Caller.Call(ctx, &q.call)
	if err != nil {
		q.fail(failureOf(ctx, err))
		return
	}
	defer res.Close()
	if d, ok := res.Events.(mcp.Drainer); ok {
		all.setDrainer(st, d)
	}
	if res.Events != nil {
		open := q.handler.opts.Metrics.streams.WithLabelValues(q.upstream.Name)
		open.Inc()
		defer open.Dec()
	}
	q.answer(res)
}

// failureOf returns the failure of what ran on a context: its cause, the drain say, where the context has ended.
func failureOf(ctx context.Context, err error) *mcp.Failure {
	f := mcp.AsFailure(err)
	if f.Reason == mcp.ReasonCanceled {
		return mcp.Canceled(ctx, f.Sent)
	}
	return f
}
