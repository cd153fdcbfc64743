package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// named is an upstream at http://<host>/mcp that answers by call.
func named(t *testing.T, name, host string, call mcp.CallerFunc) proxy.Route {
	t.Helper()
	return proxy.Route{Name: name, URL: mustURL(t, "http://"+host+"/mcp"), Caller: call, RewriteOAuth: true}
}

func mustSwap(t *testing.T, h *proxy.Handler, list ...proxy.Route) {
	t.Helper()
	if err := h.Swap(list); err != nil {
		t.Fatal(err)
	}
}

// TestSwap holds which paths there are after each Swap, and that a list with a name twice changes nothing.
func TestSwap(t *testing.T) {
	h, base := newHandler(t, answering(`"first"`), nil)
	check := func(step string, want map[string]string) {
		t.Helper()
		for path, body := range want {
			if a := do(t, "POST", base+path, listTools); !strings.Contains(a.body, body) {
				t.Errorf("%s: %s answered %d %q, want %q", step, path, a.status, a.body, body)
			}
		}
	}
	check("new", map[string]string{"/mcp/s": `"first"`, "/mcp": `"first"`, "/mcp/t": "no upstream named"})
	s, u := named(t, "s", "server.test", answering(`"second"`)), named(t, "t", "other.test", answering(`"t"`))
	u.Array = answering(`["t"]`)
	mustSwap(t, h, s, u)
	two := map[string]string{"/mcp/s": `"second"`, "/mcp/t/": `"t"`, "/rpc/t": `["t"]`, "/rpc/s": "takes no arrays", "/mcp": "several upstreams"}
	check("two", two)
	if err := h.Swap([]proxy.Route{u, u}); err == nil || !strings.Contains(err.Error(), `"t"`) {
		t.Errorf("a name twice: %v", err)
	}
	check("a name twice", two)
	mustSwap(t, h, u)
	check("one", map[string]string{"/mcp/s": "no upstream named", "/mcp/t": `"t"`, "/mcp/": `"t"`, "/rpc/s": "no upstream named"})
	if _, count := h.Calls("s", 1); count != 0 {
		t.Errorf("%d calls of an upstream that is gone", count)
	}
	mustSwap(t, h)
	check("none", map[string]string{"/mcp/t": "no upstream named", "/rpc/t": "no upstream named"})
}

// TestSwapUnderWay: a call keeps the upstream that it began with, and is still known as one of its name's; a stream of the
// old upstream and a call to the new one are of one session, so that the drain leaves the stream open for the call.
func TestSwapUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		waiting := func(name string) mcp.CallerFunc {
			return func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
				if c.Lane == mcp.LaneStream {
					return streaming(&scripted{end: mcp.Draining(), block: make(chan struct{})})(ctx, c)
				}
				<-release
				return jsonResult(name), nil
			}
		}
		h, err := proxy.New(options(named(t, "s", "server.test", waiting("old"))))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		serve := func(ctx context.Context, verb string, got *httptest.ResponseRecorder) {
			r := httptest.NewRequestWithContext(ctx, verb, "http://localhost/mcp/s", strings.NewReader(listTools))
			r.Header.Set("Mcp-Session-Id", "1")
			wg.Go(func() {
				defer func() {
					if p := recover(); p != nil && p != http.ErrAbortHandler {
						panic(p)
					}
				}()
				h.ServeHTTP(got, r)
			})
			synctest.Wait()
		}
		before, after, stream := httptest.NewRecorder(), httptest.NewRecorder(), httptest.NewRecorder()
		serve(t.Context(), "GET", stream)
		serve(t.Context(), "POST", before)
		mustSwap(t, h, named(t, "s", "server.test", waiting("new")))
		serve(t.Context(), "POST", after)
		if calls, count := h.Calls("s", 10); count != 2 || calls[0].Request >= calls[1].Request {
			t.Errorf("%d calls: %+v, want both, the one from before first", count, calls)
		}
		h.Drain()
		synctest.Wait()
		if n := h.InFlight(); n != 3 {
			t.Errorf("%d in flight at the drain, want two calls and the stream", n)
		}
		close(release)
		wg.Wait()
		if before.Body.String() != "old" || after.Body.String() != "new" || h.InFlight() != 0 {
			t.Errorf("got %q and %q, %d in flight", before.Body, after.Body, h.InFlight())
		}
	})
}

// TestSwapOAuth holds that what a server said of its OAuth stays with its URL: the document's place, and that it asks for
// signing in. Another server under the name is not asked at a place of the first one's.
func TestSwapOAuth(t *testing.T) {
	const named401 = `Bearer resource_metadata="http://server.test/place"`
	var asked []string
	call := challenging([]string{named401}, nil, &asked)
	h, base := newHandler(t, call, func(o *proxy.Options) { o.Upstreams[0].URL = mustURL(t, "http://server.test/mcp") })
	do(t, "POST", base+"/mcp/s", listTools)
	for _, c := range []struct {
		host, first string
		status      int
	}{
		{"server.test", "http://server.test/place", 200},
		{"moved.test", "http://moved.test/.well-known/oauth-protected-resource/mcp", 404},
		{"server.test", "http://server.test/.well-known/oauth-protected-resource/mcp", 404},
	} {
		mustSwap(t, h, named(t, "s", c.host, call))
		asked = nil
		a := do(t, "GET", base+"/.well-known/oauth-protected-resource/mcp/s", "")
		if a.status != c.status || len(asked) == 0 || asked[0] != c.first {
			t.Errorf("%s: %d, asked %q, want %d and %q first", c.host, a.status, asked, c.status, c.first)
		}
	}
}

// TestSwapRace swaps while requests are served: each is served by one set from its headers to its answer, also by the alias.
func TestSwapRace(t *testing.T) {
	upstreamsOf := func(n int) []proxy.Route {
		u := named(t, "s", "server.test", func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
			return jsonResult(fmt.Sprint(n, " ", c.Header.Get("X-Set"))), nil
		})
		u.Headers = header.Of(http.Header{"X-Set": {fmt.Sprint(n)}})
		return []proxy.Route{u}
	}
	h, err := proxy.New(options(upstreamsOf(0)...))
	if err != nil {
		t.Fatal(err)
	}
	const swaps, swappers, agents = 200, 2, 4
	var agentsDone, swapped sync.WaitGroup
	stop := make(chan struct{})
	for n := range agents {
		path := []string{"/mcp/s", "/mcp"}[n%2]
		agentsDone.Go(func() {
			for {
				got := httptest.NewRecorder()
				h.ServeHTTP(got, httptest.NewRequest("POST", "http://localhost"+path, strings.NewReader(listTools)))
				var set, header int
				if _, err := fmt.Sscan(got.Body.String(), &set, &header); err != nil || set != header {
					t.Errorf("%s: one request of two sets: %q", path, got.Body)
					return
				}
				h.Calls("s", 1)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for n := range swappers {
		swapped.Go(func() {
			for i := range swaps {
				if err := h.Swap(upstreamsOf(1 + n*swaps + i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	swapped.Wait()
	close(stop)
	agentsDone.Wait()
	if n := h.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}
