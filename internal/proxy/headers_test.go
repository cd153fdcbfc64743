package proxy_test

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// raw sends the bytes and returns all that comes back.
func raw(t *testing.T, base, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestConnectionNamed holds that a field that Connection names says nothing of a call (RFC 9110, 7.6.1): it is gone before
// the call is decoded.
func TestConnectionNamed(t *testing.T) {
	const (
		old    = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
		modern = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
		array  = `[` + old + `]`
		v2025  = "Mcp-Protocol-Version: 2025-11-25\r\n"
		v2026  = "Mcp-Protocol-Version: 2026-07-28\r\n"
		method = "Mcp-Method: tools/list\r\n"
	)
	for _, c := range []struct {
		name, body, header string
		want               mcp.Call // Lane, Era, Version and Mismatch
	}{
		{"Mcp-Protocol-Version", old, v2025, mcp.Call{}},
		{"mcp-protocol-version", old, v2026, mcp.Call{}},
		{"Mcp-Protocol-Version", array, v2026, mcp.Call{Lane: mcp.LaneOpaque}},
		{"Mcp-Protocol-Version", modern, v2026 + method, mcp.Call{Era: mcp.EraModern, Version: "2026-07-28", Mismatch: true}},
		{"Mcp-Method", modern, v2026 + method, mcp.Call{Era: mcp.EraModern, Version: "2026-07-28", Mismatch: true}},
		{"X-Other", modern, v2026 + method + "X-Other: 1\r\n", mcp.Call{Era: mcp.EraModern, Version: "2026-07-28"}},
		{"Mcp-Session-Id", old, v2025 + "Mcp-Session-Id: mine\r\n", mcp.Call{Version: "2025-11-25"}},
		{"Last-Event-Id", old, v2025 + "Last-Event-Id: 7\r\n", mcp.Call{Version: "2025-11-25"}},
		{"Authorization", old, "Authorization: Bearer mine\r\n", mcp.Call{}},
		{"Content-Encoding", old, "Content-Encoding: gzip\r\n", mcp.Call{}},
		{"Content-Type", old, "Content-Type: application/json\r\n", mcp.Call{}},
		{"Origin", old, "Origin: http://localhost\r\n", mcp.Call{}},
		{"User-Agent", old, "User-Agent: mine\r\n", mcp.Call{}},
		{"X-Api-Key", old, "X-Api-Key: mine\r\n", mcp.Call{}},
		{"Cache-Control", old, "Cache-Control: no-cache\r\n", mcp.Call{}},
		{"close,X-One ,, X-Two", old, "X-One: 1\r\nX-Two: 2\r\n", mcp.Call{}},
		{"Host", old, "", mcp.Call{}},
		{"Content-Length", old, "", mcp.Call{}},
	} {
		o := observe(t, accepted, nil)
		a := raw(t, o.base, "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nConnection: "+c.name+"\r\nConnection: close\r\n"+
			c.header+"Content-Length: "+strconv.Itoa(len(c.body))+"\r\n\r\n"+c.body)
		got := o.got
		if !strings.HasPrefix(a, "HTTP/1.1 202 ") || string(got.Body) != c.body {
			t.Errorf("%s: %q, and the server got %q", c.name, a, got.Body)
		}
		if got.Lane != c.want.Lane || got.Era != c.want.Era || got.Version != c.want.Version || got.Mismatch != c.want.Mismatch {
			t.Errorf("%s of %q: lane %d, era %v, version %q, mismatch %v", c.name, c.header, got.Lane, got.Era, got.Version, got.Mismatch)
		}
		for name := range strings.SplitSeq(c.name, ",") {
			if v := got.Header.Get(strings.TrimSpace(name)); v != "" {
				t.Errorf("the server gets %s: %q", name, v)
			}
		}
	}
}

// TestConnectionNamedElsewhere holds the same where nothing but the header says what a call is.
func TestConnectionNamedElsewhere(t *testing.T) {
	for _, line := range []string{"GET /mcp/s", "DELETE /mcp/s", "POST /rpc/s", "GET " + metadataOf + "/s"} {
		o := observe(t, accepted, func(o *proxy.Options) { o.Upstreams[0].Array = o.Upstreams[0].Caller })
		raw(t, o.base, line+" HTTP/1.1\r\nHost: localhost\r\nConnection: close, Mcp-Protocol-Version, Content-Encoding\r\n"+
			"Mcp-Protocol-Version: 2026-07-28\r\nContent-Encoding: gzip\r\nMcp-Session-Id: mine\r\nContent-Length: 2\r\n\r\n[]")
		if o.got.Version != "" || o.got.Era != mcp.EraLegacy || o.got.Header.Get("Mcp-Session-Id") != "mine" || o.got.Header.Has("Mcp-Protocol-Version") {
			t.Errorf("%s: version %q, era %v, %v", line, o.got.Version, o.got.Era, o.got.Header)
		}
	}
}

// TestConnectionNamedGuard holds that no field that Connection names gets by the checks of who may come in, and that what the
// operator has configured goes out all the same.
func TestConnectionNamedGuard(t *testing.T) {
	o := observe(t, accepted, func(o *proxy.Options) {
		o.Upstreams[0].Headers = header.Of(http.Header{"X-Api-Key": {"operator's"}})
	})
	a := raw(t, o.base, "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nConnection: close, Origin\r\nOrigin: http://evil.test\r\nContent-Length: 2\r\n\r\n{}")
	if !strings.HasPrefix(a, "HTTP/1.1 403 ") {
		t.Errorf("another site's page got %q", a)
	}
	a = raw(t, o.base, "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nConnection: close, X-Api-Key\r\nX-Api-Key: agent's\r\nContent-Length: 2\r\n\r\n{}")
	if v := slices.Collect(o.got.Header.Values("X-Api-Key")); !strings.HasPrefix(a, "HTTP/1.1 202 ") || len(v) != 1 || v[0] != "operator's" {
		t.Errorf("%q, X-Api-Key %q", a, v)
	}
}

// TestOriginOnTheWayUp holds that an Origin that is the daemon's own becomes the server's, and any other passes.
func TestOriginOnTheWayUp(t *testing.T) {
	for _, c := range []struct{ url, host, origin, want string }{
		{"http://server.test/mcp", "localhost:7300", "http://localhost:7300", "http://server.test"},
		{"http://server.test/mcp", "127.0.0.1", "http://127.0.0.1", "http://server.test"},
		{"http://server.test/mcp", "[::1]:7300", "http://[::1]:7300", "http://server.test"},
		{"http://server.test/mcp", "LocalHost:7300", "HTTP://localhost:7300", "http://server.test"},
		{"https://Server.Test:8443/mcp?key=s", "localhost:7300", "http://localhost:7300", "https://server.test:8443"},
		{"https://server.test:443/mcp", "localhost:7300", "http://localhost:7300", "https://server.test"},
		{"http://server.test:443/mcp", "localhost:7300", "http://localhost:7300", "http://server.test:443"},
		{"http://[::1]:80/mcp", "localhost:7300", "http://localhost:7300", "http://[::1]"},
		{"http://server.test/mcp", "localhost:7300", "http://localhost:6274", "http://localhost:6274"},
		{"http://server.test/mcp", "localhost:7300", "vscode-file://vscode-app", "vscode-file://vscode-app"},
		{"http://server.test/mcp", "localhost:7300", "", ""},
	} {
		o := observe(t, accepted, func(o *proxy.Options) {
			o.Upstreams[0].URL, o.Origins = mustURL(t, c.url), []string{"http://localhost:6274", "vscode-file://vscode-app"}
		})
		header := []string{"Host", c.host}
		if c.origin != "" {
			header = append(header, "Origin", c.origin)
		}
		for _, verb := range []string{"POST", "GET", "DELETE"} {
			o.got = mcp.Call{}
			if a := do(t, verb, o.base+"/mcp/s", listTools, header...); a.status != 202 || o.got.Header.Get("Origin") != c.want {
				t.Errorf("%s at %s, Origin %q: %d, the server gets %q, want %q", verb, c.host, c.origin, a.status, o.got.Header.Get("Origin"), c.want)
			}
		}
	}
	o := observe(t, accepted, func(o *proxy.Options) {
		o.Upstreams[0].Headers = header.Of(http.Header{"Origin": {"http://configured.test"}})
	})
	do(t, "POST", o.base+"/mcp/s", listTools, "Origin", o.base)
	if got := o.got.Header.Get("Origin"); got != "http://configured.test" {
		t.Errorf("the server gets %q", got)
	}
}
