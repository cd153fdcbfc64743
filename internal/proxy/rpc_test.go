package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

const arrayBody = `[{"jsonrpc":"2.0","id":1,"method":"a"}, 7]`

// arrays gives the upstream an Array.
func arrays(call mcp.CallerFunc) func(*proxy.Options) {
	return func(o *proxy.Options) { o.Upstreams[0].Array = call }
}

// TestRPC hands an array on whole, with the caller's headers, and writes what comes back.
func TestRPC(t *testing.T) {
	var got mcp.Call
	var text strings.Builder
	reg := prometheus.NewRegistry()
	_, base := newHandler(t, failing(mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo}), func(o *proxy.Options) {
		o.Metrics, o.Log, o.Token = proxy.NewMetrics(reg), slog.New(slog.NewTextHandler(&text, nil)), "secret"
		arrays(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
			got = *c
			return jsonResult(`[{"jsonrpc":"2.0","id":1,"result":1}]`), nil
		})(o)
	})
	a := do(t, http.MethodPost, base+"/rpc/s", arrayBody, "Mcp-Session-Id", "mine", "Mcp-Protocol-Version", "2026-07-28",
		"Cookie", "c=1", "Proxy-Authorization", "Bearer secret")
	if a.status != 200 || a.body != `[{"jsonrpc":"2.0","id":1,"result":1}]` || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %v %s", a.status, a.header, a.body)
	}
	h := got.Header
	if string(got.Body) != arrayBody || got.Lane != mcp.LaneArray || got.Upstream != "s" || got.Conn == "" || got.Request == "" ||
		got.Start.IsZero() || got.Message != (mcp.Message{}) {
		t.Errorf("the call is %+v", got)
	}
	if h.Get("Mcp-Session-Id") != "mine" || h.Get("Mcp-Protocol-Version") != "2026-07-28" || h.Has("Cookie") || h.Has("Proxy-Authorization") {
		t.Errorf("the header is %v", h)
	}
	if n := requestsOf(t, reg, "rpc", "ok"); n != 1 {
		t.Errorf("%v requests are counted, want 1", n)
	}
	if line := text.String(); !strings.Contains(line, "method=rpc") || !strings.Contains(line, "id="+got.Request) {
		t.Errorf("the access line is %s", line)
	}
}

// requestsOf reads fluentd_perf_requests_total.
func requestsOf(t *testing.T, reg *prometheus.Registry, method, outcome string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "fluentd_perf_requests_total" && labels["method"] == method && labels["outcome"] == outcome {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// TestRPCPaths holds who gets to the arrays, and how.
func TestRPCPaths(t *testing.T) {
	_, base := newHandler(t, answering("{}"), arrays(answering("[]")))
	_, without := newHandler(t, answering("{}"), nil)
	_, guarded := newHandler(t, answering("{}"), func(o *proxy.Options) { o.Token = "secret"; arrays(answering("[]"))(o) })
	for _, x := range []struct {
		verb, target string
		header       []string
		status       int
		want         string
	}{
		{"POST", base + "/rpc/s", nil, 200, "[]"},
		{"POST", base + "/rpc/other", nil, 404, `no upstream named "other"`},
		{"POST", base + "/rpc", nil, 404, ""},
		{"POST", base + "/rpc/s/more", nil, 404, ""},
		{"GET", base + "/rpc/s", nil, 405, "use POST"},
		{"DELETE", base + "/rpc/s", nil, 405, "use POST"},
		{"POST", without + "/rpc/s", nil, 404, "/mcp/s"},
		{"POST", base + "/rpc/s", []string{"Host", "evil.test"}, 403, "Host"},
		{"POST", base + "/rpc/s", []string{"Origin", "http://evil.test"}, 403, "Origin"},
		{"POST", guarded + "/rpc/s", nil, 403, "token"},
		{"POST", guarded + "/rpc/s", []string{"Fluentd-Perf-Token", "secret"}, 200, "[]"},
	} {
		a := do(t, x.verb, x.target, arrayBody, x.header...)
		if a.status != x.status || !strings.Contains(a.body, x.want) {
			t.Errorf("%s %s %v: got %d %s, want %d %s", x.verb, x.target, x.header, a.status, a.body, x.status, x.want)
		}
		if a.status == 405 && a.header.Get("Allow") != "POST" {
			t.Errorf("%s: Allow is %q", x.verb, a.header.Get("Allow"))
		}
	}
}

// TestRPCFailures holds what fails an array as a whole: by status, without an id.
func TestRPCFailures(t *testing.T) {
	call := failing(mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "no"})
	d, base := newHandler(t, answering("{}"), func(o *proxy.Options) { o.BodyLimit = 100; arrays(call)(o) })
	want := func(body string, status, code int, reason string) {
		t.Helper()
		a := do(t, http.MethodPost, base+"/rpc/s", body)
		if a.status != status || !strings.HasPrefix(a.body, fmt.Sprintf(`{"jsonrpc":"2.0","error":{"code":%d,`, code)) ||
			!strings.Contains(a.body, `"reason":"`+reason+`"`) {
			t.Errorf("got %d %s, want %d %d %s", a.status, a.body, status, code, reason)
		}
	}
	want(`{"jsonrpc":"2.0","method":"n"}`, 502, 1502, "connect")
	want(strings.Repeat(" ", 101), 413, 1413, "body_too_large")
	d.Drain()
	d.Refuse()
	want(arrayBody, 503, 1503, "draining")
}

// TestRPCLeaves ends the call when the caller leaves.
func TestRPCLeaves(t *testing.T) {
	began, ended := make(chan bool), make(chan bool)
	_, base := newHandler(t, answering("{}"), arrays(func(ctx context.Context, _ *mcp.Call) (*mcp.Result, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: ctx.Err()}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/rpc/s", strings.NewReader(arrayBody))
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-began; cancel() }()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("a caller that left got an answer")
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the call goes on")
	}
}

// TestRPCLarge writes an answer of many pieces whole.
func TestRPCLarge(t *testing.T) {
	large := `["` + strings.Repeat("0123456789", 350_000) + `"]`
	_, base := newHandler(t, answering("{}"), arrays(answering(large)))
	if a := do(t, http.MethodPost, base+"/rpc/s", arrayBody); a.status != 200 || a.body != large {
		t.Errorf("got %d and %d bytes, want %d", a.status, len(a.body), len(large))
	}
}

// TestRPCFailedCalls: what the daemon failed in an array is no success of the request's: it is counted and logged as what it
// was, and each call that a limit refused is counted.
func TestRPCFailedCalls(t *testing.T) {
	var text strings.Builder
	reg := prometheus.NewRegistry()
	failed := new(mcp.FailedCalls)
	failed.Add(&mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Cause: errors.New("refused")})
	for range 3 {
		failed.Add(&mcp.Failure{Code: mcp.CodeOverloaded, Reason: mcp.ReasonQueueFull, Sent: mcp.SentNo})
	}
	_, base := newHandler(t, answering("{}"), func(o *proxy.Options) {
		o.Metrics, o.Log = proxy.NewMetrics(reg), slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelWarn}))
		arrays(func(context.Context, *mcp.Call) (*mcp.Result, error) {
			res := jsonResult(`[]`)
			res.Failed = failed
			return res, nil
		})(o)
	})
	if a := do(t, http.MethodPost, base+"/rpc/s", arrayBody); a.status != 200 {
		t.Errorf("got %d", a.status)
	}
	if n := requestsOf(t, reg, "rpc", "connect"); n != 1 {
		t.Errorf("%v requests failed, want 1", n)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shed := 0.0
	for _, f := range families {
		if f.GetName() == "fluentd_perf_shed_total" {
			shed = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if shed != 3 {
		t.Errorf("%v calls were shed, want 3", shed)
	}
	if line := text.String(); !strings.Contains(line, "reason=connect") || !strings.Contains(line, "failed_calls=4") || !strings.Contains(line, "cause=refused") {
		t.Errorf("the access line is %s", line)
	}
}
