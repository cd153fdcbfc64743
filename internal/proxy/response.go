package proxy

import (
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// answer writes a result: whole, as events, or as it comes.
func (q *request) answer(res *mcp.Result) {
	q.timing = res.Timing
	q.status = res.Status
	q.hit = res.Cached || res.Collapsed
	if res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden {
		q.rewriteChallenge(res)
	}
	h := q.w.Header()
	copyAnswerHeader(h, res.Header, q.answered[:], len(h["Access-Control-Allow-Origin"]) > 0)
	q.rememberAgent()
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // else net/http guesses one
	}
	if res.Events != nil {
		q.answerEvents(res)
		return
	}
	q.outcome = outcomeOf(&q.call, res)
	if res.Raw != nil {
		q.answerRaw(res)
		return
	}
	q.noteResult(res.Scanned(), &res.Message)
	if res.Failed != nil {
		q.failed = *res.Failed
		q.note(res.Failed.First)
	}
	q.answerBody(res)
}

// copyAnswerHeader puts the server's fields on the answer, net/http's map, behind what is there. Their values lie in room where they
// fit. With cors, the server's own CORS fields give way to the handler's.
func copyAnswerHeader(dst http.Header, src header.List, room []string, cors bool) {
	if len(src) > len(room) {
		room = make([]string, len(src))
	}
	for i, f := range src {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if cors && strings.HasPrefix(name, "Access-Control-") {
			continue
		}
		room[i] = f.Value
		addValues(dst, name, room[i:i+1:i+1])
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
// slowly. It does without an output, which would cost a hit in memory five allocations.
func (q *request) answerBody(res *mcp.Result) {
	const fitsTheSocket, piece = 32 << 10, 1 << 20
	q.status = res.Status
	q.bodyHeader(q.w.Header(), res)
	q.w.WriteHeader(res.Status)
	control, large := http.NewResponseController(q.w), len(res.Body) > fitsTheSocket
	if large {
		defer setWriteDeadline(control, time.Time{})
	}
	for b := res.Body; len(b) > 0; {
		n := min(len(b), piece)
		if large {
			setWriteDeadline(control, time.Now().Add(writeTimeout))
		}
		if q.write(b[:n]) != nil {
			return // an agent that has left reads nothing
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
	q.serverTiming()
	q.w.WriteHeader(res.Status)
	out := newOutput(q, true)
	defer out.stop()
	buf := rawBuffers.Get().(*[rawPiece]byte)
	defer rawBuffers.Put(buf)
	for {
		n, err := res.Raw.Read(buf[:])
		if n > 0 && out.piece(buf[:n]) != nil {
			q.noteAgentLeft()
			return
		}
		switch {
		case err == io.EOF:
			return
		case err != nil:
			q.breakOff(mcp.AsFailure(err))
		}
	}
}

// rawPiece is how much of a body that passes as it comes is read at once.
const rawPiece = 64 << 10

var rawBuffers = sync.Pool{New: func() any { return new([rawPiece]byte) }}

// plain answers with one line of text in the daemon's own name.
func (q *request) plain(status int, text string) {
	q.status = status
	plain(q.w, status, text)
}

func (q *request) write(b []byte) error {
	n, err := q.w.Write(b)
	q.bytesOut += int64(n)
	return err
}

const serverTimingHeader = "Server-Timing"

// serverTiming puts what is known of the time on the answer (W3C Server-Timing; milliseconds), beside the server's own.
func (q *request) serverTiming() {
	addValues(q.w.Header(), serverTimingHeader, []string{string(q.appendTimings(q.text[:0]))})
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
