package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// sink is a ResponseWriter that keeps nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Flush()                      {}

// BenchmarkHandler is what the handler itself costs a call: decoding, headers, writing, counting; the server answers for
// nothing.
func BenchmarkHandler(b *testing.B) {
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 100) + `"}]}}`)
	var m mcp.Message
	if err := mcp.Scan(answer, &m); err != nil {
		b.Fatal(err)
	}
	fields := header.List{{Name: "Content-Type", Value: "application/json"}, {Name: "Date", Value: "today"}}
	event := mcp.Event{Raw: append(append([]byte("event: message\ndata: "), answer...), "\n\n"...), Answer: true, Message: m}
	for name, result := range map[string]func() *mcp.Result{
		"JSON": func() *mcp.Result {
			return &mcp.Result{Status: 200, Header: fields, Body: answer, Checked: true, Message: m}
		},
		"SSE": func() *mcp.Result {
			return &mcp.Result{Status: 200, Header: fields, Events: &scripted{events: []mcp.Event{event}, end: io.EOF}}
		},
	} {
		b.Run(name, func(b *testing.B) {
			u, err := url.Parse("http://server.test/mcp")
			if err != nil {
				b.Fatal(err)
			}
			handler, err := proxy.New(proxy.Options{
				Upstreams: []proxy.Route{{Name: "s", URL: u, Caller: mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
					return result(), nil
				})}},
				BodyLimit: 1 << 20, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
			})
			if err != nil {
				b.Fatal(err)
			}
			body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"text":"hello"}}}`)
			req, err := http.NewRequest("POST", "http://127.0.0.1:7300/mcp/s", nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header = http.Header{
				"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "User-Agent": {"bench"},
				"Mcp-Protocol-Version": {"2025-11-25"}, "Mcp-Session-Id": {"s"}, "Accept-Encoding": {"gzip"}, "Content-Length": {"99"},
			}
			req.ContentLength = int64(len(body))
			b.ReportAllocs()
			for b.Loop() {
				req.Body = io.NopCloser(bytes.NewReader(body))
				handler.ServeHTTP(&sink{header: make(http.Header, 8)}, req)
			}
		})
	}
}
