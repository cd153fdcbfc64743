package window

import (
	"bytes"
	"net/http"
	"strconv"

	"fluentd-perf/internal/mcp"
)

// maxPassedOn bounds what an answer to a whole array may bring to its callers together, in bytes.
const maxPassedOn = 4 << 20

// status gives each call its part of an answer with a status of 300 or more. HTTP's word is for all of them, and a
// refusal says that nothing ran, only where no call is named: else these are answers, whatever the status.
func (t *answers) status(res *mcp.Result, body []byte) {
	if at, ok := t.forAll(res, body); ok {
		t.passOn(res, body, at)
		return
	}
	why := "HTTP status " + strconv.Itoa(res.Status)
	refuses, encoded := refusesArray(res.Status), mcp.IsEncoded(res.Header)
	if !encoded {
		t.body(body)
	}
	switch named := !encoded && (t.matched > 0 || t.ran || t.stage.ids.Named(body)); {
	case !named && !refuses:
		t.passOn(res, body, mcp.Span{})
	case encoded: // which calls it names cannot be read
		t.bad("an encoded answer with " + why)
	case !named:
		t.single(why)
	case t.matched > 0 && !t.spoilt:
		t.end(nil)
	case refuses:
		t.bad(why)
	default:
		t.unknown()
	}
}

// refusesArray reports whether a status says that the server read nothing of an array (RFC 9110, 15.5).
func refusesArray(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnsupportedMediaType
}

// forAll reports whether an answer is a JSON-RPC error that is about who sent the array: about its session, its credentials
// or how often it asks. The server may write the id of any of the calls into it, which is at the span.
func (t *answers) forAll(res *mcp.Result, b []byte) (at mcp.Span, ok bool) {
	var m mcp.Message
	if mcp.IsEncoded(res.Header) || mcp.Scan(b, &m) != nil || m.Kind != mcp.KindError || m.Loose {
		return at, false
	}
	switch res.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
	default:
		if !losesSession(res, b, &m) {
			return at, false
		}
	}
	own := t.stage.ids
	if t.find(m.ID.Of(b)) == nil {
		return at, !own.Named(b)
	}
	return m.ID, !own.Named(b[:m.ID.Start]) && !own.Named(b[m.ID.End:])
}

// losesSession reports whether an error is about the session of all, surely or perhaps: what becomes of it is for the stage to
// decide that knows the session.
func losesSession(res *mcp.Result, b []byte, m *mcp.Message) bool {
	if res.Status == http.StatusNotFound && string(m.ErrorCode.Of(b)) == "-32001" {
		return true // the TypeScript SDK's, whatever its words
	}
	call := mcp.Call{Lane: mcp.LaneRequest, Body: b, Message: mcp.Message{Kind: mcp.KindRequest, Method: mcp.MethodPing, ID: m.ID}}
	return mcp.LossOf(&call, &mcp.Result{Status: res.Status, Header: res.Header, Body: b, Message: *m}) != mcp.LossNone
}

// passOn gives all calls the server's own answer to the array, as HTTP has it: a 401, a 503. The bytes are the same for all
// but the id at the span, if there is one, which is each one's own. Nobody changes them.
func (a *array) passOn(res *mcp.Result, body []byte, at mcp.Span) {
	size := len(body)
	if at.Present() {
		size *= len(a.calls)
	}
	if size > maxPassedOn {
		a.unknown()
		return
	}
	if res.Raw == nil {
		body = bytes.Clone(body) // what it shares with res ends with that
	}
	for _, p := range a.calls {
		own := &mcp.Result{Status: res.Status, Header: res.Header.Clone(), Body: body, Timing: res.Timing}
		if at.Present() {
			own.Body = mcp.Splice(make([]byte, 0, len(body)+len(p.call.ID())), body, at, p.call.ID())
			own.Header.Del("Content-Length")
		}
		a.deliver(outcome{result: own}, p)
	}
}
