package proxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"fluentd-perf/internal/mcp"
)

// Header values that never change, shared by all answers.
var (
	jsonType  = []string{"application/json"}
	noBuffers = []string{"no"}
	lastOne   = []string{"close"} // of Connection
)

// exchange is one request of an agent on its way through the door and back. It belongs to the handler's goroutine.
type exchange struct {
	door  *Door
	up    *upstream
	w     http.ResponseWriter
	r     *http.Request
	alias bool // reached by /mcp
	call  mcp.Call
	links

	// What came of it, for the access line and the metrics.
	seq     uint64
	status  int
	in, out int64
	outcome outcome
	tool    toolResult
	held    int  // bytes of the budget
	spared  int  // bytes of what is there for small messages beside it
	hit     bool // the cache or another call brought the answer
	failure *mcp.Failure
	failed  *mcp.FailedCalls // of an array
	timing  mcp.Timing

	room   [1 << 10]byte // of the request's body, where it fits
	values [2]string     // of the answer's Server-Timing and Content-Length
	text   [160]byte     // in which they lie, where they fit; not changed once they are there
}

func (d *Door) begin(w http.ResponseWriter, r *http.Request, u *upstream) *exchange {
	return &exchange{
		door: d, up: u, w: w, r: r, seq: d.ids.next(),
		call: mcp.Call{Upstream: u.Name, Query: u.queryOf(r.URL.RawQuery), Start: time.Now(), Conn: r.RemoteAddr},
	}
}

// post relays one POST.
func (x *exchange) post() {
	if !x.door.authorized(x.w, x.r, x.up) {
		return
	}
	defer x.finish()
	body, ok := x.readBody()
	if !ok {
		return
	}
	x.decode(body)
	if x.spared > 0 && x.owedAnswer() {
		x.fail(tooMuchBuffered())
		return
	}
	if x.call.Lane.Long() {
		x.long()
		return
	}
	if !x.isCall() { // answers to the server, and notifications, belong to calls that are to finish
		x.relayUnowed()
		return
	}
	x.relayCall(x.up.Caller)
}

// relayUnowed relays what is owed no answer but that it has arrived.
func (x *exchange) relayUnowed() {
	x.door.streams.unowed.Add(1)
	defer x.door.streams.unowed.Add(-1)
	x.relay(x.r.Context(), x.up.Caller)
}

// isCall reports whether the message is, or may hold, a request.
func (x *exchange) isCall() bool {
	switch x.call.Lane {
	case mcp.LaneRequest:
		return true
	case mcp.LaneOpaque:
		return x.call.Message.Kind != mcp.KindBatch || mcp.HasRequest(x.call.Body)
	case mcp.LaneMessage:
		return x.call.Message.Kind == mcp.KindRequest
	}
	return false
}

// owedAnswer reports whether an answer has to come for the message, or may have to.
func (x *exchange) owedAnswer() bool {
	switch x.call.Message.Kind {
	case mcp.KindNotification, mcp.KindResult, mcp.KindError:
		return false
	}
	return true
}

// relayCall relays what is counted as a call in flight.
func (x *exchange) relayCall(next mcp.Caller) {
	of := x.dialogueOf()
	late, refused := x.door.streams.beginCall(of)
	if late && x.call.Lane != mcp.LaneMessage { // whose answer comes on the stream: the session goes on here or nowhere
		x.w.Header()["Connection"] = lastOne
	}
	if refused {
		x.fail(mcp.Draining())
		return
	}
	defer x.door.streams.endCall(of)
	x.relay(x.r.Context(), next)
}

func (x *exchange) dialogueOf() dialogue {
	return dialogue{x.up, header(x.call.Header, "Mcp-Session-Id")}
}

// get relays a GET: the session's stream, or what the server says instead.
func (x *exchange) get() {
	if !x.door.authorized(x.w, x.r, x.up) {
		return
	}
	defer x.finish()
	if x.headOnly(mcp.LaneStream) {
		x.long()
	}
}

// end relays a DELETE: the end of a session.
func (x *exchange) end() {
	if !x.door.authorized(x.w, x.r, x.up) {
		return
	}
	defer x.finish()
	if x.headOnly(mcp.LaneEnd) {
		x.relayUnowed()
	}
}

// readBody reads the request's body, or answers why it cannot and reports false.
func (x *exchange) readBody() ([]byte, bool) {
	body, err := readBody(x.r, x.door.opts.BodyLimit, x.room[:], x.hold)
	x.in = int64(len(body))
	if err != nil {
		x.failBody(err)
		return nil, false
	}
	x.clearReadDeadline()
	return body, true
}

// hold takes bytes of the budget until the request has ended, or where it is spent, of what is there for small messages.
func (x *exchange) hold(bytes int) bool {
	switch {
	case x.door.opts.Buffered.Take(bytes):
		x.held += bytes
	case x.held+x.spared+bytes <= smallMessage && x.door.spare.Take(bytes):
		x.spared += bytes
	default:
		return false
	}
	return true
}

// headOnly makes the call of a request whose body, if it has one, means nothing. It is read all the same: net/http would
// do that before the answer, without a deadline, and not notice an agent that leaves.
func (x *exchange) headOnly(lane mcp.Lane) bool {
	x.call.Lane = lane
	if _, ok := x.readBody(); !ok {
		return false
	}
	x.decodeHeader()
	dropLegacy(&x.call)
	return true
}

// long relays a stream that stays open: it takes a place among the streams first.
func (x *exchange) long() {
	var of dialogue
	if x.call.Lane == mcp.LaneStream { // servers put nothing of calls on a listen stream (2026-07-28)
		of = x.dialogueOf()
	}
	st, ctx, f := x.door.streams.begin(x.r.Context(), of)
	if f != nil {
		x.fail(f)
		return
	}
	defer x.door.streams.end(st)
	res, err := x.up.Caller.Call(ctx, &x.call)
	if err != nil {
		x.fail(x.withReason(ctx, err))
		return
	}
	defer res.Close()
	if d, ok := res.Events.(mcp.Drainer); ok {
		x.door.streams.owesAnswers(st, d)
	}
	if res.Events != nil {
		x.up.metrics.streams.Inc()
		defer x.up.metrics.streams.Dec()
	}
	x.answer(res)
}

// relay hands the call to next and writes what comes back.
func (x *exchange) relay(ctx context.Context, next mcp.Caller) {
	x.up.calls.begin(x)
	defer x.up.calls.end(x)
	res, err := next.Call(ctx, &x.call)
	if err != nil {
		x.fail(failureOf(err))
		return
	}
	defer res.Close()
	x.answer(res)
}

// withReason turns the cancellation of a stream's context into its cause: the drain, say.
func (x *exchange) withReason(ctx context.Context, err error) *mcp.Failure {
	f := failureOf(err)
	var cause *mcp.Failure
	if f.Reason == mcp.ReasonCanceled && errors.As(context.Cause(ctx), &cause) {
		return cause
	}
	return f
}

// failBody answers a request whose body did not come, or came too large. What is left of it is not read, so the
// connection cannot be used again.
func (x *exchange) failBody(err error) {
	x.w.Header().Set("Connection", "close")
	var f *mcp.Failure
	switch {
	case errors.As(err, &f):
		x.fail(f)
	case errors.Is(err, errSlowBody):
		x.status, x.outcome = http.StatusRequestTimeout, outcomeSlowBody
		plain(x.w, x.status, err.Error())
	default:
		x.fail(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Cause: err})
	}
}

// clearReadDeadline takes off the deadline that the server set for reading the request: what follows may take long, and
// net/http watches the connection with a read meanwhile.
func (x *exchange) clearReadDeadline() {
	// Only a ResponseWriter that has no deadlines (a recorder in a test) does not take it.
	if c, ok := x.w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = c.SetReadDeadline(time.Time{}) // fails on a connection that is gone, which the next read or write finds out
	}
}

// answer writes a result: whole, as events, or as it comes.
func (x *exchange) answer(res *mcp.Result) {
	x.timing = res.Timing
	x.status = res.Status
	x.hit = res.Cached || res.Collapsed
	if res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden {
		x.challenged(res)
	}
	h := x.w.Header()
	copyAnswerHeader(h, res.Header, len(h["Access-Control-Allow-Origin"]) > 0)
	x.noteAgent()
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // else net/http guesses one
	}
	switch {
	case res.Events != nil:
		x.answerEvents(res)
	case res.Raw != nil:
		x.serverTiming(h, res.Timing)
		x.outcome = outcomeOfRaw(&x.call, res)
		x.answerRaw(res)
	default:
		x.outcome = outcomeOf(x.call.Lane, res)
		x.noteResult(res.Said(), &res.Message)
		if res.Failed != nil {
			x.failed = res.Failed
			x.note(res.Failed.First)
		}
		x.answerBody(h, res)
	}
}

func (x *exchange) answerBody(h http.Header, res *mcp.Result) {
	x.bodyHeader(h, res)
	x.w.WriteHeader(res.Status)
	const fitsTheSocket, piece = 32 << 10, 1 << 20
	if len(res.Body) > fitsTheSocket {
		defer x.setWriteDeadline(time.Time{})
	}
	for b := res.Body; len(b) > 0; {
		n := min(len(b), piece)
		if len(res.Body) > fitsTheSocket {
			x.setWriteDeadline(time.Now().Add(writeTimeout))
		}
		if x.write(b[:n]) != nil {
			return
		}
		b = b[n:]
	}
}

// bodyHeader says of a whole answer how long it is and where the time went. It is called once: both values lie in x.text.
func (x *exchange) bodyHeader(h http.Header, res *mcp.Result) {
	b := x.appendTimings(x.text[:0], res.Timing)
	n := len(b)
	b = strconv.AppendInt(b, int64(len(res.Body)), 10)
	text := unsafe.String(&b[0], len(b))
	x.values = [...]string{text[:n], text[n:]}
	addServerTiming(h, x.values[0:1:1])
	if bodyAllowed(res.Status) {
		h["Content-Length"] = x.values[1:2:2]
	}
}

// answerRaw passes a body on as it comes, head and pieces at once: nobody knows what of it the agent waits for. If it breaks
// off, so does the agent's connection: an end would make a whole answer of it.
func (x *exchange) answerRaw(res *mcp.Result) {
	x.w.WriteHeader(res.Status)
	buf := rawBuffers.Get().(*[rawPiece]byte)
	defer rawBuffers.Put(buf)
	defer x.setWriteDeadline(time.Time{})
	var until time.Time // the write deadline
	flush := http.NewResponseController(x.w).Flush
	if flush() != nil {
		x.note(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes})
		return
	}
	for {
		n, err := res.Raw.Read(buf[:])
		if n > 0 {
			if now := time.Now(); until.Sub(now) < writeTimeout {
				until = now.Add(writeTimeout + writeTimeout/4) // not with every piece: it costs as much as a small write
				x.setWriteDeadline(until)
			}
			if x.write(buf[:n]) != nil || flush() != nil {
				x.note(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes})
				return
			}
		}
		if err != nil {
			if !isEOF(err) {
				x.note(failureOf(err))
				x.abort()
			}
			return
		}
	}
}

// rawPiece is how much of a body that passes as it comes is read at once.
const rawPiece = 64 << 10

var rawBuffers = sync.Pool{New: func() any { return new([rawPiece]byte) }}

// writeTimeout bounds one write to an agent that does not read, where an upstream's connection waits behind it.
const writeTimeout = time.Minute

func (x *exchange) setWriteDeadline(t time.Time) {
	_ = http.NewResponseController(x.w).SetWriteDeadline(t)
}

func (x *exchange) write(b []byte) error {
	n, err := x.w.Write(b)
	x.out += int64(n)
	return err
}

// abort ends the agent's connection in the middle, which no client takes for an answer.
func (x *exchange) abort() { panic(http.ErrAbortHandler) }

// bodyAllowed reports whether an answer of the status has a body (RFC 9110, 6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
