package window

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"

	"fluentd-perf/internal/mcp"
)

// maxAnswers bounds the answers of an array in bytes.
const maxAnswers = 64 << 20

// errNobody is why an array ends for which nobody waits.
var errNobody = errors.New("nobody waits for the answers")

// failed gives everybody the failure of the array. An answer that is none says nothing of what ran.
func (g *group) failed(riders []*rider, err error) {
	var f *mcp.Failure
	if !errors.As(err, &f) {
		f = mcp.Inside(err)
	}
	switch {
	case f.Reason == mcp.ReasonBadAnswer:
		g.bad(riders, "the server's answer to an array of calls is not JSON-RPC")
		return
	case f.Reason == mcp.ReasonCanceled:
		f = mcp.Stopped(g.ctx, f)
	}
	for _, r := range riders {
		own := *f
		g.give(r, outcome{failure: &own})
	}
}

// answered gives everybody their part of what the server said.
func (g *group) answered(riders []*rider, res *mcp.Result) {
	t := &sorting{group: g, by: make(map[string]*rider, len(riders))}
	for _, r := range riders {
		t.by[string(r.id)] = r
	}
	if res.Events != nil {
		if err := t.events(res.Events); err != nil {
			t.broken(riders, err)
			return
		}
		t.end(riders)
		return
	}
	body, err := wholeBody(res)
	switch {
	case err != nil:
		t.broken(riders, err)
	case res.Status >= http.StatusMultipleChoices:
		t.status(riders, res, body)
	default:
		t.body(body)
		t.end(riders)
	}
}

// refused sends everybody by themselves: nothing has run.
func (g *group) refused(riders []*rider, why string) {
	g.window.spoilt(why)
	for _, r := range riders {
		g.give(r, outcome{alone: true})
	}
}

// bad is what becomes of those of whom the server's answer says nothing: the call goes again by itself where it may.
func (g *group) bad(riders []*rider, why string) {
	g.window.spoilt(why)
	g.unknown(riders)
}

// unknown is bad where that is no fault of the array's.
func (g *group) unknown(riders []*rider) {
	for _, r := range riders {
		if g.again {
			g.give(r, outcome{alone: true, sent: mcp.SentUnknown})
			continue
		}
		f := badAnswer("the server could not take the call in an array, and may have run it")
		f.Sent = mcp.SentUnknown
		g.give(r, outcome{failure: f})
	}
}

// sentBefore is the failure of a call that has gone by itself after it went in an array: it may have run there.
func sentBefore(err error, sent mcp.Sent) error {
	var f *mcp.Failure
	if sent == "" || sent == mcp.SentNo || !errors.As(err, &f) || f.Sent == mcp.SentYes || f.Sent == sent {
		return err
	}
	own := *f
	own.Sent = sent
	return &own
}

// wholeBody reads an answer that may be too large to have been read already.
func wholeBody(res *mcp.Result) ([]byte, error) {
	if res.Raw == nil {
		return res.Body, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Raw, maxAnswers+1))
	if err == nil && len(body) > maxAnswers {
		err = badAnswer("the server's answers to an array of calls are too large")
	}
	return body, err
}

// sorting finds out whose the answers are.
type sorting struct {
	group   *group
	by      map[string]*rider
	matched int
	refused bool // the whole answer is an error that names none of the calls: what was sent could not be read
	ran     bool // there is a result that names none of the calls
	spoilt  bool // the answer is no array, or one of nothing that was asked for
}

// events takes answers as they come, one by one or in arrays (2025-03-26, basic/transports: both are allowed).
func (t *sorting) events(events mcp.Events) error {
	size := 0
	for {
		ev, err := events.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if size += len(ev.Data); size > maxAnswers {
			return badAnswer("the server's answers to an array of calls are too large")
		}
		switch ev.Message.Kind {
		case mcp.KindInvalid: // a comment, or an event that is no message
		case mcp.KindBatch:
			t.array(ev.Data)
		default:
			t.one(ev.Data)
		}
	}
}

// body takes all answers at once.
func (t *sorting) body(b []byte) {
	var m mcp.Message
	switch err := mcp.Scan(b, &m); {
	case err != nil:
		t.spoilt = true
	case m.Kind == mcp.KindBatch:
		t.array(b)
	default:
		t.object(b, &m)
	}
}

// object is a single message in the place of an array.
func (t *sorting) object(b []byte, m *mcp.Message) {
	if m.Kind == mcp.KindError && !m.Loose && t.find(m.ID.Of(b)) == nil {
		code := string(m.ErrorCode.Of(b))
		t.refused = code == strconv.Itoa(mcp.CodeInvalidRequest) || code == strconv.Itoa(mcp.CodeParse)
	}
	t.spoilt = !t.refused
	if t.spoilt {
		t.one(b)
	}
}

// moreAnswers is how many elements an array of answers may have beside one for each call.
const moreAnswers = 1000

func (t *sorting) array(b []byte) {
	spans, err := mcp.Elements(nil, b, len(t.by)+moreAnswers)
	if err != nil {
		t.spoilt = true // an empty one, or one with too many elements
		return
	}
	for _, s := range spans {
		t.one(s.Of(b))
	}
}

// one gives an answer to the call that it names. What nobody asked for is dropped and counted.
func (t *sorting) one(b []byte) {
	var m mcp.Message
	meters := &t.group.window.meters
	switch err := mcp.Scan(b, &m); {
	case err != nil:
		meters.unreadable.Inc()
		return
	case m.Kind == mcp.KindNotification || m.Kind == mcp.KindRequest:
		meters.message.Inc()
		return
	case m.Kind != mcp.KindResult && m.Kind != mcp.KindError:
		meters.unreadable.Inc()
		return
	}
	r := t.find(m.ID.Of(b))
	switch {
	case r == nil:
		meters.unknown.Inc()
		t.ran = t.ran || m.Kind == mcp.KindResult
	case r.found:
		meters.duplicate.Inc()
	default:
		t.matched++
		r.found = true
		if m.Loose { // it ran, and its answer cannot be taken out of the others'
			meters.unreadable.Inc()
			t.group.give(r, outcome{failure: badAnswer("the server's answer to the call is not valid JSON-RPC")})
			return
		}
		t.group.give(r, outcome{result: t.result(r, b, m)})
	}
}

// find returns the rider of an id, however the server spells the number.
func (t *sorting) find(id []byte) *rider {
	if r := t.by[string(id)]; r != nil {
		return r
	}
	if !bytes.ContainsAny(id, ".eE") || id[0] == '"' {
		return nil
	}
	for own, r := range t.by {
		if mcp.SameID([]byte(own), id) {
			return r
		}
	}
	return nil
}

// result is an answer under the caller's own id.
func (t *sorting) result(r *rider, b []byte, m mcp.Message) *mcp.Result {
	buffers, id := t.group.window.opts.Buffers, r.call.ID()
	at := m.ID
	body := m.Splice(buffers.Get(len(b)+len(id)), b, at, id)
	res := &mcp.Result{Status: http.StatusOK, Header: http.Header{"Content-Type": jsonType}, Body: body, Message: m, Checked: true}
	if buffers != nil {
		res.Release = func() { buffers.Put(body) }
	}
	return res
}

// broken is the end of an answer that broke off: those who have theirs keep it. The others go by themselves where they may,
// as after a single answer that breaks off before anybody saw of it.
func (t *sorting) broken(riders []*rider, err error) {
	g, left := t.group, t.left(riders)
	var f *mcp.Failure
	if !g.again || !errors.As(err, &f) || f.Reason != mcp.ReasonBrokeOff || g.ctx.Err() != nil {
		g.failed(left, err)
		return
	}
	for _, r := range left {
		g.give(r, outcome{alone: true, sent: f.Sent})
	}
}

// left returns those without an answer.
func (t *sorting) left(riders []*rider) []*rider {
	left := riders[:0:0]
	for _, r := range riders {
		if !r.found {
			left = append(left, r)
		}
	}
	return left
}

// end gives those their failure who have got nothing.
func (t *sorting) end(riders []*rider) {
	switch left := t.left(riders); {
	case t.refused:
		t.group.refused(left, "an error for the whole array")
	case t.spoilt, t.matched == 0:
		t.group.bad(left, "the answer to an array is no array of answers")
	default:
		for _, r := range left {
			t.group.give(r, outcome{failure: badAnswer("the server answered the array, and not this call")})
		}
	}
}

func badAnswer(message string) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes, Message: message,
	}
}

// jsonType is the Content-Type of an answer.
var jsonType = []string{"application/json"}
