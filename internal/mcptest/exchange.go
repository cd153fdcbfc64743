package mcptest

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Exchange is one request and the pen to answer it. Its methods are called from the script's goroutine only. Writing to a
// peer that has left does nothing.
type Exchange struct {
	*Request
	conn    *conn
	over    chan struct{}
	begun   bool // some byte of an answer was written
	unended bool // the answer on the wire is not whole: the connection cannot be used again
}

// run plays the script and leaves the connection as it has to be left.
func (x *Exchange) run(script Script) {
	defer close(x.over)
	script(x)
	if !x.begun {
		x.Say(http.StatusInternalServerError, "text/plain", "mcptest: the script gave no answer")
	}
	if x.unended || strings.EqualFold(x.Get("Connection"), "close") {
		x.conn.close()
	}
}

// Execute counts one execution of the side effect that the request asks for.
func (x *Exchange) Execute() {
	s := x.conn.server
	s.update(func() { s.executions++ })
}

// Gone is closed when the peer has left, and when the server is closed.
func (x *Exchange) Gone() <-chan struct{} { return x.conn.gone }

// Wait waits for c, and reports whether it came before the peer left or the server was closed.
func (x *Exchange) Wait(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-x.conn.gone:
	case <-x.conn.server.closed:
	}
	return false
}

// Hang answers nothing (more) until the peer leaves or the server is closed, and then closes the connection.
func (x *Exchange) Hang() {
	x.unended, x.begun = true, true
	x.Wait(nil)
}

// Answer returns the text of a JSON-RPC answer to this request: its own id and the result, which is JSON.
func (x *Exchange) Answer(result string) string {
	return `{"jsonrpc":"2.0","id":` + x.ID() + `,"result":` + result + `}`
}

// Result answers 200 application/json with Answer(result). Fields are extra header fields, "Name: value" each.
func (x *Exchange) Result(result string, fields ...string) {
	x.JSON(x.Answer(result), fields...)
}

// JSON answers 200 application/json with the body.
func (x *Exchange) JSON(body string, fields ...string) {
	x.Say(http.StatusOK, "application/json", body, fields...)
}

// Accept answers 202 without a body: what a notification or a response is answered by.
func (x *Exchange) Accept() { x.Say(http.StatusAccepted, "", "") }

// Say answers with any status and body, whole and with its Content-Length. An empty content type sends none.
func (x *Exchange) Say(status int, contentType, body string, fields ...string) {
	x.begun = true
	x.put(Head(status, contentType, append(fields, fmt.Sprintf("Content-Length: %d", len(body)))...) + body)
}

// Write puts raw bytes on the wire, as they are. The connection is closed after the script; Whole says that the bytes
// were a whole answer.
func (x *Exchange) Write(raw string) {
	x.unended = true
	x.put(raw)
}

// Whole says that the raw bytes so far make whole answers, so that the connection may be used again.
func (x *Exchange) Whole() { x.unended = false }

// Trickle puts raw bytes on the wire one at a time, that far apart. It ends early when the peer leaves.
func (x *Exchange) Trickle(raw string, apart time.Duration) {
	x.unended = true
	tick := time.NewTicker(apart)
	defer tick.Stop()
	for i := range len(raw) {
		x.put(raw[i : i+1])
		select {
		case <-tick.C:
		case <-x.conn.gone:
			return
		case <-x.conn.server.closed:
			return
		}
	}
}

// Reset ends the connection by a TCP reset (SO_LINGER 0). What was written before may be lost with it.
func (x *Exchange) Reset() {
	x.begun, x.unended = true, true
	x.conn.reset()
}

// Close ends the connection in good order: what was written arrives, then the end.
func (x *Exchange) Close() {
	x.begun, x.unended = true, true
	x.conn.close()
}

func (x *Exchange) put(raw string) {
	x.begun = true
	if _, err := x.conn.tcp.Write([]byte(raw)); err != nil {
		x.conn.markGone()
	}
}

// Head returns the head of an answer with these fields, "Name: value" each, and the blank line.
func Head(status int, contentType string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	if contentType != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\n", contentType)
	}
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}
