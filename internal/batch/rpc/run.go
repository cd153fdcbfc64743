package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/mcp"
)

// maxElements is how many elements an array may have.
const maxElements = 1000

// run is one array under way.
type run struct {
	a        *Arrays
	call     *mcp.Call
	single   bool // one message, not an array
	elements []element
	next     atomic.Int64 // of the elements, the first that nobody has begun
	room     *mcp.Budget  // of the answers together
	full     atomic.Bool  // an answer did not fit: no request goes out any more

	version string      // MCP-Protocol-Version of the caller, ""
	session []string    // Mcp-Session-Id of the caller, nil
	header  http.Header // of the caller, without what is said of each call by itself

	once      sync.Once
	partition [32]byte // of header, see whose

	mu     sync.Mutex // guards the following
	failed mcp.FailedCalls
}

// element is one of its elements. It belongs to the one goroutine that has begun it.
type element struct {
	body    []byte // as sent
	answer  []byte // pooled; nil where there is none
	at      mcp.Span
	put     []byte       // what stands at that span instead: the id as it was asked
	failure *mcp.Failure // why a notification was not taken, or what a refused message is
}

// read takes an array apart.
func (a *Arrays) read(c *mcp.Call) (*run, *mcp.Failure) {
	r := &run{a: a, call: c, room: mcp.NewBudget(a.opts.Answers)}
	if body := bytes.TrimLeft(c.Body, " \t\r\n"); len(body) == 0 || body[0] != '[' {
		var m mcp.Message
		var scan *mcp.ScanError
		if err := mcp.Scan(c.Body, &m); errors.As(err, &scan) && (!scan.Invalid || len(body) == 0 || body[0] != '{') {
			return nil, scanFailure(err)
		}
		r.single, r.elements = true, []element{{body: c.Body}}
	} else {
		var room [64]mcp.Span
		spans, err := mcp.Elements(room[:0], c.Body, maxElements)
		if err != nil {
			return nil, scanFailure(err)
		}
		r.elements = make([]element, len(spans))
		for i, s := range spans {
			r.elements[i].body = s.Of(c.Body)
		}
	}
	r.readHeader(c.Header)
	return r, nil
}

func scanFailure(err error) *mcp.Failure {
	var scan *mcp.ScanError
	if errors.As(err, &scan) && scan.Invalid {
		return refused(mcp.CodeInvalidRequest, mcp.ReasonInvalidMessage, "Invalid Request: "+err.Error())
	}
	return refused(mcp.CodeParse, mcp.ReasonParse, "Parse error: "+err.Error())
}

// refusal is the answer to what is no array.
func (a *Arrays) refusal(c *mcp.Call, f *mcp.Failure) *mcp.Result {
	return &mcp.Result{
		Status: http.StatusBadRequest, Header: http.Header{"Content-Type": jsonType},
		Body: mcp.AppendError(nil, f, unknownID, a.opts.Upstream, c.Request), Failed: &mcp.FailedCalls{First: f, Calls: 1},
	}
}

// count counts a failure for the log and the metrics of the whole.
func (r *run) count(f *mcp.Failure) {
	r.mu.Lock()
	r.failed.Add(f)
	r.mu.Unlock()
}

// run answers every element. It returns when none is under way.
func (r *run) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range min(r.a.opts.Concurrency*r.a.opts.MaxBatch, len(r.elements)) {
		workers.Go(func() { r.work(ctx) })
	}
	workers.Wait()
}

func (r *run) work(ctx context.Context) {
	for {
		i := int(r.next.Add(1)) - 1
		if i >= len(r.elements) {
			return
		}
		r.answer(ctx, &r.elements[i])
	}
}

// answer answers one element, if it is to have an answer.
func (r *run) answer(ctx context.Context, e *element) {
	var m mcp.Message
	defer func() {
		if p := recover(); p != nil {
			r.panicked(e, &m, p)
		}
	}()
	if f := r.refuses(e.body, &m); f != nil {
		r.a.meters.refused.Inc()
		e.failure = f
		if m.Kind != mcp.KindNotification {
			r.refuse(e, &m, f)
		}
		return
	}
	if m.Kind == mcp.KindNotification {
		r.a.meters.notified.Inc()
		if e.failure = r.notify(ctx, e, &m); e.failure != nil {
			r.count(e.failure)
		}
		return
	}
	r.ask(ctx, e, &m)
}

// refuses scans an element, and says why it does not go on. An array is of requests and notifications. What needs a
// connection of its own, or a caller that gets what else comes, cannot be in one (design/resilience.md, "Batches").
func (r *run) refuses(body []byte, m *mcp.Message) *mcp.Failure {
	if err := mcp.Scan(body, m); err != nil {
		return scanFailure(err)
	}
	if m.Loose && m.Kind != mcp.KindResult && m.Kind != mcp.KindError { // it cannot be sent as it came: another id goes into it, or `_meta`
		m.Kind = mcp.KindInvalid
		return refused(mcp.CodeParse, mcp.ReasonParse, "Parse error: a string that is no Unicode, a byte order mark, or null where a value has to be")
	}
	what := ""
	switch {
	case m.Kind != mcp.KindRequest && m.Kind != mcp.KindNotification:
		what = "neither a request nor a notification"
	case r.a.opts.Plain:
		m.Method = mcp.MethodOther
	case m.Method == mcp.MethodInitialize, m.Method == mcp.MethodSubscriptionsListen, m.Method == mcp.MethodResourcesSubscribe:
		what = m.Method.String() + " is not possible here"
	case m.ProgressToken.Present():
		what = "a progressToken is not possible here"
	}
	if what == "" {
		return nil
	}
	return refused(mcp.CodeInvalidRequest, mcp.ReasonInvalidMessage, "Invalid Request: "+what)
}

func refused(code int, reason mcp.Reason, message string) *mcp.Failure {
	return &mcp.Failure{Code: code, Reason: reason, Sent: mcp.SentNo, Message: message}
}

// ask sends a request and keeps its answer.
func (r *run) ask(ctx context.Context, e *element, m *mcp.Message) {
	var reply reply
	f := r.mayAsk(ctx)
	if f == nil {
		reply, f = r.send(ctx, e.body, m)
	}
	if f == nil && reply.Body == nil {
		f = reply.Failure()
	}
	if f != nil {
		r.fail(e, m, f)
		return
	}
	e.answer = reply.Body
	r.countAnswer(m.Method, reply.Body, &reply.Message)
	id := m.ID.Of(e.body)
	if e.at, e.put = reply.Message.ID, id; !e.at.Present() { // an error without an id: here, others stand beside it
		start := reply.Message.Whole.Start + 1
		e.at, e.put = mcp.Span{Start: start, End: start}, append(append([]byte(`"id":`), id...), ',')
	}
}

// countAnswer counts an answer of the server's.
func (r *run) countAnswer(method mcp.Method, body []byte, m *mcp.Message) {
	switch {
	case m.Kind == mcp.KindError:
		r.a.meters.errors.Inc()
	case method == mcp.MethodToolsCall && string(m.IsError.Of(body)) == "true":
		r.a.meters.toolErrors.Inc()
	default:
		r.a.meters.answered.Inc()
	}
}

// mayAsk says why no request goes out any more.
func (r *run) mayAsk(ctx context.Context) *mcp.Failure {
	if ctx.Err() != nil {
		return mcp.Left(ctx, mcp.SentNo)
	}
	if r.full.Load() {
		return tooManyAnswers(mcp.SentNo)
	}
	return nil
}

// ended makes a failure that comes from the end of ctx one with its reason.
func ended(ctx context.Context, f *mcp.Failure) *mcp.Failure {
	if f.Reason == mcp.ReasonCanceled && ctx.Err() != nil {
		return mcp.Left(ctx, f.Sent)
	}
	return f
}

// fail makes the failure of a call, which is not its own fault, the element's answer.
func (r *run) fail(e *element, m *mcp.Message, f *mcp.Failure) {
	r.a.meters.failed.Inc()
	f = givenUp(f)
	r.count(f)
	r.refuse(e, m, f)
}

// givenUp makes a failure one for the caller where it says that the caller left: it was not the caller, or nobody reads
// this.
func givenUp(f *mcp.Failure) *mcp.Failure {
	if f.Reason != mcp.ReasonCanceled {
		return f
	}
	own := *f
	own.Code, own.Reason, own.Message = mcp.CodeBadGateway, mcp.ReasonBrokeOff, "the call was given up"
	return &own
}

// refuse makes a failure the element's answer, under its id if that is readable.
func (r *run) refuse(e *element, m *mcp.Message, f *mcp.Failure) {
	e.answer = mcp.AppendError(nil, f, readableID(m.ID.Of(e.body)), r.a.opts.Upstream, r.call.Request)
	e.at, e.put = mcp.Span{}, nil
}

// unknownID is the id in an error about what has none that can be read (JSON-RPC 2.0, section 5).
var unknownID = []byte("null")

// readableID returns an id as it was sent, and unknownID in place of none and of a string that is no Unicode.
func readableID(id []byte) []byte {
	if len(id) == 0 {
		return unknownID
	}
	if _, ok := mcp.Text(id); id[0] == '"' && !ok {
		return unknownID
	}
	return id
}

// panicked is what becomes of an element whose call panicked.
func (r *run) panicked(e *element, m *mcp.Message, p any) {
	r.a.opts.Log.Error("bug: a call of an array panicked", "upstream", r.a.opts.Upstream, "panic", fmt.Sprint(p),
		"stack", string(debug.Stack()))
	if e.failure = mcp.Inside(fmt.Errorf("panic: %v", p)); m.Kind != mcp.KindNotification {
		r.fail(e, m, e.failure)
	}
}

// overall returns the failure of the array as a whole: its caller has left, or it is of notifications of which none was
// taken.
func (r *run) overall(ctx context.Context) *mcp.Failure {
	if f := mcp.Left(ctx, mcp.SentUnknown); ctx.Err() != nil && f.Reason == mcp.ReasonCanceled {
		return f
	}
	if f := r.nothingTaken(); f != nil {
		return givenUp(f)
	}
	return nil
}

// nothingTaken returns, of notifications that all failed, the failure of one: of that which is the likeliest to have been
// sent.
func (r *run) nothingTaken() (likeliest *mcp.Failure) {
	for i := range r.elements {
		e := &r.elements[i]
		if e.answer != nil || e.failure == nil {
			return nil
		}
		if likeliest == nil || e.failure.Sent.Likelier(likeliest.Sent) != likeliest.Sent {
			likeliest = e.failure
		}
	}
	return likeliest
}

// result puts the answers together.
func (r *run) result() *mcp.Result {
	res := mcp.Accepted()
	if r.failed.Calls > 0 {
		res.Failed = &r.failed
	}
	body := r.body()
	if body == nil {
		return res
	}
	res.Status, res.Header["Content-Type"], res.Body = http.StatusOK, jsonType, body
	if r.single && r.elements[0].failure != nil {
		res.Status = http.StatusBadRequest
	}
	res.Release = func() { r.a.opts.Buffers.Put(body) }
	return res
}

// body is the answers as JSON, pooled; nil if there are none.
func (r *run) body() []byte {
	size := len("[]")
	for i := range r.elements {
		if e := &r.elements[i]; e.answer != nil {
			size += len(e.answer) + len(e.put) + len(",")
		}
	}
	if size == len("[]") {
		return nil
	}
	body := append(r.a.opts.Buffers.Get(size), '[')
	for i := range r.elements {
		if e := &r.elements[i]; e.answer != nil {
			body = append(mcp.Splice(body, e.answer, e.at, e.put), ',')
		}
	}
	r.drop()
	if r.single { // without the bracket, and its comma
		return append(body[:0], body[1:len(body)-1]...)
	}
	body[len(body)-1] = ']'
	return body
}

// drop gives the memory of answers back that nobody needs any more.
func (r *run) drop() {
	for i := range r.elements {
		r.a.opts.Buffers.Put(r.elements[i].answer)
		r.elements[i].answer = nil
	}
}
