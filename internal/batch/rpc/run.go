package rpc

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/http1/header"
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
	next     atomic.Int64 // index of the first element that has not begun
	budget   *mcp.Budget  // of the answers together
	full     atomic.Bool  // an answer did not fit: no request goes out any more

	version string      // MCP-Protocol-Version of the caller, ""
	session string      // Mcp-Session-Id of the caller, ""
	header  header.List // of the caller, without what is said of each call by itself

	partition [32]byte // of header; Plain: unknown

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

// read takes an array apart. What is none is one element.
func (a *Arrays) read(c *mcp.Call) *run {
	r := &run{a: a, call: c, budget: mcp.NewBudget(a.opts.Answers)}
	r.readHeader(c.Header)
	var some [64]mcp.Span
	spans, err := mcp.Elements(some[:0], c.Body, maxElements)
	if err != nil {
		r.single, r.elements = true, []element{{body: c.Body}}
		return r
	}
	r.elements = make([]element, len(spans))
	for i, s := range spans {
		r.elements[i].body = s.Of(c.Body)
	}
	return r
}

// run answers every element. It returns when none is under way.
func (r *run) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range min(r.a.opts.Concurrency*r.a.opts.MaxBatch, len(r.elements)) {
		workers.Go(func() {
			for i := r.next.Add(1) - 1; i < int64(len(r.elements)); i = r.next.Add(1) - 1 {
				r.answer(ctx, &r.elements[i])
			}
		})
	}
	workers.Wait()
}

// answer answers one element, if it is to have an answer.
func (r *run) answer(ctx context.Context, e *element) {
	var m mcp.Message
	defer func() {
		if p := recover(); p != nil {
			r.fail(e, &m, r.a.panicked("a call of an array", p))
		}
	}()
	if e.failure = r.refuses(e.body, &m); e.failure != nil {
		r.a.meters.refused.Inc()
		if m.Kind != mcp.KindNotification {
			r.refuse(e, &m, e.failure)
		}
		return
	}
	if m.Kind == mcp.KindNotification {
		r.a.meters.notified.Inc()
	}
	p, f := r.ask(ctx, e.body, &m)
	switch {
	case f != nil:
		r.fail(e, &m, f)
	case m.Kind == mcp.KindRequest:
		r.keep(e, &m, &p)
	}
}

// refuses scans an element, and says why it does not go on. An array is of requests and notifications. What needs a
// connection of its own, or a caller that gets what else comes, cannot be in one (docs/rpc.md).
func (r *run) refuses(body []byte, m *mcp.Message) *mcp.Failure {
	fault, _ := mcp.Scan(body, m).(*mcp.ScanError) // there is no other error
	what := ""
	switch {
	case fault != nil && fault.Invalid:
		what = fault.Error()
	case fault != nil:
		return parseError(fault.Error())
	case m.Kind == mcp.KindBatch && !m.Loose:
		what = "an array has 1 to 1,000 elements, and none is an array"
	case m.Kind == mcp.KindResult || m.Kind == mcp.KindError:
		what = "neither a request nor a notification"
	case m.Loose: // it cannot be sent as it came: another id goes into it, or `_meta`
		m.Kind = mcp.KindInvalid
		return parseError("a string that is no Unicode, a byte order mark, or null where a value has to be")
	case r.a.opts.Plain:
		m.Method = mcp.MethodOther
		return nil
	case m.Method == mcp.MethodInitialize, m.Method == mcp.MethodSubscriptionsListen, m.Method == mcp.MethodResourcesSubscribe:
		what = m.Method.String() + " is not possible here"
	case m.ProgressToken.Present():
		what = "a progressToken is not possible here"
	default:
		return nil
	}
	return &mcp.Failure{
		Code: mcp.CodeInvalidRequest, Reason: mcp.ReasonInvalidMessage, Sent: mcp.SentNo, Message: "Invalid Request: " + what,
	}
}

func parseError(what string) *mcp.Failure {
	return &mcp.Failure{Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo, Message: "Parse error: " + what}
}

// ask sends a message. The failure says why it has no answer or, of a notification, why it was not taken.
func (r *run) ask(ctx context.Context, body []byte, m *mcp.Message) (reply, *mcp.Failure) {
	request := m.Kind == mcp.KindRequest
	switch {
	case ctx.Err() != nil:
		return reply{}, mcp.Canceled(ctx, mcp.SentNo)
	case request && r.full.Load():
		return reply{}, tooManyAnswers(mcp.SentNo)
	}
	p, f := r.send(ctx, body, m)
	switch {
	case f != nil:
		if f.Reason == mcp.ReasonRPCAnswers && f.Sent == mcp.SentYes { // and not of what had to come before it
			r.full.Store(true)
		}
	case request && p.Body == nil, !request && p.Status >= http.StatusMultipleChoices:
		f = p.Failure()
	}
	return p, f
}

// keep makes the server's answer the element's, under the id as it was asked, and counts it.
func (r *run) keep(e *element, m *mcp.Message, p *reply) {
	switch {
	case p.Message.Kind == mcp.KindError:
		r.a.meters.errors.Inc()
	case m.Method == mcp.MethodToolsCall && string(p.Message.IsError.Of(p.Body)) == "true":
		r.a.meters.toolErrors.Inc()
	default:
		r.a.meters.answered.Inc()
	}
	e.answer, e.at, e.put = p.Body, p.Message.ID, m.ID.Of(e.body)
	if !e.at.Present() { // an error without an id: here, others stand beside it
		start := p.Message.Whole.Start + 1
		e.at, e.put = mcp.Span{Start: start, End: start}, append(append([]byte(`"id":`), e.put...), ',')
	}
}

// ended makes a failure that comes from the end of ctx one with its reason.
func ended(ctx context.Context, f *mcp.Failure) *mcp.Failure {
	if f.Reason == mcp.ReasonCanceled && ctx.Err() != nil {
		return mcp.Canceled(ctx, f.Sent)
	}
	return f
}

// fail notes that a message failed, which is not its own fault. A request gets that as its answer.
func (r *run) fail(e *element, m *mcp.Message, f *mcp.Failure) {
	f = givenUp(f)
	r.mu.Lock()
	r.failed.Add(f)
	r.mu.Unlock()
	if m.Kind == mcp.KindNotification {
		e.failure = f
		return
	}
	r.a.meters.failed.Inc()
	r.refuse(e, m, f)
}

// givenUp rewrites a failure which says that the caller left: it was another one, or the caller does not read this.
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
	if _, ok := mcp.Text(id); len(id) == 0 || id[0] == '"' && !ok {
		return unknownID
	}
	return id
}

// overall returns the failure of the array as a whole: its caller has left, or it is of notifications of which none was
// taken. Then it is that of one which is the likeliest to have been sent.
func (r *run) overall(ctx context.Context) (likeliest *mcp.Failure) {
	if f := mcp.Canceled(ctx, mcp.SentUnknown); ctx.Err() != nil && f.Reason == mcp.ReasonCanceled {
		return f
	}
	for _, e := range r.elements {
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
	if body := r.body(); body != nil {
		res.Status, res.Body = http.StatusOK, body
		res.Header.Set("Content-Type", jsonType)
		res.Release = func() { r.a.opts.Buffers.Put(body) }
	}
	if f := r.elements[0].failure; r.single && f != nil {
		res.Status = http.StatusBadRequest
		r.failed.Add(f)
	}
	if r.failed.Calls > 0 {
		res.Failed = &r.failed
	}
	return res
}

// body is the answers as JSON, pooled; nil if there are none.
func (r *run) body() []byte {
	size := len("[")
	for _, e := range r.elements {
		size += len(e.answer) + len(e.put) + len(",")
	}
	body := append(r.a.opts.Buffers.Get(size), '[')
	for _, e := range r.elements {
		if e.answer != nil {
			body = append(mcp.Splice(body, e.answer, e.at, e.put), ',')
		}
	}
	r.drop()
	switch last := len(body) - 1; {
	case last == 0:
		r.a.opts.Buffers.Put(body)
		return nil
	case r.single: // without the bracket, and its comma
		return append(body[:0], body[1:last]...)
	default:
		body[last] = ']'
		return body
	}
}

// drop gives the memory of the answers back.
func (r *run) drop() {
	for i := range r.elements {
		r.a.opts.Buffers.Put(r.elements[i].answer)
		r.elements[i].answer = nil
	}
}
