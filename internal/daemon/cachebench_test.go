package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/session"
)

// benchSink is a ResponseWriter that keeps nothing and allocates nothing.
type benchSink struct {
	header http.Header
	status int
	size   int
	writes int
	last   []byte // what was written last, dead at the next request
}

func (s *benchSink) Header() http.Header              { return s.header }
func (s *benchSink) WriteHeader(status int)           { s.status = status }
func (s *benchSink) Flush()                           {}
func (s *benchSink) SetReadDeadline(time.Time) error  { return nil }
func (s *benchSink) SetWriteDeadline(time.Time) error { return nil }

func (s *benchSink) Write(b []byte) (int, error) {
	s.size += len(b)
	s.writes++
	s.last = b
	return len(b), nil
}

// benchBody is a request's body that can be read again.
type benchBody struct{ bytes.Reader }

func (*benchBody) Close() error { return nil }

// benchAgent sends one request again and again, without a connection: all that it allocates is the daemon's.
type benchAgent struct {
	handler *proxy.Handler
	req     *http.Request
	body    []byte
	read    benchBody
	sink    benchSink
}

// benchFetch are the headers that fetch adds, names and values.
var benchFetch = []string{"Accept-Language", "*", "Sec-Fetch-Mode", "cors"}

// newBenchAgent makes an agent with the usual headers and more of them, names and values.
func newBenchAgent(t testing.TB, stage mcp.Caller, body string, fields ...string) *benchAgent {
	t.Helper()
	handler, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Route{{
			Name: "s", URL: pipeConfig(t, nil).URL, Caller: session.New(session.Options{Upstream: "s", Next: stage}),
		}},
		BodyLimit: 16 << 20, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	a := &benchAgent{handler: handler, body: []byte(body), sink: benchSink{header: make(http.Header, 16)}}
	if a.req, err = http.NewRequest(http.MethodPost, "http://127.0.0.1:7300/mcp/s", nil); err != nil {
		t.Fatal(err)
	}
	// What the Python client sends. The TypeScript one's fetch has two more: benchFetch.
	a.req.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "User-Agent": {"bench"},
		"Accept-Encoding": {"gzip, deflate"}, "Content-Length": {fmt.Sprint(len(body))}, "Connection": {"keep-alive"},
		"Authorization": {"Bearer 0123456789abcdef0123456789abcdef"},
	}
	for i := 0; i < len(fields); i += 2 {
		a.req.Header[fields[i]] = []string{fields[i+1]}
	}
	a.req.ContentLength = int64(len(body))
	a.req.Body = &a.read
	return a
}

// post sends the request once.
func (a *benchAgent) post() {
	a.read.Reset(a.body)
	clear(a.sink.header)
	a.sink.status, a.sink.size, a.sink.writes = 0, 0, 0
	a.handler.ServeHTTP(&a.sink, a.req)
}

const (
	benchModern = `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{` + pipeMeta + `}}`
	benchLegacy = `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{}}`
	benchOpen   = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	benchOpened = `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`
)

// benchServer answers tools/list with a list of about that size.
func benchServer(size int, members string) pipeAnswer {
	tool := `{"name":"tool","description":"` + strings.Repeat("x", 180) + `","inputSchema":{"type":"object"}}`
	tools := tool + strings.Repeat(","+tool, max(0, (size-150)/len(tool)-1))
	return func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
		if c.Method() == mcp.MethodInitialize {
			res := pipeResult(fmt.Sprintf(benchOpened, c.ID()))
			res.Header.Set("Mcp-Session-Id", "session")
			return res, nil
		}
		return pipeResult(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s],%s}}`, c.ID(), tools, members)), nil
	}
}

// benchHit is a request that memory answers.
type benchHit struct {
	name    string
	size    int
	members string // of the result
	legacy  bool   // with a session, and kept by the operator's word
	public  bool
}

var benchHits = []benchHit{
	{"private 1KB", 1 << 10, pipePrivate, false, false},
	{"public 1KB", 1 << 10, pipePublic, false, true},
	{"legacy 1KB", 1 << 10, `"x":1`, true, false},
	{"private 100KB", 100 << 10, pipePrivate, false, false},
	{"public 100KB", 100 << 10, pipePublic, false, true},
	{"legacy 100KB", 100 << 10, `"x":1`, true, false},
}

// warm makes an agent whose answer is in memory: the server is not called again. fields are more of the header.
func (h benchHit) warm(t testing.TB, fields ...string) *benchAgent {
	t.Helper()
	p := newPipe(t, func(c *config.Upstream) {
		if h.legacy {
			c.Cache.TTL = map[string]time.Duration{"tools/list": time.Hour}
		}
	}, benchServer(h.size, h.members))
	fields = slices.Clip(fields)
	body := benchModern
	if h.legacy {
		body = benchLegacy
		newBenchAgent(t, p.stage, benchOpen).post()
		fields = append(fields, "Mcp-Protocol-Version", "2025-11-25", "Mcp-Session-Id", "session")
	} else {
		fields = append(fields, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list")
	}
	a := newBenchAgent(t, p.stage, body, fields...)
	a.post()
	p.server.seen()
	a.post()
	a.wantHit(t)
	p.wantCalls(0)
	return a
}

// wantHit checks the last answer: from memory, under the agent's id, in one write, about as large as it should be.
func (a *benchAgent) wantHit(t testing.TB) {
	t.Helper()
	h := a.sink.header
	var m mcp.Message
	if err := mcp.Scan(a.sink.last, &m); err != nil || string(m.ID.Of(a.sink.last)) != "7" || m.Kind != mcp.KindResult {
		t.Fatalf("%v: %.300s", err, a.sink.last)
	}
	if !strings.HasPrefix(h.Get("Cache-Status"), "fluentd-perf; hit; ") || a.sink.writes != 1 ||
		h.Get("Content-Length") != fmt.Sprint(len(a.sink.last)) || a.sink.status != http.StatusOK {
		t.Fatalf("%d, %d writes, %v", a.sink.status, a.sink.writes, h)
	}
}

// BenchmarkCacheHit is a hit in memory, from the request's bytes to the one write of the answer: the handler and all stages,
// without net/http's server.
func BenchmarkCacheHit(b *testing.B) {
	for _, h := range benchHits {
		b.Run(h.name, func(b *testing.B) {
			a := h.warm(b, benchFetch...)
			b.ReportAllocs()
			for b.Loop() {
				a.post()
			}
			a.wantHit(b)
		})
	}
}

// BenchmarkCacheMiss is what the stages cost a call that goes to the server: beside the handler and the server alone, cache
// and flights for an answer that is not kept, and for one that is each time.
func BenchmarkCacheMiss(b *testing.B) {
	server := benchServer(1<<10, pipeOnce)
	for name, stage := range map[string]func(*pipe) mcp.Caller{
		"server alone": func(p *pipe) mcp.Caller { return p.server },
		"stages":       func(p *pipe) mcp.Caller { return p.stage },
	} {
		b.Run(name, func(b *testing.B) {
			p := newPipe(b, nil, server)
			a := newBenchAgent(b, stage(p), benchModern, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list")
			b.ReportAllocs()
			for b.Loop() {
				a.post()
				p.server.forget()
			}
		})
	}
}
