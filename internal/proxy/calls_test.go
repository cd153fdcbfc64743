package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// lockedBuffer takes a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hangingHandler is a handler whose server answers initialize, with a session, and nothing else.
func hangingHandler(t *testing.T, log *lockedBuffer) *proxy.Handler {
	t.Helper()
	u, err := url.Parse("http://server.test/mcp")
	if err != nil {
		t.Fatal(err)
	}
	d, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Route{{Name: "s", URL: u, Caller: mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if c.Method() == mcp.MethodInitialize {
				return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Mcp-Session-Id": {"s1"}})}, nil
			}
			<-ctx.Done()
			return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff}
		})}},
		BodyLimit: 1 << 20, Metrics: proxy.NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func post(ctx context.Context, d *proxy.Handler, body string, fields ...string) {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/mcp/s", strings.NewReader(body))
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	d.ServeHTTP(httptest.NewRecorder(), r)
}

// TestCalls: who wants what, and for how long; what has ended is not there any more, wherever it stood in the order.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := hangingHandler(t, new(lockedBuffer))
		post(t.Context(), d, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"clientInfo":{"name":"coder"}}}`)
		requests := []struct {
			body    string
			session string
			want    string
		}{
			{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"se\u0061rch"}}`, "s1", "tools/call search coder"},
			{`{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/clientInfo":{"name":"modern"}}}}`, "", "tools/list  modern"},
			{`{"jsonrpc":"2.0","id":3,"method":"vendor/x"}`, "s2", "other  192.0.2.1:1234"},
			{`{"jsonrpc":"2.0","id":4,"method":"resources/read","params":{"uri":"a:b"}}`, "", "resources/read  192.0.2.1:1234"},
		}
		var ends []func()
		var wg sync.WaitGroup
		for _, r := range requests {
			ctx, cancel := context.WithCancel(t.Context())
			ends = append(ends, cancel)
			wg.Go(func() { post(ctx, d, r.body, "Mcp-Session-Id", r.session) })
			<-time.After(time.Second)
		}
		under := []int{0, 1, 2, 3}
		for _, ended := range []int{-1, 1, 3, 0, 2} {
			if ended >= 0 {
				ends[ended]()
				synctest.Wait()
				var left []int
				for _, i := range under {
					if i != ended {
						left = append(left, i)
					}
				}
				under = left
			}
			got, count := d.Calls("s", 10)
			if len(got) != len(under) || count != len(under) {
				t.Fatalf("without %d: %+v (%d), want %v", ended, got, count, under)
			}
			for n, i := range under {
				c := got[n]
				if who := c.Method + " " + c.Tool + " " + c.Agent; who != requests[i].want || c.AgeMs != int64(4-i)*1000 || c.Upstream != "s" {
					t.Errorf("got %+v, want %s", c, requests[i].want)
				}
			}
			if oldest, count := d.Calls("s", 1); len(oldest) != min(1, len(under)) || count != len(under) {
				t.Errorf("got %+v of %d", oldest, count)
			}
		}
		wg.Wait()
	})
}

// TestLongCalls: a call past 30 s is logged once, each at its time.
func TestLongCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(lockedBuffer)
		d := hangingHandler(t, log)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		said := func() int { return strings.Count(log.text(), "under way for long") }
		for i := range 3 {
			wg.Go(func() {
				post(ctx, d, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"t%d"}}`, i, i))
			})
			<-time.After(10 * time.Second)
		}
		for i := range 3 { // it is 30 s, 40 s, 50 s
			<-time.After(time.Second)
			if n := said(); n != i+1 || !strings.Contains(log.text(), fmt.Sprintf("method=tools/call tool=t%d agent=192.0.2.1:1234 for=30s", i)) {
				t.Errorf("after %d: %d lines: %s", i, n, log.text())
			}
			<-time.After(9 * time.Second)
		}
		<-time.After(time.Hour)
		if n := said(); n != 3 {
			t.Errorf("%d lines after an hour", n)
		}
		cancel()
		wg.Wait()
		post(t.Context(), d, `{"jsonrpc":"2.0","id":0,"method":"initialize"}`)
		<-time.After(time.Hour)
		if n := said(); n != 3 {
			t.Errorf("%d lines: a short call is none", n)
		}
	})
}
