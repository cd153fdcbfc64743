package proxy_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// TestHostAndOrigin holds the checks against DNS rebinding and the pages of other sites.
func TestHostAndOrigin(t *testing.T) {
	_, base := newHandler(t, answering("{}"), func(o *proxy.Options) {
		o.Hosts = []string{"Box.Example"}
		o.Origins = []string{"http://localhost:6274"}
	})
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{"localhost", "", 200}, {"LOCALHOST:1", "", 200}, {"127.0.0.1:80", "", 200}, {"127.8.9.1", "", 200},
		{"[::1]:7300", "", 200}, {"[::1]", "", 200}, {"box.example:99", "", 200},
		{"evil.example", "", 403}, {"127.0.0.1.evil.example", "", 403}, {"10.0.0.1", "", 403}, {"localhost.evil", "", 403},
		{"[::2]", "", 403}, {"localhost", "http://localhost:6274", 200}, {"localhost", "http://evil.example", 403},
		{"localhost", "null", 403}, {"localhost:80", "http://localhost", 403}, {"localhost", "http://localhost", 200},
		{"localhost", "https://localhost", 403}, {"evil.example", "http://evil.example", 403},
	} {
		h := []string{"Host", c.host}
		if c.origin != "" {
			h = append(h, "Origin", c.origin)
		}
		if a := do(t, "POST", base+"/mcp/s", listTools, h...); a.status != c.status {
			t.Errorf("Host %q Origin %q: %d, want %d", c.host, c.origin, a.status, c.status)
		}
	}
	if a := do(t, "GET", base+"/healthz", "", "Host", "evil.example"); a.status != 200 {
		t.Errorf("healthz is exempt, got %d", a.status)
	}
	for path, verb := range map[string]string{"/none": "GET", "/healthz": "POST", "/rpc/s": "POST", "/mcp": "POST", metadataOf: "GET"} {
		if a := do(t, verb, base+path, "", "Host", "evil.example"); a.status != 403 {
			t.Errorf("%s %s: %d, want 403", verb, path, a.status)
		}
	}
}

// TestCORS holds that a listed origin's browser can connect.
func TestCORS(t *testing.T) {
	const origin = "http://localhost:6274"
	_, base := newHandler(t, func(context.Context, *mcp.Call) (*mcp.Result, error) {
		r := jsonResult("{}")
		r.Header.Set("Access-Control-Allow-Origin", "*")
		return r, nil
	}, func(o *proxy.Options) { o.Origins = []string{origin}; o.Token = "secret" })
	a := do(t, "OPTIONS", base+"/mcp/s", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "mcp-session-id,x")
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Headers") != "mcp-session-id,x" ||
		!strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "DELETE") {
		t.Errorf("preflight %d %v", a.status, a.header)
	}
	a = do(t, "POST", base+"/mcp/s", listTools, "Origin", origin, proxy.TokenHeader, "secret")
	if v := a.header["Access-Control-Allow-Origin"]; len(v) != 1 || v[0] != origin {
		t.Errorf("Allow-Origin %v", v)
	}
	if !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Mcp-Session-Id") {
		t.Errorf("exposes %v", a.header)
	}
}

// TestToken holds how an agent proves itself, that no proof is 401, and that the proof goes no further.
func TestToken(t *testing.T) {
	var sent header.List
	call := func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		sent = c.Header
		return jsonResult("{}"), nil
	}
	_, base := newHandler(t, call, func(o *proxy.Options) {
		o.Token = "secret"
		own := o.Upstreams[0]
		own.Name, own.Headers = "own", header.Of(http.Header{"Authorization": {"Bearer configured"}})
		o.Upstreams = append(o.Upstreams, own)
	})
	for _, c := range []struct {
		path, name, value string
		status            int
	}{
		{"/mcp/s", "X", "", 403},
		{"/mcp/s", proxy.TokenHeader, "secret", 200}, {"/mcp/s", proxy.TokenHeader, "secre", 403},
		{"/mcp/s", "Proxy-Authorization", "Bearer secret", 200}, {"/mcp/s", "Proxy-Authorization", "bearer  secret", 200},
		{"/mcp/s", "Proxy-Authorization", "Basic secret", 403},
		{"/mcp/s", "Authorization", "Bearer secret", 403}, {"/mcp/own", "Authorization", "Bearer secret", 200},
		{"/mcp/own", "Authorization", "Bearer other", 403},
	} {
		sent = nil
		a := do(t, "POST", base+c.path, listTools, c.name, c.value)
		if a.status != c.status {
			t.Errorf("%s %s: %s got %d, want %d", c.path, c.name, c.value, a.status, c.status)
		}
		if c.status == 403 && (!strings.Contains(a.body, proxy.TokenHeader) || a.header.Get("WWW-Authenticate") != "" || sent != nil) {
			t.Errorf("the refusal %q names no header, or the call went on", a.body)
		}
		for _, f := range sent {
			if strings.Contains(f.Value, "secret") {
				t.Errorf("the daemon's token went on as %s", f.Name)
			}
		}
	}
}

// TestTokenAsAuthorization holds that the daemon's token goes to no server, whichever way it came.
func TestTokenAsAuthorization(t *testing.T) {
	var sent header.List
	call := func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		sent = c.Header
		return jsonResult("{}"), nil
	}
	_, base := newHandler(t, call, func(o *proxy.Options) { o.Token = "secret" })
	do(t, "POST", base+"/mcp/s", listTools, proxy.TokenHeader, "secret", "Authorization", "Bearer secret")
	if got := sent.Get("Authorization"); got != "" {
		t.Errorf("a call took %q along", got)
	}
	do(t, "GET", base+"/.well-known/oauth-protected-resource/mcp/s", "", "Authorization", "Bearer secret")
	if got := sent.Get("Authorization"); got != "" {
		t.Errorf("a metadata request took %q along", got)
	}
	do(t, "POST", base+"/mcp/s", listTools, proxy.TokenHeader, "secret", "Authorization", "Bearer agents")
	if sent.Get("Authorization") != "Bearer agents" {
		t.Error("the agent's own Authorization did not go up")
	}
}

// TestMetadataToken holds that a document that is fetched with the operator's credentials takes the daemon's token.
func TestMetadataToken(t *testing.T) {
	_, base := newHandler(t, answering("{}"), func(o *proxy.Options) {
		o.Token = "secret"
		o.Upstreams[0].Headers = header.Of(http.Header{"Authorization": {"Bearer configured"}})
	})
	const path = "/.well-known/oauth-protected-resource/mcp/s"
	if a := do(t, "GET", base+path, ""); a.status != 403 {
		t.Errorf("without the token: %d", a.status)
	}
	if a := do(t, "GET", base+path, "", proxy.TokenHeader, "secret"); a.status != 200 {
		t.Errorf("with the token: %d", a.status)
	}
}

// TestModernInHeaderOnly holds that a version that only the header, or only twice, says is a mismatch.
func TestModernInHeaderOnly(t *testing.T) {
	var got mcp.Call
	call := func(_ context.Context, c *mcp.Call) (*mcp.Result, error) { got = *c; return jsonResult("{}"), nil }
	_, base := newHandler(t, call, nil)
	for _, version := range []string{`"2025-11-25"`, `7`, ``} {
		meta := `{}`
		if version != "" {
			meta = `{"io.modelcontextprotocol/protocolVersion":` + version + `}`
		}
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":` + meta + `}}`
		do(t, "POST", base+"/mcp/s", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list", "Mcp-Session-Id", "s")
		if !got.Mismatch || got.Header.Get("Mcp-Session-Id") != "s" {
			t.Errorf("%s: mismatch %v, header %v", body, got.Mismatch, got.Header)
		}
	}
	const good = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	do(t, "POST", base+"/mcp/s", good, "MCP-Protocol-Version", "2026-07-28", "MCP-Protocol-Version", "2025-11-25", "Mcp-Method", "tools/list")
	if !got.Mismatch {
		t.Error("two version headers are no mismatch")
	}
}

// TestHeadersUp holds which headers go to the server.
func TestHeadersUp(t *testing.T) {
	var sent header.List
	call := func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		sent = c.Header
		return jsonResult("{}"), nil
	}
	_, base := newHandler(t, call, func(o *proxy.Options) {
		o.Upstreams[0].Headers = header.Of(http.Header{"X-Key": {"configured"}})
	})
	do(t, "POST", base+"/mcp/s", listTools, "X-Key", "agent", "Cookie", "a=b", "Connection", "x-drop, close", "X-Drop", "1",
		"TE", "trailers", "Upgrade", "h2c", "Mcp-Session-Id", "s1", "Last-Event-ID", "7", "Authorization", "Bearer own", "X-Other", "kept", "Accept-Encoding", "gzip")
	for name, want := range map[string]string{
		"X-Key": "configured", "Cookie": "", "X-Drop": "", "Te": "", "Upgrade": "", "Connection": "", "Mcp-Session-Id": "s1",
		"Last-Event-Id": "7", "Authorization": "Bearer own", "X-Other": "kept", "Accept-Encoding": "identity", "Content-Length": "",
	} {
		if got := strings.Join(slices.Collect(sent.Values(name)), ","); got != want {
			t.Errorf("%s went up as %q, want %q", name, got, want)
		}
	}
	const modern = `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	headers := []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list", "Mcp-Session-Id", "s1", "Last-Event-ID", "7"}
	do(t, "POST", base+"/mcp/s", modern, headers...)
	if sent.Get("Mcp-Session-Id") != "" || sent.Get("Last-Event-ID") != "" {
		t.Error("a modern request kept its session id or Last-Event-ID")
	}
	headers[3] = "tools/call" // differs from the body: the server is to see it as it was
	do(t, "POST", base+"/mcp/s", modern, headers...)
	if sent.Get("Mcp-Session-Id") != "s1" {
		t.Error("a request whose headers differ from its body was touched")
	}
}

// TestMismatch holds when the headers of a modern request differ from its body.
func TestMismatch(t *testing.T) {
	var got mcp.Call
	call := func(_ context.Context, c *mcp.Call) (*mcp.Result, error) { got = *c; return jsonResult("{}"), nil }
	_, base := newHandler(t, call, nil)
	const read = `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x:/é","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	for _, c := range []struct {
		version, method, name string
		mismatch              bool
	}{
		{"2026-07-28", "resources/read", "=?base64?eDovw6k=?=", false},
		{"2026-07-28", "resources/read", "=?base64?eDovw6g=?=", true},
		{"2026-07-28", "resources/read", "x:/e", true},
		{"2026-07-28", "resources/Read", "=?base64?eDovw6k=?=", true},
		{"2025-11-25", "resources/read", "=?base64?eDovw6k=?=", true},
		{"", "resources/read", "=?base64?eDovw6k=?=", true},
	} {
		do(t, "POST", base+"/mcp/s", read, "MCP-Protocol-Version", c.version, "Mcp-Method", c.method, "Mcp-Name", c.name)
		if got.Mismatch != c.mismatch || got.Era != mcp.EraModern {
			t.Errorf("%+v: mismatch %v, era %v", c, got.Mismatch, got.Era)
		}
	}
}

// TestScrapers holds how /metrics is guarded on a listener of its own.
func TestScrapers(t *testing.T) {
	d, _ := newHandler(t, answering("{}"), func(o *proxy.Options) { o.Token = "secret" })
	scrape := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for _, c := range []struct {
		name    string
		handler http.Handler
		host    string
		bearer  string
		status  int
	}{
		{"beyond loopback, token", d.WithToken(scrape), "10.1.2.3:9400", "secret", 200},
		{"beyond loopback, none", d.WithToken(scrape), "10.1.2.3:9400", "", 403},
		{"loopback", d.Guarded(scrape), "127.0.0.1:9400", "", 200},
		{"loopback, rebound", d.Guarded(scrape), "evil.example:9400", "", 403},
	} {
		r := httptest.NewRequest("GET", "http://"+c.host+"/metrics", nil)
		if c.bearer != "" {
			r.Header.Set("Authorization", "Bearer "+c.bearer)
		}
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.status)
		}
	}
}

// TestTokenTwice holds that the daemon's token goes to no server as a second Authorization either.
func TestTokenTwice(t *testing.T) {
	o := observe(t, accepted, func(o *proxy.Options) { o.Token = "secret" })
	do(t, "POST", o.base+"/mcp/s", listTools, proxy.TokenHeader, "secret", "Authorization", "Bearer agents", "Authorization", "Bearer secret")
	if got := o.got.Header.Get("Authorization"); got != "" {
		t.Errorf("the server gets %q", got)
	}
}
