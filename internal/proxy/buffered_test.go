package proxy_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// TestBuffered: bodies that wait are bounded together. Beyond that a new one gets 429 without id, whatever it is, and what
// was held is free again when the calls have ended.
func TestBuffered(t *testing.T) {
	budget, gate := mcp.NewBudget(1<<20), make(chan struct{})
	arrived := make(chan struct{}, 100)
	next := mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		arrived <- struct{}{}
		<-gate
		return scanned(200, `{"jsonrpc":"2.0","id":1,"result":{}}`), nil
	})
	d, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Upstream{{Name: "s", URL: mustURL(t, "http://server.test/mcp"), Caller: next, Array: next}},
		BodyLimit: 16 << 20, Buffered: budget, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	post := func(path string, size int) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"x":"%0*d"}}`, size, 0)
		d.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost"+path, strings.NewReader(body)))
		return w
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { post("/mcp/s", 200<<10) })
		<-arrived
	}
	for _, path := range []string{"/mcp/s", "/rpc/s"} {
		w := post(path, 400<<10)
		if body := w.Body.String(); w.Code != 429 || strings.Contains(body, "77") || !strings.Contains(body, `"reason":"buffered"`) || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", path, w.Code, body)
		}
	}
	close(gate)
	wg.Wait()
	if got := budget.Held(); got != 0 {
		t.Errorf("%d bytes are held after the end", got)
	}
	if w := post("/mcp/s", 400<<10); w.Code != 200 || budget.Held() != 0 {
		t.Errorf("after the end: %d, %d bytes held", w.Code, budget.Held())
	}
}
