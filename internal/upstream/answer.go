package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// firstRead is how much room a body of unknown length gets at first, in bytes.
const firstRead = 8 << 10

// answer makes a Result of an answer: events, a whole body that was checked if it has to be, or bytes as they come.
func (x *exchange) answer(resp *http.Response) (*mcp.Result, *mcp.Failure) {
	if resp.StatusCode < http.StatusOK {
		// 101 was not asked for, other 1xx do not come this far, and below 100 is no status at all.
		return nil, x.refuse(mcp.ReasonBadAnswer, "the server answered with a status that is none", fmt.Errorf("status %d", resp.StatusCode))
	}
	if x.call.Lane != mcp.LaneFetch {
		x.u.pool.hint(resp.Header)
	}
	h := resp.Header
	dropHopByHop(h)
	res := &mcp.Result{Status: resp.StatusCode, Header: h}
	good := resp.StatusCode >= 200 && resp.StatusCode < 300
	switch {
	case isEvents(h) && good && !isEncoded(h):
		x.answerEvents(res)
	case isEvents(h):
		x.kind = opaqueStream
		x.answerRaw(res, nil)
	case good && x.answersRequest() && !isEncoded(h):
		return x.answerChecked(res, resp.ContentLength)
	default:
		return x.answerWhole(res, resp.ContentLength, false)
	}
	return res, nil
}

// answersRequest reports whether a 2xx answer on this lane has to be JSON-RPC.
func (x *exchange) answersRequest() bool {
	switch x.call.Lane {
	case mcp.LaneRequest, mcp.LaneBatch, mcp.LaneListen:
		return true
	}
	return false
}

// answerChecked holds and checks an answer to a request or a batch.
func (x *exchange) answerChecked(res *mcp.Result, length int64) (*mcp.Result, *mcp.Failure) {
	if x.call.Lane == mcp.LaneBatch && res.Status == http.StatusAccepted {
		// A batch of notifications and responses has no answer (2025-03-26, basic/transports).
		return x.answerWhole(res, length, false)
	}
	if !isJSON(res.Header) {
		return nil, x.refuse(mcp.ReasonBadAnswer, "the server's answer is neither JSON nor an event stream", nil)
	}
	return x.answerWhole(res, length, true)
}

// answerWhole reads a body whole, up to CheckBody. What is larger passes as it comes, unchecked.
func (x *exchange) answerWhole(res *mcp.Result, length int64, check bool) (*mcp.Result, *mcp.Failure) {
	x.clock = x.watch.now()
	x.bindWhole(x.clock)
	limit := x.u.opts.CheckBody
	if length > limit {
		x.answerRaw(res, nil)
		return res, nil
	}
	body, err := x.readWhole(length, limit)
	if err == errTooLarge {
		x.answerRaw(res, body)
		return res, nil
	}
	if err == nil && check {
		err = x.check(body, &res.Message)
		res.Checked = err == nil
	}
	if err != nil {
		f := x.fault(err)
		x.free(body)
		return nil, f
	}
	now := x.watch.now()
	x.whole(now)
	res.Timing = x.timing(now)
	x.finish()
	res.Body = body
	if body != nil {
		res.Release = func() { x.u.buffers.Put(body) }
	}
	return res, nil
}

func (x *exchange) free(buf []byte) {
	if buf != nil {
		x.u.buffers.Put(buf)
	}
}

// fault ends the exchange after an answer that broke off or is not one.
func (x *exchange) fault(err error) *mcp.Failure {
	var bad *badAnswer
	if errors.As(err, &bad) {
		return x.refuse(mcp.ReasonBadAnswer, bad.message, bad.cause)
	}
	return x.fail(err)
}

var errTooLarge = errors.New("larger than may be held")

// readWhole reads the body into pooled memory: all of it, or what came before an error. errTooLarge means that there is
// more than the limit. A length below 0 is unknown.
func (x *exchange) readWhole(length, limit int64) ([]byte, error) {
	if length == 0 {
		return nil, nil
	}
	room := int64(firstRead)
	if length > 0 {
		room = length + 1 // one more, so that the read that finds the end has somewhere to go
	}
	buf := x.u.buffers.Get(int(room))
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
			buf = x.grow(buf)
		}
	}
}

func (x *exchange) grow(buf []byte) []byte {
	larger := x.u.buffers.Get(2 * cap(buf))
	larger = append(larger, buf...)
	x.u.buffers.Put(buf)
	return larger
}

// badAnswer is what is wrong with an answer that came whole.
type badAnswer struct {
	message string
	cause   error
}

func (b *badAnswer) Error() string { return b.message }

// check scans a body and fills m. A batch may be answered by any message or array of them, a request by its own answer.
func (x *exchange) check(body []byte, m *mcp.Message) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return &badAnswer{message: "the server's answer is empty"}
	}
	if err := mcp.Scan(body, m); err != nil {
		return &badAnswer{"the server's answer is not JSON-RPC", err}
	}
	if x.call.Lane == mcp.LaneBatch {
		return nil
	}
	if x.batchedAnswer(body, m) {
		return nil
	}
	if m.Kind != mcp.KindResult && m.Kind != mcp.KindError {
		return &badAnswer{message: "the server answered with something else than a response"}
	}
	if !x.isAnswer(body, m) {
		return &badAnswer{message: "the server answered another request"}
	}
	return nil
}

// isAnswer reports whether a result or error answers this call: it has the call's id, or is an error without one, which
// is how a server answers what it could not read (JSON-RPC 2.0, section 5).
func (x *exchange) isAnswer(b []byte, m *mcp.Message) bool {
	id := m.ID.Of(b)
	if m.Kind == mcp.KindError && (id == nil || isNull(id)) {
		return true
	}
	return mcp.SameID(x.call.ID(), id)
}

// batchedAnswer reports whether a server of the one version that has arrays put the answer into one, with no other answer
// (2025-03-26, basic/transports: responses MAY be batched). No version counts as that one.
func (x *exchange) batchedAnswer(b []byte, m *mcp.Message) bool {
	if m.Kind != mcp.KindBatch || x.call.Version != "" && x.call.Version != mcp.Version20250326 {
		return false
	}
	var elements []json.RawMessage
	if json.Unmarshal(b, &elements) != nil {
		return false
	}
	answers := 0
	for _, e := range elements {
		var one mcp.Message
		if mcp.Scan(e, &one) != nil {
			return false
		}
		if one.Kind == mcp.KindResult || one.Kind == mcp.KindError {
			if !x.isAnswer(e, &one) {
				return false
			}
			answers++
		}
	}
	return answers == 1
}

func isNull(id []byte) bool { return string(id) == "null" }
