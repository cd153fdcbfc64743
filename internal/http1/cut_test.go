package http1_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcptest"
)

// TestCutAnswers cuts answers behind each of their bytes, by the end of the connection and by a reset. None is taken for
// whole, nothing is sent twice, and what is said of the request is true.
func TestCutAnswers(t *testing.T) {
	for _, whole := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		chunks("3;x\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n"),
	} {
		for n := range len(whole) {
			cutAnswer(t, whole[:n], closing(whole[:n]), io.ErrUnexpectedEOF)
			cutAnswer(t, whole[:n], resetting(whole[:n]), syscall.ECONNRESET)
		}
	}
}

func cutAnswer(t *testing.T, raw string, script mcptest.Script, want error) {
	t.Helper()
	s := mcptest.NewServer(t, script)
	defer s.Close()
	c := newClient(t, s.URL())
	_, body, err := do(context.Background(), c, post("{}"))
	switch {
	case err == nil:
		t.Fatalf("%q was taken for a whole answer: %q", raw, body)
	case !errors.Is(err, want) && !errors.Is(err, io.ErrUnexpectedEOF):
		t.Errorf("%q: %v", raw, err)
	case raw == "":
		wantSent(t, err, http1.SentUnknown)
	case want == io.ErrUnexpectedEOF: // before a reset, what came may be lost
		wantSent(t, err, http1.SentYes)
	}
	if s.Received() != 1 {
		t.Errorf("%q: sent %d times", raw, s.Received())
	}
	wantIdle(t, c, 0)
}

// TestResetInRequest has the server reset the connection when it has read some bytes of a large request, on a first connection
// and on one that was used before. The request is never sent again, because nobody knows what was read of it.
func TestResetInRequest(t *testing.T) {
	for _, used := range []bool{false, true} {
		for _, read := range []int{1, 10, 100, 16 << 10, 1 << 20} {
			ln := listen(t)
			accepted := make(chan int, 1)
			go func() { accepted <- resetAfter(ln, used, read) }()
			c := newClient(t, "http://"+ln.Addr().String())
			if used {
				mustDo(t, c, post("{}"), "ok")
			}
			_, _, err := do(context.Background(), c, post(strings.Repeat("x", 32<<20)))
			if err == nil {
				t.Fatal("an answer")
			}
			wantSent(t, err, http1.SentUnknown)
			_ = ln.Close()
			if n := <-accepted; n != 1 {
				t.Errorf("after %d bytes: %d connections", read, n)
			}
			wantIdle(t, c, 0)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// resetAfter accepts connections until the listener is closed, and resets each after that many bytes. With answers it answers
// a first, small request on each.
func resetAfter(ln net.Listener, answers bool, read int) (accepted int) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return accepted
		}
		accepted++
		if answers {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, okAnswer)
		}
		_, _ = io.CopyN(io.Discard, c, int64(read))
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}
