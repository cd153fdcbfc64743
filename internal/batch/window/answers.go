package window

import (
	"bytes"
	"io"
	"net/http"
	"strconv"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// maxAnswers bounds the answers of an array in bytes.
const maxAnswers = 64 << 20

// failed gives all calls the failure of the array. Of an answer that is no JSON-RPC nobody knows what ran.
func (a *array) failed(f *mcp.Failure) {
	switch f.Reason {
	case mcp.ReasonBadAnswer:
		a.bad("the server's answer to an array of calls is not JSON-RPC")
		return
	case mcp.ReasonCanceled:
		f = mcp.Stopped(a.ctx, f)
	}
	a.deliver(outcome{failure: f}, a.calls...)
}

// answered gives each call its part of the server's answer.
func (a *array) answered(res *mcp.Result) {
	t := &answers{array: a, outdated: res.Outdated, by: make(map[string]*pendingCall, len(a.calls))}
	for _, p := range a.calls {
		t.by[string(p.id)] = p
	}
	if res.Events != nil {
		t.end(t.events(res.Events))
		return
	}
	body, f := wholeBody(res)
	switch {
	case f != nil:
		t.end(f)
	case res.Status >= http.StatusMultipleChoices:
		t.status(res, body)
	default:
		t.body(body)
		t.end(nil)
	}
}

// single sends each call by itself: nothing has run.
func (a *array) single(why string) {
	a.stage.goSingle(why)
	a.deliver(outcome{single: true}, a.calls...)
}

// bad ends the calls of which a bad answer says nothing, and sends single calls to the server from now on.
func (a *array) bad(why string) {
	a.stage.goSingle(why)
	a.unknown()
}

// unknown ends the calls of which nobody knows whether they ran: each goes again by itself where it may.
func (a *array) unknown() {
	o := outcome{single: true, sent: mcp.SentUnknown}
	if !a.key.again {
		o = outcome{failure: badAnswer("the server could not take the call in an array, and may have run it", mcp.SentUnknown)}
	}
	a.deliver(o, a.calls...)
}

// wholeBody reads an answer that may be too large to have been read already.
func wholeBody(res *mcp.Result) ([]byte, *mcp.Failure) {
	if res.Raw == nil {
		return res.Body, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Raw, maxAnswers+1))
	switch {
	case err != nil:
		return nil, mcp.AsFailure(err)
	case len(body) > maxAnswers:
		return nil, tooLarge()
	}
	return body, nil
}

// answers finds out whose the answers are.
type answers struct {
	*array
	by       map[string]*pendingCall
	matched  int
	outdated bool // mcp.Result.Outdated
	refused  bool // the whole answer is an error that names none of the calls: what was sent could not be read
	ran      bool // there is a result that names none of the calls
	spoilt   bool // the answer is no array, or none that can be read
}

// events takes answers as they come, one by one or in arrays (2025-03-26, basic/transports: both are allowed).
func (t *answers) events(events mcp.Events) *mcp.Failure {
	size := 0
	for {
		ev, err := events.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return mcp.AsFailure(err)
		}
		if size += len(ev.Data); size > maxAnswers {
			return tooLarge()
		}
		switch ev.Message.Kind {
		case mcp.KindInvalid: // a comment, or an event that is no message
		case mcp.KindBatch:
			t.all(ev.Data)
		default:
			t.one(ev.Data)
		}
	}
}

// body takes all answers at once.
func (t *answers) body(b []byte) {
	var m mcp.Message
	err := mcp.Scan(b, &m)
	if err == nil && m.Kind == mcp.KindBatch {
		t.all(b)
		return
	}
	t.spoilt = true
	switch {
	case err != nil:
	case m.Kind != mcp.KindError || t.find(m.ID.Of(b)) != nil:
		t.one(b)
	case !m.Loose: // an error for all, which names no call
		code := string(m.ErrorCode.Of(b))
		t.refused = code == strconv.Itoa(mcp.CodeInvalidRequest) || code == strconv.Itoa(mcp.CodeParse)
	}
}

// moreAnswers is how many elements an array of answers may have beside one for each call.
const moreAnswers = 1000

func (t *answers) all(b []byte) {
	spans, err := mcp.Elements(nil, b, len(t.by)+moreAnswers)
	if err != nil {
		t.spoilt = true // an empty one, or one with too many elements
		return
	}
	for _, s := range spans {
		t.one(s.Of(b))
	}
}

// one gives an answer to the call that it names. What is no answer to a call is dropped and counted.
func (t *answers) one(b []byte) {
	var m mcp.Message
	_ = mcp.Scan(b, &m) // the kind of what is no message is KindInvalid
	meters := &t.stage.meters
	switch m.Kind {
	case mcp.KindResult, mcp.KindError:
	case mcp.KindNotification, mcp.KindRequest:
		meters.message.Inc()
		return
	default:
		meters.unreadable.Inc()
		return
	}
	p := t.find(m.ID.Of(b))
	switch {
	case p == nil:
		meters.unknown.Inc()
		t.ran = t.ran || m.Kind == mcp.KindResult
		return
	case p.found:
		meters.duplicate.Inc()
		return
	}
	t.matched++
	p.found = true
	if m.Loose { // it ran, and its answer cannot be taken out of the others'
		meters.unreadable.Inc()
		t.deliver(outcome{failure: badAnswer("the server's answer to the call is not valid JSON-RPC", mcp.SentYes)}, p)
		return
	}
	t.deliver(outcome{result: t.result(p, b, m)}, p)
}

// find returns the call of an id, however the server spells the number.
func (t *answers) find(id []byte) *pendingCall {
	if p := t.by[string(id)]; p != nil {
		return p
	}
	if !bytes.ContainsAny(id, ".eE") || id[0] == '"' {
		return nil
	}
	for own, p := range t.by {
		if mcp.SameID([]byte(own), id) {
			return p
		}
	}
	return nil
}

// result is an answer under the caller's own id.
func (t *answers) result(p *pendingCall, b []byte, m mcp.Message) *mcp.Result {
	buffers, id := t.stage.opts.Buffers, p.call.ID()
	body := m.Splice(buffers.Get(len(b)+len(id)), b, m.ID, id)
	return &mcp.Result{
		Status: http.StatusOK, Header: header.List{{Name: "Content-Type", Value: "application/json"}}, Body: body, Message: m, Checked: true, Outdated: t.outdated,
		Release: func() { buffers.Put(body) },
	}
}

// end gives the calls without an answer their outcome. f is why the answers did not come whole, nil if they did.
func (t *answers) end(f *mcp.Failure) {
	switch {
	case f != nil && t.key.again && f.Reason == mcp.ReasonBrokeOff && t.ctx.Err() == nil:
		// As after a single answer that breaks off before the agent saw any of it.
		t.deliver(outcome{single: true, sent: f.Sent}, t.calls...)
	case f != nil:
		t.failed(f)
	case t.refused:
		t.single("an error for the whole array")
	case t.spoilt, t.matched == 0:
		t.bad("the answer to an array is no array of answers")
	default:
		t.deliver(outcome{failure: badAnswer("the server answered the array, and not this call", mcp.SentYes)}, t.calls...)
	}
}

func tooLarge() *mcp.Failure {
	return badAnswer("the server's answers to an array of calls are too large", mcp.SentYes)
}

func badAnswer(message string, sent mcp.Sent) *mcp.Failure {
	return &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: sent, Message: message}
}
