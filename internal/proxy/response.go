package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"fluentd-perf/internal/mcp"
)

// writeTimeout bounds one write to an agent that does not read, where an upstream's connection waits behind it.
const writeTimeout = time.Minute

// answer writes a result: whole, as events, or as it comes.
func (q *request) answer(res *mcp.Result) {
	q.timing = res.Timing
	q.status = res.Status
	q.hit = res.Cached || res.Collapsed
	if res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden {
		q.rewriteChallenge(res)
	}
	h := q.w.Header()
	copyAnswerHeader(h, res.Header, len(h["Access-Control-Allow-Origin"]) > 0)
	q.rememberAgent()
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // else net/http guesses one
	}
	switch {
	case res.Events != nil:
		q.answerEvents(res)
	case res.Raw != nil:
		q.outcome = outcomeOfRaw(&q.call, res)
		q.serverTiming(h)
		q.answerRaw(res)
	default:
		q.outcome = outcomeOf(q.call.Lane, res)
		q.noteResult(res.Said(), &res.Message)
		if res.Failed != nil {
			q.failed = res.Failed
			q.note(res.Failed.First)
		}
		q.answerBody(h, res)
	}
}

// copyAnswerHeader puts the server's fields on the answer. With cors, the server's own CORS fields give way to the
// handler's.
func copyAnswerHeader(dst, src http.Header, cors bool) {
	for name, values := range src {
		if cors && strings.HasPrefix(name, "Access-Control-") {
			continue
		}
		addValues(dst, name, values)
	}
}

// addValues adds values behind those that are there, and changes neither slice.
func addValues(h http.Header, name string, values []string) {
	if own := h[name]; len(own) > 0 {
		values = append(own[:len(own):len(own)], values...)
	}
	h[name] = values
}

// answerBody writes a whole answer, a large one in pieces: the bound is on an agent that does not read, not on one that reads
// slowly.
func (q *request) answerBody(h http.Header, res *mcp.Result) {
	q.bodyHeader(h, res)
	q.w.WriteHeader(res.Status)
	const fitsTheSocket, piece = 32 << 10, 1 << 20
	large := len(res.Body) > fitsTheSocket
	if large {
		defer q.setWriteDeadline(time.Time{})
	}
	for b := res.Body; len(b) > 0; {
		n := min(len(b), piece)
		if large {
			q.setWriteDeadline(time.Now().Add(writeTimeout))
		}
		if q.write(b[:n]) != nil {
			return
		}
		b = b[n:]
	}
}

// bodyHeader says of a whole answer how long it is and where the time went. It is called once: both values lie in q.text.
func (q *request) bodyHeader(h http.Header, res *mcp.Result) {
	b := q.appendTimings(q.text[:0])
	n := len(b)
	b = strconv.AppendInt(b, int64(len(res.Body)), 10)
	text := unsafe.String(&b[0], len(b))
	q.values = [...]string{text[:n], text[n:]}
	addValues(h, serverTimingHeader, q.values[0:1:1])
	if bodyAllowed(res.Status) {
		h["Content-Length"] = q.values[1:2:2]
	}
}

// bodyAllowed reports whether an answer of the status has a body (RFC 9110, 6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// answerRaw passes a body on as it comes, head and pieces at once: nobody knows what of it the agent waits for. If it breaks
// off, so does the agent's connection: an end would make a whole answer of it.
func (q *request) answerRaw(res *mcp.Result) {
	q.w.WriteHeader(res.Status)
	buf := rawBuffers.Get().(*[rawPiece]byte)
	defer rawBuffers.Put(buf)
	defer q.setWriteDeadline(time.Time{})
	var until time.Time // the write deadline
	flush := http.NewResponseController(q.w).Flush
	for err := flush(); err == nil; {
		n, end := res.Raw.Read(buf[:])
		if n > 0 {
			if now := time.Now(); until.Sub(now) < writeTimeout {
				until = now.Add(writeTimeout + writeTimeout/4) // not with every piece: it costs as much as a small write
				q.setWriteDeadline(until)
			}
			if err = q.write(buf[:n]); err == nil {
				err = flush()
			}
		}
		switch {
		case err != nil || end == nil:
		case isEOF(end):
			return
		default:
			q.breakOff(failureOf(end))
		}
	}
	q.noteAgentLeft()
}

// rawPiece is how much of a body that passes as it comes is read at once.
const rawPiece = 64 << 10

var rawBuffers = sync.Pool{New: func() any { return new([rawPiece]byte) }}

func (q *request) setWriteDeadline(t time.Time) {
	// A recorder in a test has no deadlines, and a connection that is gone is found out by the next write.
	_ = http.NewResponseController(q.w).SetWriteDeadline(t)
}

func (q *request) write(b []byte) error {
	n, err := q.w.Write(b)
	q.bytesOut += int64(n)
	return err
}

const serverTimingHeader = "Server-Timing"

// serverTiming puts what is known of the time on the answer (W3C Server-Timing; milliseconds), beside the server's own.
func (q *request) serverTiming(h http.Header) {
	addValues(h, serverTimingHeader, []string{string(q.appendTimings(q.text[:0]))})
}

func (q *request) appendTimings(b []byte) []byte {
	b = appendTiming(b, "queue", q.timing.Queue)
	b = appendTiming(b, "connect", q.timing.Connect)
	b = appendTiming(b, "ttfb", q.timing.FirstByte)
	b = appendTiming(b, "upstream", q.timing.Upstream)
	return appendTiming(b, "total", time.Since(q.call.Start))
}

func appendTiming(b []byte, name string, d time.Duration) []byte {
	if d <= 0 {
		return b
	}
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(append(b, name...), ";dur="...)
	us := d.Microseconds()
	b = append(strconv.AppendInt(b, us/1000, 10), '.')
	us %= 1000
	return append(b, byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}
