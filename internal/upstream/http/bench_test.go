package http_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// BenchmarkCall puts a call beside what httputil.ReverseProxy does behind its handler: copy the header, a tuned
// Transport, the body through a buffer. Both in one run, one after the other, with the same server.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{200, 10_000} {
		answer := answerOf(size)
		server := newFastServer(b, jsonHead(len(answer))+answer)
		b.Run(fmt.Sprintf("%dB/upstream", size), func(b *testing.B) { benchUpstream(b, server, false) })
		b.Run(fmt.Sprintf("%dB/plain", size), func(b *testing.B) { benchPlain(b, server) })
	}
	stream := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, data := range []string{`{"jsonrpc":"2.0","method":"notifications/progress","params":{}}`, answerOf(200)} {
		event := "event: message\ndata: " + data + "\n\n"
		stream += fmt.Sprintf("%x\r\n%s\r\n", len(event), event)
	}
	server := newFastServer(b, stream+"0\r\n\r\n")
	b.Run("events/upstream", func(b *testing.B) { benchUpstream(b, server, true) })
	b.Run("events/plain", func(b *testing.B) { benchPlain(b, server) })
}

const benchBody = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` +
	`one request of about two hundred bytes, as agents send them all day long, and then a little more` + `"}}}`

func answerOf(size int) string {
	return `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", size-90) + `"}]}}`
}

func jsonHead(n int) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\nContent-Length: %d\r\n\r\n", n)
}

func benchHeader() header.List {
	return header.Of(http.Header{
		"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"},
		"Mcp-Protocol-Version": {"2025-11-25"}, "Mcp-Session-Id": {"0123456789abcdef0123456789abcdef"},
		"Authorization": {"Bearer 0123456789abcdef0123456789abcdef"}, "User-Agent": {"bench/1"},
		"Accept-Encoding": {"identity"},
	})
}

func benchUpstream(b *testing.B, server *url.URL, events bool) {
	u := upstreamhttp.New(options(server))
	defer u.Close()
	c := &mcp.Call{Lane: mcp.LaneRequest, Body: []byte(benchBody), Header: benchHeader()}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := u.Call(ctx, c)
			if err != nil {
				b.Error(err)
				return
			}
			if events {
				drain(b, res.Events)
			} else if !res.Checked {
				b.Error("not checked")
			}
			_ = res.Close()
		}
	})
}

func drain(tb testing.TB, events mcp.Events) {
	answers := 0
	for {
		ev, err := events.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			tb.Error(err)
			return
		}
		if ev.Answer {
			answers++
		}
	}
	if answers != 1 {
		tb.Errorf("%d answers", answers)
	}
}

func benchPlain(b *testing.B, server *url.URL) {
	t := &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 256, DisableCompression: true}
	defer t.CloseIdleConnections()
	in := http.Header{}
	for _, f := range benchHeader() {
		in.Add(f.Name, f.Value)
	}
	body := []byte(benchBody)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 32<<10)
		for pb.Next() {
			ctx, cancel := context.WithCancel(ctx)
			req := (&http.Request{
				Method: http.MethodPost, URL: server, Host: server.Host, Header: in.Clone(), ContentLength: int64(len(body)),
				Body: io.NopCloser(bytes.NewReader(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			}).WithContext(ctx)
			resp, err := t.RoundTrip(req)
			if err != nil {
				b.Error(err)
				cancel()
				return
			}
			for err == nil {
				_, err = resp.Body.Read(buf)
			}
			_ = resp.Body.Close()
			cancel()
		}
	})
}
