package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"fluentd-perf/internal/mcp"
)

// While the budget is spent, small messages that get no answer pass beside it: a cancellation ends a call that holds some of
// it, an answer to the server lets one go on. A model's longest answer is well below smallBody; smallBodiesTotal has room for
// 64 of those, or thousands of cancellations.
const (
	smallBody        = 64 << 10
	smallBodiesTotal = 4 << 20
)

// readBody reads the request's body whole, or answers why it cannot and reports false.
func (q *request) readBody() ([]byte, bool) {
	body, err := q.readAll()
	q.bytesIn = int64(len(body))
	if err != nil {
		q.failBody(err)
		return nil, false
	}
	q.clearReadDeadline()
	return body, true
}

// failBody answers a request whose body did not come, or came too large. What is left of it is not read, so the
// connection cannot be used again.
func (q *request) failBody(err error) {
	q.w.Header()["Connection"] = connectionClose
	var f *mcp.Failure
	switch {
	case errors.As(err, &f):
		q.fail(f)
	case errors.Is(err, os.ErrDeadlineExceeded): // the server's, for reading a request
		q.outcome = outcomeSlowBody
		q.plain(http.StatusRequestTimeout, "the request body did not arrive in time")
	default:
		q.fail(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Cause: err})
	}
}

// readAll reads the body: streaming it to the server through net/http loses POSTs (golang/go #40747). A body that fits lies
// in bodySpace. It returns a *mcp.Failure for a body over a limit, os.ErrDeadlineExceeded, or the error of an agent that left.
func (q *request) readAll() ([]byte, error) {
	limit := q.handler.opts.BodyLimit
	if q.in.ContentLength > limit {
		return nil, tooLarge()
	}
	// A declared length is believed up to a point: the memory comes with the bytes.
	const believed = 256 << 10
	size := int64(4 << 10)
	if q.in.ContentLength >= 0 {
		size = min(q.in.ContentLength, believed)
	}
	reserved := int64(0)
	for body := q.bodySpace[:0]; ; size = min(2*int64(cap(body)), limit+1) + 512 {
		more := min(size, limit) - reserved // a body of limit bytes counts as that many, whatever is left empty behind it
		if !q.reserve(int(more)) {
			return nil, tooMuchBuffered()
		}
		reserved += more
		if size >= int64(cap(body)) {
			body = append(make([]byte, 0, size+1), body...) // one byte more, so that the read that finds the end needs no growth
		}
		for len(body) < cap(body) {
			n, err := q.in.Body.Read(body[len(body):cap(body)])
			body = body[:len(body)+n]
			switch {
			case int64(len(body)) > limit:
				return nil, tooLarge()
			case err == io.EOF:
				return body, nil
			case err != nil:
				return nil, err
			}
		}
	}
}

// reserve takes bytes of the budget until the request has ended, or where it is spent, of what is there for small messages.
// It reports false where that is too much for all requests together.
func (q *request) reserve(bytes int) bool {
	switch {
	case q.handler.opts.Buffered.Take(bytes):
		q.reserved += bytes
	case q.reserved+q.reservedSmall+bytes <= smallBody && q.handler.smallBodies.Take(bytes):
		q.reservedSmall += bytes
	default:
		return false
	}
	return true
}

// release gives back what was reserved.
func (q *request) release() {
	q.handler.opts.Buffered.Put(q.reserved)
	q.handler.smallBodies.Put(q.reservedSmall)
	q.reserved, q.reservedSmall = 0, 0
}

// clearReadDeadline takes off the deadline that the server set for reading the request: what follows may take long, and
// net/http watches the connection with a read meanwhile.
func (q *request) clearReadDeadline() {
	// Only a ResponseWriter that has no deadlines (a recorder in a test) does not take it.
	if c, ok := q.w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = c.SetReadDeadline(time.Time{}) // fails on a connection that is gone, which the next read or write finds out
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
		Code: mcp.CodeTooLarge, Reason: mcp.ReasonBodyTooLarge, Sent: mcp.SentNo, Message: "the request body is over limits.body",
	}
}
