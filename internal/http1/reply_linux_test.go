package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/http1/header"
)

// TestReplies compares what an agent gets of each answer with what it gets of net/http.
func TestReplies(t *testing.T) {
	const large = 100_000
	write := func(w http.ResponseWriter, n int) { _, _ = io.WriteString(w, strings.Repeat("x", n)) }
	for name, tt := range map[string]struct {
		h     http.HandlerFunc
		broke bool // no whole answer
	}{
		"nothing":         {func(http.ResponseWriter, *http.Request) {}, false},
		"a status":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, false},
		"an odd status":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(799) }, false},
		"two statuses":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202); w.WriteHeader(500) }, false},
		"204":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); write(w, 1) }, false},
		"a short body":    {func(w http.ResponseWriter, _ *http.Request) { write(w, 10); write(w, 10) }, false},
		"a long body":     {func(w http.ResponseWriter, _ *http.Request) { write(w, large); write(w, 1) }, false},
		"flushed":         {func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); write(w, 10) }, false},
		"flushed between": {func(w http.ResponseWriter, _ *http.Request) { write(w, 7); w.(http.Flusher).Flush(); write(w, 10) }, false},
		"with a length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			write(w, 10)
		}, false},
		"a long one with a length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(large+20_000))
			write(w, large)
			write(w, 20_000)
		}, false},
		"less than its length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			write(w, 9)
		}, true},
		"more than its length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			write(w, 10)
			if _, err := w.Write([]byte("x")); err != http.ErrContentLength {
				t.Errorf("got %v", err)
			}
		}, false},
		"fields": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-Two"] = []string{"1", "2"}
			w.Header().Set("Date", "yesterday")
			w.Header().Set("Content-Type", "a/b")
			write(w, 1)
			w.Header().Set("X-Late", "1")
		}, false},
		"closes": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			write(w, 1)
		}, false},
		"deadlines": {func(w http.ResponseWriter, _ *http.Request) {
			c := http.NewResponseController(w)
			if c.SetReadDeadline(time.Now().Add(time.Hour)) != nil || c.SetWriteDeadline(time.Now().Add(time.Hour)) != nil || c.EnableFullDuplex() != nil {
				t.Error("it has no deadlines")
			}
			write(w, large)
			_, _ = c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{})
			write(w, large)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var all [2]got
			for i, compat := range []bool{false, true} {
				s := newServer(t, tt.h, func(o *http1.ServerOptions) { o.Compat = compat })
				nc := dialServer(t, s.addr)
				br := bufio.NewReader(nc)
				send(t, nc, call("/mcp", "x"))
				g, err := tryReceive(br)
				if (err != nil) != tt.broke {
					t.Fatalf("compat %v: %+v, %v", compat, g, err)
				}
				if compat { // whether it closes is net/http's to say
				} else if !g.closes && !tt.broke { // the connection is to be of use
					send(t, nc, call("/mcp", "x"))
					if again, err := tryReceive(br); err != nil || again.body != g.body {
						t.Errorf("compat %v: then %+v, %v", compat, again, err)
					}
				} else if _, err := br.ReadByte(); err != io.EOF {
					t.Errorf("compat %v: it was to be closed: %v", compat, err)
				}
				if g.header.Get("Date") == "" {
					t.Errorf("compat %v: no Date", compat)
				}
				if g.header.Get("Date") != "yesterday" {
					g.header.Del("Date")
				}
				if g.header.Get("Content-Type") != "a/b" {
					g.header.Del("Content-Type") // net/http guesses one
				}
				g.length = min(g.length, 2048) // above that net/http sends chunks where the length is not known
				all[i] = g
			}
			if ours, theirs := fmt.Sprintf("%.200v", all[0]), fmt.Sprintf("%.200v", all[1]); ours != theirs {
				t.Errorf("got %s, net/http %s", ours, theirs)
			}
		})
	}
}

// TestFlushes: each flush leaves at once, in a chunk, and a stream that waits holds no buffer.
func TestFlushes(t *testing.T) {
	next := make(chan string)
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for text := range next {
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
		}
	})
	nc := dialServer(t, s.addr)
	send(t, nc, call("/mcp", ""))
	next <- "first"
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"first", "second", strings.Repeat("x", 70_000), "last"}
	for i, want := range texts {
		if i > 0 {
			next <- want
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Errorf("got %.50q, %v", got, err)
		}
	}
	close(next)
	if b, err := io.ReadAll(res.Body); err != nil || len(b) > 0 || !slices.Equal(res.TransferEncoding, []string{"chunked"}) {
		t.Errorf("%q, %v, %v", b, err, res.TransferEncoding)
	}
}

// TestOwnHandler answers without anything of net/http's: fields as they are spelled and in their order.
func TestOwnHandler(t *testing.T) {
	s := newServer(t, nil, func(o *http1.ServerOptions) {
		o.Handler = func(q *http1.Inbound) {
			body, err := io.ReadAll(q)
			if err != nil || q.Header.Get("x-TWO") != "1" || q.Path != "/mcp/a" || q.Query != "b=c?d" || q.Host != "h:1" || q.RemoteAddr() == "" {
				t.Errorf("%+v, %v", q, err)
			}
			q.Begin(200, header.List{
				{Name: "x-b", Value: "1"}, {Name: "X-A", Value: "2"}, {Name: "Content-Length", Value: "1000"}, {Name: "bad name", Value: "x"},
				{Name: "Bad", Value: "x\r\nInjected: y"}, {Name: "x-b", Value: "3"}, {Name: "Date", Value: "now"},
			}, int64(len(body)))
			if n, err := q.Write(body); n != len(body) || err != nil {
				t.Error(n, err)
			}
		}
	})
	nc := dialServer(t, s.addr)
	send(t, nc, "POST /mcp/a?b=c?d HTTP/1.1\r\nhost: h:1\r\nX-two: 1\r\nconnection: Close\r\ncontent-length: 4\r\n\r\nbody")
	const want = "HTTP/1.1 200 OK\r\nx-b: 1\r\nX-A: 2\r\nx-b: 3\r\nDate: now\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
	if b, err := io.ReadAll(nc); err != nil || string(b) != want {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestAnswersBeforeTheBody: an answer gets through to an agent that is still sending; what is left of a short body is read, so that the
// connection can be used again, and one with a long body closes.
func TestAnswersBeforeTheBody(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(413) })
	nc := dialServer(t, s.addr)
	br := bufio.NewReader(nc)
	for range 2 {
		send(t, nc, call("/mcp", strings.Repeat("x", 100_000)))
		if g := receive(t, br); g.status != 413 {
			t.Errorf("got %+v", g)
		}
	}
	go func() { _, _ = io.WriteString(nc, call("/mcp", strings.Repeat("x", 10<<20))) }() // it is not read whole
	if g := receive(t, br); g.status != 413 {
		t.Errorf("got %+v", g)
	}
	if _, err := br.ReadByte(); err == nil {
		t.Error("it was to be closed")
	}
}

// TestAgentThatReadsNothing: a write ends by the handler's deadline, set meanwhile by another goroutine.
func TestAgentThatReadsNothing(t *testing.T) {
	ended := make(chan error, 1)
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		c := http.NewResponseController(w)
		timer := time.AfterFunc(50*time.Millisecond, func() { _ = c.SetWriteDeadline(time.Now()) })
		defer timer.Stop()
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				ended <- err
				return
			}
		}
	})
	send(t, dialServer(t, s.addr), call("/mcp", ""))
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	until(t, "no connection is left", func() bool { return s.Open() == 0 })
}
