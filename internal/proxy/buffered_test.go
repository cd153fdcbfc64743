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
	d := newBudgeted(t, budget, 16<<20, next)
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

// TestBufferedOneBody: a budget of limits.body has room for a body of that size, declared or not.
func TestBufferedOneBody(t *testing.T) {
	next := mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return scanned(200, `{"jsonrpc":"2.0","id":1,"result":{}}`), nil
	})
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`
	for _, size := range []int{1 << 10, 5000, 256 << 10, 1_000_000, 1 << 20, 16 << 20} {
		for _, declared := range []bool{true, false} {
			budget := mcp.NewBudget(int64(size))
			d := newBudgeted(t, budget, int64(size), next)
			r := httptest.NewRequest("POST", "http://localhost/mcp/s", strings.NewReader(call+strings.Repeat(" ", size-len(call))))
			if !declared {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			if d.ServeHTTP(w, r); w.Code != 200 || budget.Held() != 0 {
				t.Errorf("%d bytes, declared %v: %d %s, %d held", size, declared, w.Code, w.Body, budget.Held())
			}
		}
	}
}

// TestBufferedSmall: while the budget is spent, what is small and needs no answer passes, so that a cancellation frees what a
// call holds. What needs one does not, nor what is larger.
func TestBufferedSmall(t *testing.T) {
	const limit = 1 << 20
	budget := mcp.NewBudget(limit)
	canceled, cancelCall := context.WithCancel(t.Context())
	arrived := make(chan struct{}, 1)
	next := mcp.CallerFunc(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		switch {
		case c.Message.Kind == mcp.KindRequest:
			arrived <- struct{}{}
			<-canceled.Done()
			return scanned(200, `{"jsonrpc":"2.0","id":1,"result":{}}`), nil
		case strings.Contains(string(c.Body), `"requestId":1`):
			cancelCall()
		}
		return &mcp.Result{Status: 202}, nil
	})
	d := newBudgeted(t, budget, limit, next)
	post := func(path, body string, size int) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		body += strings.Repeat(" ", max(size-len(body), 0))
		d.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost"+path, strings.NewReader(body)))
		return w
	}
	const (
		request  = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`
		progress = `{"jsonrpc":"2.0","method":"notifications/progress"}`
		cancel   = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
	)
	var wg sync.WaitGroup
	wg.Go(func() { post("/mcp/s", request, limit) })
	<-arrived
	for _, c := range []struct {
		path, body   string
		size, status int
	}{
		{"/mcp/s", request, 0, 429},
		{"/mcp/s", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}`, 0, 429},
		{"/mcp/s", `[` + progress + `]`, 0, 429},
		{"/mcp/s", `nonsense`, 0, 429},
		{"/rpc/s", `[` + progress + `]`, 0, 429},
		{"/mcp/s", progress, 64<<10 + 1, 429},
		{"/mcp/s", progress, 400 << 10, 429},
		{"/mcp/s", progress, 64 << 10, 202},
		{"/mcp/s", `{"jsonrpc":"2.0","id":7,"result":{}}`, 0, 202},
		{"/mcp/s", `{"jsonrpc":"2.0","id":7,"error":{"code":-1,"message":"no"}}`, 0, 202},
		{"/mcp/s", cancel, 0, 202},
	} {
		w := post(c.path, c.body, c.size)
		if w.Code != c.status || c.status == 429 && (!strings.Contains(w.Body.String(), `"reason":"buffered"`) || strings.Contains(w.Body.String(), `"id":1`)) {
			t.Errorf("%s %s of %d bytes: %d %s, want %d", c.path, c.body, c.size, w.Code, w.Body, c.status)
		}
	}
	if canceled.Err() == nil {
		t.Error("the call goes on after the cancellation")
		cancelCall()
	}
	wg.Wait()
	if got := budget.Held(); got != 0 {
		t.Errorf("%d bytes are held after the end", got)
	}
}

// TestBufferedSmallTogether: what passes beside the budget is bounded together, and free again.
func TestBufferedSmallTogether(t *testing.T) {
	gate, arrived := make(chan struct{}), make(chan struct{}, 100)
	next := mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		arrived <- struct{}{}
		<-gate
		return &mcp.Result{Status: 202}, nil
	})
	d := newBudgeted(t, mcp.NewBudget(0), 1<<20, next)
	notify := func() int {
		const text = `{"jsonrpc":"2.0","method":"notifications/progress"}`
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/mcp/s", strings.NewReader(text+strings.Repeat(" ", 64<<10-len(text)))))
		return w.Code
	}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { notify() })
		<-arrived
	}
	if status := notify(); status != 429 {
		t.Errorf("one more gets %d", status)
	}
	close(gate)
	wg.Wait()
	if status := notify(); status != 202 {
		t.Errorf("after the end: %d", status)
	}
}

// newBudgeted is a handler in front of next, at /mcp/s and /rpc/s.
func newBudgeted(t *testing.T, budget *mcp.Budget, limit int64, next mcp.Caller) *proxy.Handler {
	t.Helper()
	d, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Route{{Name: "s", URL: mustURL(t, "http://server.test/mcp"), Caller: next, Array: next}},
		BodyLimit: limit, Buffered: budget, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestStreamHoldsNoBody holds that the body of a GET or a DELETE, which means nothing, takes nothing of the budget once it has
// been read: a stream may stay open for hours.
func TestStreamHoldsNoBody(t *testing.T) {
	budget := mcp.NewBudget(1 << 20)
	held := map[string]int64{}
	next := mcp.CallerFunc(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		held[c.Lane.Verb()] = budget.Held()
		return &mcp.Result{Status: 202}, nil
	})
	h := newBudgeted(t, budget, 1<<20, next)
	for _, verb := range []string{"GET", "DELETE", "POST"} {
		body := listTools + strings.Repeat(" ", 500<<10)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(verb, "http://localhost/mcp/s", strings.NewReader(body)))
	}
	if held["GET"] != 0 || held["DELETE"] != 0 || held["POST"] < 500<<10 || budget.Held() != 0 {
		t.Errorf("held while the server answered: %v, and %d after", held, budget.Held())
	}
}
