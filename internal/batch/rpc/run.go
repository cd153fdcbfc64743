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

// arrayRun is one array on its way.
type arrayRun struct {
	a        *Stage
	call     *mcp.Call
	single   bool // one message, not an array
	elements []arrayElement
	next     atomic.Int64 // of the elements, the first that nobody has begun
	room     answerRoom

	version string      // MCP-Protocol-Version of the caller, ""
	session []string    // Mcp-Session-Id of the caller, nil
	header  http.Header // of the caller, without what is said of each call by itself

	once      sync.Once
	partition [32]byte // of header, see whose

	mu      sync.Mutex // guards the following
	legacy  http.Header
	legacyS *ownSession // whose header legacy is
	broken  mcp.FailedCalls
}

// arrayElement is one of its elements. It belongs to the one goroutine that has begun it.
type arrayElement struct {
	body    []byte // as sent
	answer  []byte // pooled; nil where there is none
	at      mcp.Span
	put     []byte       // what stands at that span instead: the id as it was asked
	failure *mcp.Failure // why a notification was not taken, or what a refused message is
}

// read takes an array apart.
func (a *Stage) read(c *mcp.Call) (*arrayRun, *mcp.Failure) {
	r := &arrayRun{a: a, call: c}
	r.room.left.Store(a.opts.Answers)
	if body := bytes.TrimLeft(c.Body, " \t\r\n"); len(body) == 0 || body[0] != '[' {
		var m mcp.Message
		var scan *mcp.ScanError
		if err := mcp.Scan(c.Body, &m); errors.As(err, &scan) && (!scan.Invalid || len(body) == 0 || body[0] != '{') {
			return nil, scanFailure(err)
		}
		r.single, r.elements = true, []arrayElement{{body: c.Body}}
	} else {
		var room [64]mcp.Span
		spans, err := mcp.Elements(room[:0], c.Body, maxElements)
		if err != nil {
			return nil, scanFailure(err)
		}
		r.elements = make([]arrayElement, len(spans))
		for i, s := range spans {
			r.elements[i].body = s.Of(c.Body)
		}
	}
	r.readHeader(c.Header)
	return r, nil
}

func scanFailure(err error) *mcp.Failure {
	f := &mcp.Failure{Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo, Message: "Parse error: " + err.Error()}
	var scan *mcp.ScanError
	if errors.As(err, &scan) && scan.Invalid {
		f.Code, f.Reason, f.Message = mcp.CodeInvalidRequest, mcp.ReasonInvalidMessage, "Invalid Request: "+err.Error()
	}
	return f
}

// refusal is the answer to what is no array.
func (a *Stage) refusal(c *mcp.Call, f *mcp.Failure) *mcp.Result {
	return &mcp.Result{
		Status: http.StatusBadRequest, Header: http.Header{"Content-Type": jsonType},
		Body: mcp.AppendError(nil, f, unknownID, a.opts.Upstream, c.Request), Failed: &mcp.FailedCalls{First: f, Calls: 1},
	}
}

// note counts a failure for the log and the metrics of the whole.
func (r *arrayRun) note(f *mcp.Failure) {
	r.mu.Lock()
	r.broken.Add(f)
	r.mu.Unlock()
}

// run sees every element through. It returns when none is under way.
func (r *arrayRun) run(ctx context.Context) {
	most := min(r.a.opts.Concurrency*r.a.opts.MaxBatch, len(r.elements))
	if most == 1 {
		r.work(ctx)
		return
	}
	var workers sync.WaitGroup
	for range most {
		workers.Go(func() { r.work(ctx) })
	}
	workers.Wait()
}

func (r *arrayRun) work(ctx context.Context) {
	for {
		i := int(r.next.Add(1)) - 1
		if i >= len(r.elements) {
			return
		}
		r.see(ctx, &r.elements[i])
	}
}

// see sees one element through: it has its answer after that, if it is to have one.
func (r *arrayRun) see(ctx context.Context, e *arrayElement) {
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
			r.fail(e, &m, f)
		}
		return
	}
	if m.Kind == mcp.KindNotification {
		r.a.meters.notified.Inc()
		if e.failure = r.notify(ctx, e, &m); e.failure != nil {
			r.note(e.failure)
		}
		return
	}
	r.ask(ctx, e, &m)
}

// refuses scans an element, and says why it does not go on. An array is of requests and notifications. What needs a
// connection of its own, or an asker that hears what else comes, cannot be in one (design/resilience.md, "Batches").
func (r *arrayRun) refuses(body []byte, m *mcp.Message) *mcp.Failure {
	if err := mcp.Scan(body, m); err != nil {
		return scanFailure(err)
	}
	if m.Loose && m.Kind != mcp.KindResult && m.Kind != mcp.KindError { // it cannot be sent as it came: another id goes into it, or `_meta`
		m.Kind = mcp.KindInvalid
		return &mcp.Failure{
			Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo,
			Message: "Parse error: a string that is no Unicode, a byte order mark, or null where a value has to be",
		}
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
	return &mcp.Failure{
		Code: mcp.CodeInvalidRequest, Reason: mcp.ReasonInvalidMessage, Sent: mcp.SentNo, Message: "Invalid Request: " + what,
	}
}

// ask sends a request and keeps its answer.
func (r *arrayRun) ask(ctx context.Context, e *arrayElement, m *mcp.Message) {
	if f := r.mayAsk(ctx); f != nil {
		r.failed(e, m, f)
		return
	}
	reply, f := r.send(ctx, e.body, m)
	if f == nil && reply.body == nil {
		f = reply.noAnswer()
	}
	if f != nil {
		r.failed(e, m, f)
		return
	}
	id := m.ID.Of(e.body)
	e.answer = reply.body
	if at := reply.message.ID; at.Present() {
		e.at, e.put = at, id
	} else { // an error without an id: here, others stand beside it
		start := reply.message.Whole.Start + 1
		e.at, e.put = mcp.Span{Start: start, End: start}, append(append([]byte(`"id":`), id...), ',')
	}
	r.count(m.Method, &reply)
}

// count counts an answer of the server's.
func (r *arrayRun) count(method mcp.Method, reply *arrayReply) {
	switch {
	case reply.message.Kind == mcp.KindError:
		r.a.meters.errors.Inc()
	case method == mcp.MethodToolsCall && string(reply.message.IsError.Of(reply.body)) == "true":
		r.a.meters.toolErrors.Inc()
	default:
		r.a.meters.answered.Inc()
	}
}

// mayAsk says why no request goes out any more.
func (r *arrayRun) mayAsk(ctx context.Context) *mcp.Failure {
	if ctx.Err() != nil {
		return ended(ctx, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Cause: ctx.Err()})
	}
	if r.room.full.Load() {
		return tooManyAnswers(mcp.SentNo)
	}
	return nil
}

// ended makes a failure that comes from the end of ctx one with its reason.
func ended(ctx context.Context, f *mcp.Failure) *mcp.Failure {
	var cause *mcp.Failure
	if f.Reason != mcp.ReasonCanceled || !errors.As(context.Cause(ctx), &cause) {
		return f
	}
	own := *cause
	own.Sent = f.Sent
	return &own
}

// failed is fail for a call that has failed, and not by its own fault.
func (r *arrayRun) failed(e *arrayElement, m *mcp.Message, f *mcp.Failure) {
	r.a.meters.failed.Inc()
	f = givenUp(f)
	r.note(f)
	r.fail(e, m, f)
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

// fail makes the failure the element's answer, under its id if that is readable.
func (r *arrayRun) fail(e *arrayElement, m *mcp.Message, f *mcp.Failure) {
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
func (r *arrayRun) panicked(e *arrayElement, m *mcp.Message, p any) {
	r.a.opts.Log.Error("bug: a call of an array panicked", "upstream", r.a.opts.Upstream, "panic", fmt.Sprint(p),
		"stack", string(debug.Stack()))
	f := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown, Message: "fluentd-perf failed at this call",
	}
	if e.failure = f; m.Kind != mcp.KindNotification {
		r.failed(e, m, f)
	}
}

// overall returns the failure of the array as a whole: its caller has left, or it is of notifications of which none was
// taken.
func (r *arrayRun) overall(ctx context.Context) *mcp.Failure {
	if ctx.Err() != nil {
		f := ended(ctx, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: ctx.Err()})
		if f.Reason == mcp.ReasonCanceled {
			return f
		}
	}
	if f := r.nothingTaken(); f != nil {
		return givenUp(f)
	}
	return nil
}

// nothingTaken returns, of notifications that all failed, the failure of one: of that which is the likeliest to have been
// sent.
func (r *arrayRun) nothingTaken() (likeliest *mcp.Failure) {
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
func (r *arrayRun) result() *mcp.Result {
	size, n := len("[]"), 0
	for i := range r.elements {
		if e := &r.elements[i]; e.answer != nil {
			size += len(e.answer) + len(e.put) + len(",")
			n++
		}
	}
	if n == 0 {
		res := mcp.Accepted()
		if r.broken.Calls > 0 {
			res.Failed = &r.broken
		}
		return res
	}
	body := r.a.opts.Buffers.Get(size)
	if !r.single {
		body = append(body, '[')
	}
	for i := range r.elements {
		if e := &r.elements[i]; e.answer != nil {
			if len(body) > 1 {
				body = append(body, ',')
			}
			body = mcp.Splice(body, e.answer, e.at, e.put)
			r.a.opts.Buffers.Put(e.answer)
			e.answer = nil
		}
	}
	if !r.single {
		body = append(body, ']')
	}
	res := &mcp.Result{Status: http.StatusOK, Header: http.Header{"Content-Type": jsonType}, Body: body}
	if r.single && r.elements[0].failure != nil {
		res.Status = http.StatusBadRequest
	}
	if r.broken.Calls > 0 {
		res.Failed = &r.broken
	}
	if r.a.opts.Buffers != nil {
		res.Release = func() { r.a.opts.Buffers.Put(body) }
	}
	return res
}

// drop gives the memory of answers back that nobody gets.
func (r *arrayRun) drop() {
	for i := range r.elements {
		r.a.opts.Buffers.Put(r.elements[i].answer)
		r.elements[i].answer = nil
	}
}
