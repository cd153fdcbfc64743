package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// firstRead is how much room a body of unknown length gets at first, in bytes.
const firstRead = 8 << 10

// answer makes a Result of an answer: events, a whole body, or bytes as they come. Nothing that comes whole by its framing
// is refused: what is no JSON-RPC is the agent's to judge, as it would be without the daemon.
func (x *exchange) answer(resp *http.Response) (*mcp.Result, *mcp.Failure) {
	if resp.StatusCode < http.StatusOK {
		// 101 was not asked for, other 1xx do not come this far, and below 100 is no status at all.
		return nil, x.refuse(mcp.ReasonBadAnswer, "the server answered with a status that is none", fmt.Errorf("status %d", resp.StatusCode))
	}
	if x.conn != nil {
		x.conn.hint(resp.Header)
	}
	dropHopByHop(resp.Header)
	res := &mcp.Result{Status: resp.StatusCode, Header: resp.Header}
	if x.misleads(res) {
		return nil, x.refuse(mcp.ReasonBadAnswer, "the server's answer to server/discover is neither JSON nor an event stream", nil)
	}
	switch x.manner(res, resp.ContentLength) {
	case asEvents:
		x.answerEvents(res)
	case held:
		return x.answerHeld(res, resp.ContentLength)
	case whole:
		return x.answerWhole(res, resp.ContentLength)
	default:
		if isEvents(res.Header) {
			x.kind = opaqueStream
		}
		x.answerRaw(res, nil)
	}
	return res, nil
}

// misleads reports whether an answer would keep a client from a server that it could talk to: old servers answer
// server/discover with a page and status 200, and clients that go on to initialize after any error give up at that.
func (x *exchange) misleads(res *mcp.Result) bool {
	h := res.Header
	return x.call.Lane == mcp.LaneRequest && x.call.Method() == mcp.MethodServerDiscover && res.Status == http.StatusOK &&
		!isJSON(h) && !isEvents(h)
}

// manner is how an answer is read.
type manner uint8

const (
	asItComes manner = iota // no byte is held
	held                    // up to heldSize and heldTime
	whole                   // up to CheckBody
	asEvents
)

// manner says how an answer is read. Whoever shares, keeps or sends again, or takes apart, needs it whole; a status that is
// an error may be one in JSON-RPC whatever its type; of other answers only JSON is looked into.
func (x *exchange) manner(res *mcp.Result, length int64) manner {
	h, lane := res.Header, x.call.Lane
	switch {
	case lane == mcp.LaneFetch, length == 0 && !isEvents(h):
		return whole
	case res.Status >= http.StatusMultipleChoices:
		return held
	case mcp.IsEncoded(h):
		return asItComes
	case isEvents(h):
		return asEvents
	case lane != mcp.LaneStream && !x.answersRequest():
		return held // what is said to a notification, an answer or the end of a session: next to nothing
	case !isJSON(h) && x.call.Era != mcp.EraPlain:
		return asItComes
	case x.holds():
		return whole
	}
	return held
}

// holds reports whether an answer to the call may be shared, kept or sent again, or is taken apart.
func (x *exchange) holds() bool {
	c := x.call
	return c.Whole || c.Repeatable() || c.Lane == mcp.LaneRequest && c.Method() == mcp.MethodInitialize
}

// answerWhole reads a body whole, up to CheckBody. What is larger passes as it comes, unread.
func (x *exchange) answerWhole(res *mcp.Result, length int64) (*mcp.Result, *mcp.Failure) {
	x.clock = x.watch.now()
	x.bindWhole(x.clock)
	limit := x.u.opts.CheckBody
	if length > limit {
		x.answerRaw(res, nil)
		return res, nil
	}
	first, ok := x.firstRoom(length)
	if !ok {
		x.answerRaw(res, nil)
		return res, nil
	}
	body, err := x.readWhole(first, limit)
	switch err {
	case nil:
		return x.came(res, body), nil
	case errTooLarge:
		x.answerRaw(res, body)
		return res, nil
	}
	f := x.fail(err)
	x.free(body)
	return nil, f
}

// came makes the result of a body that came whole, in pooled memory.
func (x *exchange) came(res *mcp.Result, body []byte) *mcp.Result {
	res.Body = body
	x.scan(res)
	now := x.watch.now()
	x.whole(now)
	res.Timing = x.timing(now)
	x.finish()
	if body != nil {
		res.Release = func() { x.free(body) }
	}
	return res
}

func (x *exchange) free(buf []byte) {
	if buf != nil {
		x.u.opts.Buffered.Put(cap(buf))
		x.u.buffers.Put(buf)
	}
}

// room returns pooled memory, where all requests together may hold so much.
func (x *exchange) room(n int) ([]byte, bool) {
	buf := x.u.buffers.Get(n)
	if !x.u.opts.Buffered.Take(cap(buf)) {
		x.u.buffers.Put(buf)
		return nil, false
	}
	return buf, true
}

// firstRoom returns the first memory of a body. A length below 0 is unknown.
func (x *exchange) firstRoom(length int64) ([]byte, bool) {
	switch {
	case length == 0:
		return nil, true
	case length < 0:
		return x.room(firstRead)
	}
	return x.room(int(length) + 1) // one more, so that the read that finds the end has somewhere to go
}

var errTooLarge = errors.New("larger than may be held")

// readWhole reads the body into pooled memory, buf at first: all of it, or what came before an error. errTooLarge means that
// there is more than the limit, or than may be held at this time.
func (x *exchange) readWhole(buf []byte, limit int64) ([]byte, error) {
	if buf == nil {
		return nil, nil
	}
	for {
		n, err := x.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, errTooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		case len(buf) == cap(buf):
			larger, ok := x.grow(buf)
			if !ok {
				return buf, errTooLarge
			}
			buf = larger
		}
	}
}

// grow moves a body to larger memory, if there is any.
func (x *exchange) grow(buf []byte) ([]byte, bool) {
	larger, ok := x.room(2 * cap(buf))
	if !ok {
		return nil, false
	}
	larger = append(larger, buf...)
	x.free(buf)
	return larger, true
}

// scan looks at a body that came whole, once. An answer under another id than the call's is loose.
func (x *exchange) scan(res *mcp.Result) {
	if len(res.Body) == 0 || mcp.IsEncoded(res.Header) {
		return
	}
	if isEvents(res.Header) {
		res.Data = onlyMessage(res.Body)
	}
	m := &res.Message
	if mcp.Scan(res.Said(), m) != nil {
		*m = mcp.Message{}
		return
	}
	good := res.Status < http.StatusMultipleChoices
	if x.call.Lane == mcp.LaneBatch { // whoever made the array takes its answer apart
		res.Checked = good && !m.Loose
		return
	}
	exact := x.answers(res.Said(), m)
	res.Checked = exact && good && res.Data == nil
}

// answers reports whether b is strictly one valid answer to the call, and notes on one that is not that it is loose.
func (x *exchange) answers(b []byte, m *mcp.Message) bool {
	if m.Kind != mcp.KindResult && m.Kind != mcp.KindError {
		return false
	}
	switch x.call.Lane {
	case mcp.LaneRequest, mcp.LaneListen:
		m.Loose = m.Loose || !x.call.Answers(b, m)
		return !m.Loose
	}
	return false
}

// onlyMessage returns the data of the one message in a body of events, nil where there is none or another one.
func onlyMessage(body []byte) []byte {
	r := mcp.NewEventReader(bytes.NewReader(body), nil, len(body))
	defer r.Close()
	var only []byte
	for {
		ev, err := r.Next()
		switch {
		case err != nil:
			return only
		case !isMessage(&ev):
		case only != nil:
			return nil
		default:
			only = bytes.Clone(ev.Data)
		}
	}
}
