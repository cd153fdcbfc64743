package harness

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// RawAgent is a TCP connection to the daemon, for what an HTTP client would not send.
type RawAgent struct {
	T      *testing.T
	conn   net.Conn
	Reader *bufio.Reader
}

// DialAgent connects to the daemon. The connection's reads and writes all end within MaxWait.
func DialAgent(t *testing.T, d *Daemon) *RawAgent {
	t.Helper()
	return Dial(t, d.Addr)
}

// Dial is DialAgent for what is not the daemon.
func Dial(t *testing.T, addr string) *RawAgent {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &RawAgent{t, conn, bufio.NewReader(conn)}
	t.Cleanup(r.Close)
	r.Deadline(MaxWait)
	return r
}

// Deadline bounds all reads and writes from now on, in place of MaxWait.
func (r *RawAgent) Deadline(d time.Duration) {
	if err := r.conn.SetDeadline(time.Now().Add(d)); err != nil {
		r.T.Fatal(err)
	}
}

// Write sends what the format says. A daemon that has hung up already is judged by what it answered.
func (r *RawAgent) Write(format string, args ...any) {
	_, _ = fmt.Fprintf(r.conn, format, args...)
}

// Close hangs up. It may be called twice.
func (r *RawAgent) Close() { _ = r.conn.Close() }

// HalfClose ends the agent's side only.
func (r *RawAgent) HalfClose() {
	if err := r.conn.(*net.TCPConn).CloseWrite(); err != nil {
		r.T.Fatal(err)
	}
}

// Response reads the head of the next answer.
func (r *RawAgent) Response(verb string) *http.Response {
	r.T.Helper()
	res, err := r.tryResponse(verb)
	if err != nil {
		r.T.Fatal(err)
	}
	return res
}

func (r *RawAgent) tryResponse(verb string) (*http.Response, error) {
	return http.ReadResponse(r.Reader, &http.Request{Method: verb})
}

// Whole reads the next answer, body and all.
func (r *RawAgent) Whole(verb string) (Reply, error) {
	res, err := r.tryResponse(verb)
	if err != nil {
		return Reply{}, err
	}
	body, err := io.ReadAll(res.Body)
	return Reply{Status: res.StatusCode, Header: res.Header, Body: string(body)}, err
}
