package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// rawAgent is a TCP connection to the daemon, for what an HTTP client would not send.
type rawAgent struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
}

// dialAgent connects to the daemon. The connection's reads and writes all end within patience.
func dialAgent(t *testing.T, d *sidecar) *rawAgent {
	t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &rawAgent{t, conn, bufio.NewReader(conn)}
	t.Cleanup(r.close)
	r.deadline(patience)
	return r
}

func (r *rawAgent) deadline(d time.Duration) {
	if err := r.conn.SetDeadline(time.Now().Add(d)); err != nil {
		r.t.Fatal(err)
	}
}

// write sends what the format says. A daemon that has hung up already is judged by what it answered.
func (r *rawAgent) write(format string, args ...any) {
	_, _ = fmt.Fprintf(r.conn, format, args...)
}

// close hangs up. It may be called twice.
func (r *rawAgent) close() { _ = r.conn.Close() }

// halfClose ends the agent's side only.
func (r *rawAgent) halfClose() {
	if err := r.conn.(*net.TCPConn).CloseWrite(); err != nil {
		r.t.Fatal(err)
	}
}

// response reads the head of the next answer.
func (r *rawAgent) response(verb string) *http.Response {
	r.t.Helper()
	res, err := r.tryResponse(verb)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func (r *rawAgent) tryResponse(verb string) (*http.Response, error) {
	return http.ReadResponse(r.br, &http.Request{Method: verb})
}

// whole reads the next answer, body and all.
func (r *rawAgent) whole(verb string) (reply, error) {
	res, err := r.tryResponse(verb)
	if err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(res.Body)
	return reply{status: res.StatusCode, header: res.Header, body: string(body)}, err
}
