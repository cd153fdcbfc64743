package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// TestUnsentBody holds that a GET or DELETE that announces a body is not waited for without end: it is read like any
// other, within the server's deadline.
func TestUnsentBody(t *testing.T) {
	d, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Route{{Name: "s", URL: mustURL(t, "http://server.test/mcp"), Caller: answering("{}")}},
		BodyLimit: 1 << 20, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(d)
	srv.Config.ReadTimeout = 200 * time.Millisecond
	srv.Start()
	defer srv.Close()
	for _, head := range []string{"GET /mcp/s", "DELETE /mcp/s", "GET /.well-known/oauth-protected-resource/mcp/s"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, head+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", head, err)
		}
		if resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("%s: %d", head, resp.StatusCode)
		}
		conn.Close()
	}
}

// TestRawFlush holds that a stream that the daemon does not look into still passes at once.
func TestRawFlush(t *testing.T) {
	pr, pw := io.Pipe()
	_, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}, "Content-Encoding": {"gzip"}}), Raw: pr}, nil
	}, nil)
	req, err := http.NewRequest("POST", base+"/mcp/s", strings.NewReader(listTools))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity") // or the client unpacks it
	resp, err := http.DefaultClient.Do(req)       // the head comes before any byte
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, part := range []string{"one", "two"} {
		if _, err := io.WriteString(pw, part); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(part))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != part {
			t.Fatalf("%q, %v", got, err)
		}
	}
	pw.Close()
}

// TestCleanEnds holds that a stream that ends cleanly, with no answer outstanding, is passed on as such.
func TestCleanEnds(t *testing.T) {
	for name, body := range map[string]string{
		"notification": `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		"response":     `{"jsonrpc":"2.0","id":1,"result":{}}`,
		"array":        `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`,
	} {
		_, base := newHandler(t, streaming(&scripted{events: []mcp.Event{event(":\n\n")}, end: io.EOF}), nil)
		if a := do(t, "POST", base+"/mcp/s", body); a.status != 200 || a.body != ":\n\n" {
			t.Errorf("%s: %d %q", name, a.status, a.body)
		}
	}
}

// TestDrainLetsCallsFinish holds that what a call in flight waits for gets through while the daemon drains.
func TestDrainLetsCallsFinish(t *testing.T) {
	d, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return &mcp.Result{Status: 202, Header: header.List{}}, nil
	}, nil)
	d.Drain()
	d.Refuse()
	const result, failed = `{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"no"}}`
	const cancelled, ping = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`, `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for body, status := range map[string]int{
		result: 202, cancelled: 202,
		"[" + result + "]": 202, "[" + result + ", " + failed + "]": 202, "[" + cancelled + "," + result + "]": 202,
		"[" + ping + "]": 503, "[" + result + "," + ping + "]": 503, "[" + result + ",7]": 503, "[]": 503,
		"[" + strings.Repeat(result+",", 1000) + result + "]": 503,
	} {
		if a := do(t, "POST", base+"/mcp/s", body); a.status != status {
			t.Errorf("%.100s: %d %s", body, a.status, a.body)
		}
	}
}

// TestNoContentType holds that an answer without a type gets none.
func TestNoContentType(t *testing.T) {
	_, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return &mcp.Result{Status: 400, Header: header.List{}, Body: []byte("<html>no")}, nil
	}, nil)
	if a := do(t, "POST", base+"/mcp/s", listTools); len(a.header["Content-Type"]) > 0 {
		t.Errorf("Content-Type %q", a.header["Content-Type"])
	}
}

// TestEmptyEventID holds that an empty id makes no stream resumable.
func TestEmptyEventID(t *testing.T) {
	ev := mcp.Event{Raw: []byte("id:\ndata: \n\n"), HasID: true}
	_, base := newHandler(t, streaming(&scripted{events: []mcp.Event{ev}, end: io.EOF}), nil)
	if a := do(t, "POST", base+"/mcp/s", listTools); !strings.Contains(a.body, `"reason":"broke_off"`) {
		t.Errorf("the client cannot resume and got %q", a.body)
	}
}

// TestVerbs holds which verbs the paths take.
func TestVerbs(t *testing.T) {
	_, base := newHandler(t, answering("{}"), func(o *proxy.Options) {
		o.MetricsHandler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	})
	for _, c := range []struct {
		verb, path string
		status     int
		allow      string
	}{
		{"HEAD", "/healthz", 200, ""}, {"POST", "/healthz", 405, "GET, HEAD"}, {"DELETE", "/readyz", 405, "GET, HEAD"}, {"PUT", "/mcp/s", 405, "GET, POST, DELETE"},
		{"HEAD", "/metrics", 204, ""}, {"GET", "/metrics", 204, ""}, {"POST", "/metrics", 405, "GET, HEAD"},
		{"POST", "/mcp", 200, ""}, {"POST", "/mcp/other", 404, ""}, {"POST", "/mcp/s/message/x", 404, ""}, {"GET", "/", 404, ""},
	} {
		if a := do(t, c.verb, base+c.path, listTools); a.status != c.status || a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q", c.verb, c.path, a.status, a.header.Get("Allow"))
		}
	}
}

// TestPathsDecodedOnce holds that the name in a path is decoded once: another name is another upstream.
func TestPathsDecodedOnce(t *testing.T) {
	_, base := newHandler(t, answering("{}"), arrays(answering("[]")))
	for path, status := range map[string]int{"/rpc/s": 200, "/rpc/%73": 200, "/rpc/%2573": 404, "/mcp/%73": 200, "/mcp/%2573": 404} {
		if a := do(t, "POST", base+path, listTools); a.status != status {
			t.Errorf("%s: %d, want %d", path, a.status, status)
		}
	}
}

// TestNoUpstream holds that without an upstream nobody is told that there are several.
func TestNoUpstream(t *testing.T) {
	h, base := newHandler(t, answering("{}"), nil)
	mustSwap(t, h)
	if a := do(t, "POST", base+"/mcp", listTools); a.status != 404 || strings.Contains(a.body, "several") {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
