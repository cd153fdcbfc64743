package http_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// peer is the server's end of an in-memory connection, for tests in false time: in a bubble of testing/synctest a
// goroutine that waits for a real socket does not count as blocked.
type peer struct {
	net.Conn
	br     *bufio.Reader
	number int // of the connection, counted from 1
}

// request reads one request whole; nil if the client has left.
func (p *peer) request() *http.Request {
	r, err := http.ReadRequest(p.br)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

func (p *peer) say(format string, args ...any) { _, _ = fmt.Fprintf(p, format, args...) }

// answerJSON answers with a whole body.
func (p *peer) answerJSON(body string) {
	p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// gone waits until the client has closed the connection.
func (p *peer) gone() { _, _ = io.Copy(io.Discard, p.br) }

// piped returns an upstream whose connections are pipes; serve is run for each, on a goroutine of its own, and the
// connection is closed after it. The upstream has to be closed before the bubble ends: shut does it and waits.
func piped(tb testing.TB, serve func(*peer), change ...func(*upstreamhttp.Options)) (u *upstreamhttp.Upstream, shut func()) {
	tb.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	dialed := 0
	o := options(&url.URL{Scheme: "http", Host: "server.test", Path: "/mcp"})
	dialsBy(func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		mu.Lock()
		dialed++
		p := &peer{server, bufio.NewReader(server), dialed}
		mu.Unlock()
		wg.Go(func() {
			defer func() { _ = p.Close() }()
			serve(p)
		})
		return client, nil
	})(&o)
	for _, f := range change {
		f(&o)
	}
	u = upstreamhttp.New(o)
	return u, func() {
		u.Close()
		wg.Wait()
	}
}

// took checks how long something took in false time.
func took(tb testing.TB, since time.Time, want time.Duration) {
	tb.Helper()
	if got := time.Since(since); got != want {
		tb.Errorf("took %v, want %v", got, want)
	}
}

// pass lets false time pass.
func pass(d time.Duration) { <-time.After(d) }
