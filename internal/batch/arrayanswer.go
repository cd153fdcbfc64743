package batch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// answerRoom is the memory that the answers of an array may take together.
type answerRoom struct {
	left atomic.Int64
	full atomic.Bool // an answer did not fit: no request goes out any more
}

// take takes n bytes, or notes that there are not as many.
func (a *answerRoom) take(n int) bool {
	if a.left.Add(-int64(n)) >= 0 {
		return true
	}
	a.left.Add(int64(n))
	a.full.Store(true)
	return false
}

func tooManyAnswers(sent mcp.Sent) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeTooLarge, Reason: mcp.ReasonRPCAnswers, Sent: sent,
		Message: "the answers of the array are over rpc.answers together",
	}
}

// arrayReply is what came back of one call.
type arrayReply struct {
	status  int
	header  http.Header
	body    []byte      // one response, pooled; nil where there was none
	message mcp.Message // what the scan of body found
	room    *answerRoom // of which the body is a part
}

// free gives up a reply of which the body is of no use.
func (p *arrayReply) free(r *arrayRun) {
	if p.body != nil {
		p.room.left.Add(int64(len(p.body)))
		r.a.opts.Buffers.Put(p.body)
		p.body = nil
	}
}

// noAnswer is the failure of a request of which the answer is no JSON-RPC: a status that says all, most likely.
func (p *arrayReply) noAnswer() *mcp.Failure {
	f := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes,
		Message: fmt.Sprintf("the server answered with HTTP status %d", p.status),
	}
	if p.status >= 200 && p.status < 300 {
		f.Message += " and no JSON-RPC response"
	}
	if s, err := strconv.ParseUint(p.header.Get("Retry-After"), 10, 16); err == nil {
		f.RetryAfter = time.Duration(s) * time.Second
	}
	return f
}

// errorCode returns the code of the JSON-RPC error that the reply is, or 0.
func (p *arrayReply) errorCode() int {
	if p.message.Kind != mcp.KindError {
		return 0
	}
	n, err := strconv.Atoi(string(p.message.ErrorCode.Of(p.body)))
	if err != nil {
		return 0
	}
	return n
}

// says reports whether a JSON-RPC error has one of the words, which are of lower case, in it.
func (p *arrayReply) says(words ...string) bool {
	const most = 4 << 10
	text := p.message.Error.Of(p.body)
	lower := bytes.ToLower(text[:min(len(text), most)])
	for _, w := range words {
		if bytes.Contains(lower, []byte(w)) {
			return true
		}
	}
	return false
}

// exchange sends one call and reads its answer, within the room. The failure's Sent is true to the facts.
func (r *arrayRun) exchange(ctx context.Context, c *mcp.Call, room *answerRoom) (arrayReply, *mcp.Failure) {
	res, err := r.a.opts.Next.Call(ctx, c)
	if err != nil {
		return arrayReply{}, ended(ctx, asFailure(err))
	}
	defer func() { _ = res.Close() }() // whatever there was to read has been read
	p := arrayReply{status: res.Status, header: res.Header, room: room}
	if c.Lane == mcp.LaneNotification {
		return p, nil
	}
	t := taker{r: r, c: c, reply: &p}
	if f := t.take(res); f != nil {
		p.free(r)
		return arrayReply{}, ended(ctx, f)
	}
	return p, nil
}

// asFailure returns err as the *mcp.Failure that every stage returns.
func asFailure(err error) *mcp.Failure {
	var f *mcp.Failure
	if errors.As(err, &f) {
		return f
	}
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown, Message: "the call broke off", Cause: err,
	}
}

// taker finds the answer to a call in a Result.
type taker struct {
	r     *arrayRun
	c     *mcp.Call
	reply *arrayReply
}

func (t *taker) take(res *mcp.Result) *mcp.Failure {
	good := res.Status >= 200 && res.Status < 300
	switch {
	case len(res.Body) > 0 && (res.Checked || res.Events == nil):
		return t.found(res.Body)
	case res.Events != nil:
		return t.fromEvents(res.Events)
	case res.Raw != nil && good && !isEncoded(res.Header):
		return t.fromRaw(res.Raw)
	}
	return nil
}

// fromEvents reads a stream to its answer. What else comes has nobody to go to.
func (t *taker) fromEvents(events mcp.Events) *mcp.Failure {
	for {
		ev, err := events.Next()
		switch {
		case err == io.EOF:
			return &mcp.Failure{
				Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes,
				Message: "the server's stream ended without a response",
			}
		case err != nil:
			return asFailure(err)
		case ev.Failure != nil && mcp.SameID(ev.FailedID, t.c.ID()):
			return ev.Failure
		case ev.Answer:
			return t.found(ev.Data)
		case ev.Message.Kind == mcp.KindRequest || ev.Message.Kind == mcp.KindNotification || ev.Message.Kind == mcp.KindBatch:
			t.r.a.meters.dropped.Inc()
		}
	}
}

// fromRaw reads what nobody has looked at, as far as there is room.
func (t *taker) fromRaw(body io.Reader) *mcp.Failure {
	b, err := io.ReadAll(io.LimitReader(body, max(t.reply.room.left.Load(), 0)+1))
	if err != nil {
		return asFailure(err)
	}
	return t.found(b)
}

// found keeps the response in a body that is one, or an array with one in it (2025-03-26, basic/transports). A body that is
// no response to the call leaves the reply without one.
func (t *taker) found(b []byte) *mcp.Failure {
	var m mcp.Message
	if int64(len(b)) > t.reply.room.left.Load() {
		t.reply.room.full.Store(true)
		return tooManyAnswers(mcp.SentYes)
	}
	if mcp.Scan(b, &m) != nil {
		return nil
	}
	if m.Kind == mcp.KindBatch {
		return t.foundAmong(b)
	}
	if t.isAnswer(b, &m) {
		return t.keep(b, &m)
	}
	return nil
}

func (t *taker) foundAmong(b []byte) *mcp.Failure {
	spans, err := mcp.Elements(nil, b, maxElements)
	if err != nil {
		return nil
	}
	for _, s := range spans {
		var m mcp.Message
		one := s.Of(b)
		if mcp.Scan(one, &m) == nil && t.isAnswer(one, &m) {
			if f := t.keep(one, &m); f != nil {
				return f
			}
		} else {
			t.r.a.meters.dropped.Inc()
		}
	}
	return nil
}

// isAnswer reports whether a message answers the call. An error without an id, or with null, is how a server answers what
// it could not read (JSON-RPC 2.0, section 5).
func (t *taker) isAnswer(b []byte, m *mcp.Message) bool {
	if m.Kind != mcp.KindResult && m.Kind != mcp.KindError {
		return false
	}
	id := m.ID.Of(b)
	return m.Kind == mcp.KindError && (id == nil || string(id) == "null") || mcp.SameID(id, t.c.ID())
}

// keep copies the response, without the white space around it.
func (t *taker) keep(b []byte, m *mcp.Message) *mcp.Failure {
	b = m.Whole.Of(b)
	if t.reply.body != nil {
		t.r.a.meters.dropped.Inc() // a second answer
		return nil
	}
	if !t.reply.room.take(len(b)) {
		return tooManyAnswers(mcp.SentYes)
	}
	t.reply.body = append(t.r.a.opts.Buffers.Get(len(b)), b...)
	t.reply.message = *m
	if by := m.Whole.Start; by > 0 {
		for _, s := range spans(&t.reply.message) {
			if s.Present() {
				s.Start, s.End = s.Start-by, s.End-by
			}
		}
	}
	return nil
}

// lost reports whether the server says that it does not know the session (2025-11-25, basic/transports, "Session
// Management", and what servers do instead): the request has not run.
func (p *arrayReply) lost() bool {
	switch code := p.errorCode(); p.status {
	case http.StatusNotFound:
		return p.body == nil || code == -32001
	case http.StatusBadRequest:
		return (code == -32000 || code == -32001) && p.says("session", "initialized")
	}
	return false
}

// foreign reports whether the server does not speak the version of a modern request, which has not run then: it says so,
// or answers what a legacy server does (2026-07-28, basic/versioning).
func (p *arrayReply) foreign() bool {
	switch code := p.errorCode(); {
	case code == -32022:
		return true
	case p.status == http.StatusNotFound || p.status == http.StatusMethodNotAllowed:
		return p.body == nil
	case p.status == http.StatusBadRequest:
		return (code == -32000 || code == -32001) && p.says("session", "initialized", "version")
	}
	return false
}

// modernOnly reports whether the server misses the modern envelope in a legacy message.
func (p *arrayReply) modernOnly() bool {
	code := p.errorCode()
	return code == -32022 || code == mcp.CodeHeaderMismatch
}
