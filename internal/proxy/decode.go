package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"fluentd-perf/internal/mcp"
)

// errSlowBody is a request body that did not arrive within the server's read deadline.
var errSlowBody = errors.New("the request body did not arrive in time")

// readBody reads a request body whole: streaming it to the server through net/http loses POSTs (golang/go #40747).
// A body that fits lies in room. It returns a *mcp.Failure for a body over the limit, errSlowBody, or the error of an agent
// that left. What it takes is told to hold, which says no where that is too much for all requests together.
func readBody(r *http.Request, limit int64, room []byte, hold func(bytes int) bool) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge()
	}
	// A declared length is believed up to a point: the memory comes with the bytes.
	const believed = 256 << 10
	size := int64(4 << 10)
	if r.ContentLength >= 0 {
		size = min(r.ContentLength, believed)
	}
	// One byte more than the body, so that the read that finds its end needs no growth.
	body := room[:0]
	held := min(size, limit) // a body of limit bytes counts as that many, whatever is left empty behind it
	if !hold(int(held)) {
		return nil, tooMuchBuffered()
	}
	if size >= int64(cap(room)) {
		body = make([]byte, 0, size+1)
	}
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, tooLarge()
		case err == io.EOF:
			return body, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, errSlowBody
		case err != nil:
			return nil, err
		}
		if len(body) == cap(body) {
			size = min(2*int64(cap(body)), limit+1) + 512
			more := min(size, limit) - held
			if !hold(int(more)) {
				return nil, tooMuchBuffered()
			}
			held += more
			grown := make([]byte, len(body), size)
			copy(grown, body)
			body = grown
		}
	}
}

func tooMuchBuffered() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeOverloaded, Reason: mcp.ReasonBuffered, Sent: mcp.SentNo, RetryAfter: time.Second,
		Message: "the requests and answers under way are over limits.buffered",
	}
}

func tooLarge() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeTooLarge, Reason: mcp.ReasonBodyTooLarge, Sent: mcp.SentNo,
		Message: "the request body is over limits.body",
	}
}

// decode settles what the call is, by the header that goes to the server and the body. The call is complete after it, and
// nobody changes it again. A body that the daemon does not understand is the server's to judge: the call is opaque, its era
// and version those of its header.
func (x *exchange) decode(body []byte) {
	x.decodeHeader()
	x.call.Body = body
	x.decodeBody(body)
	dropLegacy(&x.call)
}

// decodeHeader makes the call's header, and reads the version from it.
func (x *exchange) decodeHeader() {
	c := &x.call
	c.Header = x.outHeader()
	c.Version = header(c.Header, "Mcp-Protocol-Version")
	c.Era = mcp.EraOf(c.Version)
}

func (x *exchange) decodeBody(body []byte) {
	c := &x.call
	if mcp.IsEncoded(c.Header) || mcp.Scan(body, &c.Message) != nil || c.Message.Kind == mcp.KindBatch {
		// Of an array the kind stays; an id cannot be told whose it is.
		c.Message = mcp.Message{Kind: c.Message.Kind, Method: mcp.MethodOther}
		if c.Lane = mcp.LaneOpaque; x.up.OldTransport {
			c.Lane = mcp.LaneMessage
		}
		return
	}
	if own := c.Message.ProtocolVersion.Of(body); own != nil && !mcp.TextIs(own, c.Version) {
		if v, ok := mcp.Text(own); ok && mcp.EraOf(v) == mcp.EraModern {
			c.Era, c.Version = mcp.EraModern, v
		}
	}
	c.Mismatch = c.Era == mcp.EraModern && differs(c)
	c.Lane = laneOf(&c.Message)
	if x.up.OldTransport {
		c.Lane = mcp.LaneMessage
	}
}

func laneOf(m *mcp.Message) mcp.Lane {
	switch m.Kind {
	case mcp.KindNotification:
		return mcp.LaneNotification
	case mcp.KindResult, mcp.KindError:
		return mcp.LaneResponse
	}
	if m.Method == mcp.MethodSubscriptionsListen {
		return mcp.LaneListen
	}
	return mcp.LaneRequest
}

// differs reports whether the header of a modern request says something else than its body, or says it twice.
func differs(c *mcp.Call) bool {
	m := &c.Message
	if m.Kind != mcp.KindRequest {
		return false
	}
	return !headerIs(c.Header, "Mcp-Protocol-Version", m.ProtocolVersion.Of(c.Body)) || namesDiffer(c.Header, m, c.Body)
}

// namesDiffer reports whether `Mcp-Method` or `Mcp-Name` say something else than the body (2026-07-28, basic/transports/
// streamable-http, SEP-2243). Only requests carry them.
func namesDiffer(h http.Header, m *mcp.Message, body []byte) bool {
	if !headerIs(h, "Mcp-Method", m.MethodName.Of(body)) {
		return true
	}
	named, ok := m.Named()
	return ok && !headerIs(h, "Mcp-Name", named.Of(body))
}

// headerIs reports whether the header is there once and its value, decoded, is the JSON string token.
func headerIs(h http.Header, name string, token []byte) bool {
	values := h[name]
	return len(values) == 1 && mcp.TextIs(token, mcp.HeaderText(values[0]))
}

// header returns the first value under a canonical name, without canonicalising it again.
func header(h http.Header, canonical string) string {
	if v := h[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}
