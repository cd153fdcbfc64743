// The daemon's own token: who has it is let in, and nobody else gets to see it.

package relay

import (
	"fmt"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestToken: with auth.token set, the daemon asks for it, never by a 401, and keeps it to itself.
func TestToken(t *testing.T) {
	t.Parallel()
	const token = "s3cret-daemon-token"
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.OneUpstream(s.URL(), "")
	c.Upstreams["own"] = fmt.Sprintf("{url: %q, headers: {Authorization: Bearer upstream-token}}", s.URL())
	c.Top = "auth: {token: " + token + "}\ndrain: 1s"
	d := harness.Start(t, c)
	a := d.Agent(t)
	for _, try := range []struct {
		verb, path string
		fields     []string
	}{
		{"POST", "/mcp/s", nil},
		{"GET", "/mcp/s", nil},
		{"DELETE", "/mcp/s", nil},
		{"POST", "/mcp/s", []string{"Fluentd-Perf-Token: wrong"}},
		{"POST", "/mcp/s", []string{"Fluentd-Perf-Token: " + token + "x"}},
		{"POST", "/mcp/s", []string{"Proxy-Authorization: Bearer wrong"}},
		{"POST", "/mcp/s", []string{"Proxy-Authorization: Basic " + token}},
		{"POST", "/mcp/s", []string{"Authorization: Bearer " + token}}, // belongs to the server there
		{"POST", "/mcp/own", []string{"Authorization: Bearer wrong"}},
	} {
		body := ""
		if try.verb == "POST" {
			body = harness.Request("1", "ping")
		}
		r := a.Must(try.verb, try.path, body, try.fields...)
		if ct := r.Header.Get("Content-Type"); r.Status != 403 || !strings.HasPrefix(ct, "text/plain") ||
			!strings.Contains(r.Body, "Fluentd-Perf-Token") || r.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s %s %v: got %d %s %q", try.verb, try.path, try.fields, r.Status, ct, r.Body)
		}
	}
	if s.Received() != 0 {
		t.Fatalf("the server saw %d of them", s.Received())
	}
	for i, try := range []struct {
		path   string
		fields []string
		auth   string // what the server must see
	}{
		{"/mcp/s", []string{"Fluentd-Perf-Token: " + token, "Authorization: Bearer mine"}, "Bearer mine"},
		{"/mcp/s", []string{"Proxy-Authorization: Bearer " + token}, ""},
		{"/mcp/own", []string{"Authorization: Bearer " + token}, "Bearer upstream-token"},
		{"/mcp/own", []string{"Fluentd-Perf-Token: " + token}, "Bearer upstream-token"},
	} {
		if r := a.Must("POST", try.path, harness.Request("1", "ping"), try.fields...); r.Status != 200 {
			t.Errorf("%v: got %d %q", try.fields, r.Status, r.Body)
		}
		got := s.AwaitRequest(i + 1)
		if strings.Contains(string(got.Raw), token) || got.Has("Proxy-Authorization") || got.Get("Authorization") != try.auth {
			t.Errorf("%v: the server got %q", try.fields, got.Raw)
		}
	}
	if r := a.Must("GET", "/metrics", ""); r.Status != 200 {
		t.Errorf("/metrics on loopback: got %d", r.Status)
	}
}

// cors lets a listed page in: the browser-based MCP Inspector, say.
func cors(t *testing.T, d *harness.Daemon, s *mcptest.Server) {
	const origin = "https://inspector.example"
	a := d.Agent(t)
	asked := s.Received()
	r := a.Must("OPTIONS", "/mcp/s", "", "Origin: "+origin, "Access-Control-Request-Method: POST",
		"Access-Control-Request-Headers: authorization,content-type,mcp-param-x,mcp-protocol-version,mcp-session-id")
	if r.Status != 204 || r.Header.Get("Access-Control-Allow-Origin") != origin || s.Received() != asked {
		t.Errorf("preflight: %d %v", r.Status, r.Header)
	}
	for _, verb := range []string{"GET", "POST", "DELETE"} {
		if !strings.Contains(r.Header.Get("Access-Control-Allow-Methods"), verb) {
			t.Errorf("preflight does not allow %s: %v", verb, r.Header)
		}
	}
	if allowed := r.Header.Get("Access-Control-Allow-Headers"); !strings.Contains(allowed, "mcp-param-x") || !strings.Contains(allowed, "authorization") {
		t.Errorf("preflight allows the headers %q", allowed)
	}
	s.Once(mcptest.Saying(200, "application/json", `{"jsonrpc":"2.0","id":1,"result":{}}`, "Access-Control-Allow-Origin: *", "Mcp-Session-Id: x"))
	r = a.Post(harness.Request("1", "ping"), "Origin: "+origin)
	if got := r.Header.Values("Access-Control-Allow-Origin"); r.Status != 200 || len(got) != 1 || got[0] != origin {
		t.Errorf("a listed page's call: %d, Access-Control-Allow-Origin %q", r.Status, got)
	}
	exposed := strings.ToLower(r.Header.Get("Access-Control-Expose-Headers"))
	for _, name := range []string{"mcp-session-id", "last-event-id", "mcp-protocol-version", "www-authenticate"} {
		if !strings.Contains(exposed, name) {
			t.Errorf("%s is not exposed: %q", name, exposed)
		}
	}
	if r := a.Post(strings.Repeat(" ", 70<<10), "Origin: "+origin); r.Status != 413 || r.Header.Get("Access-Control-Allow-Origin") != origin {
		t.Errorf("the daemon's own error is not readable: %d %v", r.Status, r.Header)
	}
}
