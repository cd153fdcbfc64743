package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/http1/header"
)

// fastServer answers every request with the same bytes and spends as little as it can. It returns the endpoint.
func fastServer(tb testing.TB, answer string) string {
	tb.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serveFast(c, []byte(answer)) })
		}
	})
	tb.Cleanup(func() { // after the clients have closed their connections
		_ = ln.Close()
		wg.Wait()
	})
	return "http://" + ln.Addr().String() + "/mcp"
}

func serveFast(c net.Conn, answer []byte) {
	defer func() { _ = c.Close() }()
	br := bufio.NewReader(c)
	for {
		length := 0
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
			}
		}
		if _, err := br.Discard(length); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

var (
	benchBody   = bytes.Repeat([]byte("x"), 200)
	benchFields = header.List{
		{Name: "Accept", Value: "application/json, text/event-stream"}, {Name: "Content-Type", Value: "application/json"},
		{Name: "Mcp-Protocol-Version", Value: "2025-11-25"}, {Name: "Mcp-Session-Id", Value: "0123456789abcdef0123456789abcdef"},
		{Name: "Authorization", Value: "Bearer 0123456789abcdef0123456789abcdef"}, {Name: "User-Agent", Value: "bench/1"},
		{Name: "Accept-Encoding", Value: "identity"},
	}
)

func benchAnswer(size int) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Length: " +
		strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat("x", size)
}

// ownCall returns a call of a Client, with a context that can end.
func ownCall(tb testing.TB, c *http1.Client) func(buf []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	return func(buf []byte) {
		a, err := c.Do(ctx, &http1.Request{Method: "POST", Target: "/mcp", Header: benchFields, Body: benchBody})
		if err != nil {
			tb.Error(err)
			return
		}
		for err == nil {
			_, err = a.Read(buf)
		}
		if err != io.EOF {
			tb.Error(err)
		}
	}
}

// theirCall is ownCall with an http.Transport.
func theirCall(tb testing.TB, endpoint string) func(buf []byte) {
	tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(func() { cancel(); tr.CloseIdleConnections() })
	fields := http.Header{}
	for _, f := range benchFields {
		fields.Set(f.Name, f.Value)
	}
	return func(buf []byte) {
		r, err := http.NewRequestWithContext(ctx, "POST", endpoint, bytes.NewReader(benchBody))
		if err != nil {
			tb.Error(err)
			return
		}
		r.Header = fields
		resp, err := tr.RoundTrip(r)
		if err != nil {
			tb.Error(err)
			return
		}
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		_ = resp.Body.Close()
	}
}

// BenchmarkPost puts a POST of 200 B on a kept connection beside http.Transport's, with the same server in one run.
func BenchmarkPost(b *testing.B) {
	for _, size := range []int{200, 10_000} {
		endpoint := fastServer(b, benchAnswer(size))
		own, theirs := ownCall(b, newClient(b, endpoint)), theirCall(b, endpoint)
		for _, parallel := range []bool{false, true} {
			name := strconv.Itoa(size) + "B/" + map[bool]string{false: "one", true: "parallel"}[parallel]
			b.Run(name+"/own", func(b *testing.B) { benchCall(b, parallel, own) })
			b.Run(name+"/transport", func(b *testing.B) { benchCall(b, parallel, theirs) })
		}
	}
}

func benchCall(b *testing.B, parallel bool, call func([]byte)) {
	b.ReportAllocs()
	if !parallel {
		buf := make([]byte, 32<<10)
		for b.Loop() {
			call(buf)
		}
		return
	}
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 32<<10)
		for pb.Next() {
			call(buf)
		}
	})
}

// BenchmarkHead parses the head of an answer by reading one that came whole.
func BenchmarkHead(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := http1.ParseHead(benchHead); err != nil {
			b.Fatal(err)
		}
	}
}

var benchHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\n" +
	"Mcp-Session-Id: 0123456789abcdef0123456789abcdef\r\nCache-Control: no-cache\r\nContent-Length: 200\r\n\r\n"
