// The daemon's own errors have the shape that clients understand, and a server's errors pass unchanged.

package relay

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestErrorShapes holds the shapes of docs/resilience.md: what tells a request in a 200 tells
// everything else by its HTTP status.
func TestErrorShapes(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	inBody := harness.Start(t, harness.FaultConfig(t, s, ""))
	byStatus := harness.Start(t, harness.FaultConfig(t, s, "errors: http"))
	discover, discoverFields := harness.Modern("5", "server/discover")
	call, callFields := harness.Modern("5", "tools/call")
	for _, c := range []struct {
		name   string
		d      *harness.Daemon
		verb   string
		path   string
		body   string
		fields []string
		status int
		id     string
		reason string
		sent   string
	}{
		{"request", inBody, "POST", "/mcp/refused", harness.Request("5", "tools/call"), nil, 200, "5", "connect", "no"},
		{"modern request", inBody, "POST", "/mcp/refused", call, callFields, 200, "5", "connect", "no"},
		{"request, errors: http", byStatus, "POST", "/mcp/refused", harness.Request("5", "tools/call"), nil, 502, "5", "connect", "no"},
		{"timeout, errors: http", byStatus, "POST", "/mcp/unreachable", harness.Request("5", "tools/call"), nil, 504, "5", "connect_timeout", "no"},
		{"server/discover", inBody, "POST", "/mcp/refused", discover, discoverFields, 502, "5", "connect", "no"},
		{"server/discover, errors: http", byStatus, "POST", "/mcp/refused", discover, discoverFields, 502, "5", "connect", "no"},
		{"notification", inBody, "POST", "/mcp/refused", harness.Notification("notifications/initialized"), nil, 502, "", "connect", "no"},
		{"response", inBody, "POST", "/mcp/refused", `{"jsonrpc":"2.0","id":5,"result":{}}`, nil, 502, "", "connect", "no"},
		{"DELETE", inBody, "DELETE", "/mcp/refused", "", []string{"Mcp-Session-Id: x"}, 502, "", "connect", "no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.d.Agent(t).Must(c.verb, c.path, c.body, c.fields...)
			if ct := r.Header.Get("Content-Type"); r.Status != c.status || ct != "application/json" {
				t.Errorf("got %d %s, want %d application/json", r.Status, ct, c.status)
			}
			code := 1502
			if c.status == 504 {
				code = 1504
			}
			harness.CheckFailure(t, r.RPC(t), c.id, strings.TrimPrefix(c.path, "/mcp/"), code, c.reason, c.sent)
			if c.id == "" && strings.Contains(r.Body, `"id"`) {
				t.Errorf("a body with an id: %s", r.Body)
			}
		})
	}
}

// TestFaultsOfWhatIsNoRequest plays the two classic faults on notifications, responses, DELETE and server/discover, in
// both forms: the daemon must not say 202 for what the server may never have taken, nor send it twice.
func TestFaultsOfWhatIsNoRequest(t *testing.T) {
	t.Parallel()
	discover, discoverFields := harness.Modern("5", "server/discover")
	var all []*oddFault
	c := harness.Config{Upstreams: map[string]string{}, Top: harness.FaultLimits}
	for _, f := range []oddFault{
		{name: "notification", verb: "POST", body: harness.Notification("notifications/roots/list_changed")},
		{name: "response", verb: "POST", body: `{"jsonrpc":"2.0","id":5,"result":{}}`},
		{name: "DELETE", verb: "DELETE", fields: []string{"Mcp-Session-Id: x"}},
		{name: "server/discover", verb: "POST", body: discover, fields: discoverFields, id: "5"},
	} {
		for _, hung := range []bool{false, true} {
			for executions := range 2 {
				f := f
				f.hung, f.executions, f.upstream = hung, executions, fmt.Sprintf("s%d", len(all))
				f.server = mcptest.NewServer(t, mcptest.Minimal)
				f.server.Once(f.script())
				c.Upstreams[f.upstream] = fmt.Sprintf("{url: %q, timeouts: %s, %s}", f.server.URL(), harness.ShortTimeouts, harness.Unprotected)
				all = append(all, &f)
			}
		}
	}
	a := harness.Start(t, c).Agent(t)
	var playing sync.WaitGroup
	for _, f := range all {
		playing.Go(func() { f.reply, f.err = a.Send(f.verb, "/mcp/"+f.upstream, f.body, f.fields...) })
	}
	playing.Wait()
	for _, f := range all {
		t.Run(fmt.Sprintf("%s/hung=%v/executions=%d", f.name, f.hung, f.executions), func(t *testing.T) {
			f.judge(t)
			harness.WorksOn(t, a, f.upstream)
		})
	}
}

// oddFault is a fault played on something that is told by HTTP status.
type oddFault struct {
	name, verb, body string
	fields           []string
	id               string // that the error must carry
	hung             bool   // else reset
	executions       int
	upstream         string
	server           *mcptest.Server
	reply            harness.Reply
	err              error
}

func (f *oddFault) script() mcptest.Script {
	script := mcptest.ResetBeforeHead
	if f.hung {
		script = mcptest.Hang
	}
	if f.executions > 0 {
		script = mcptest.Executing(script)
	}
	return script
}

func (f *oddFault) judge(t *testing.T) {
	t.Helper()
	if f.err != nil {
		t.Fatal(f.err)
	}
	status, code, reason := 502, 1502, "broke_off"
	if f.hung {
		status, code, reason = 504, 1504, "first_byte_timeout"
	}
	if f.reply.Status != status {
		t.Errorf("got %d, want %d", f.reply.Status, status)
	}
	harness.CheckFailure(t, f.reply.RPC(t), f.id, f.upstream, code, reason, "unknown")
	if f.server.Received() != 1 || f.server.Executions() != f.executions {
		t.Errorf("%d requests, %d executions", f.server.Received(), f.server.Executions())
	}
}

// TestAnswersPassUnchanged: whatever the server says with a status and a whole body is its own word, byte for byte. Its
// 400s and 404s are the agent's probe of the era.
func TestAnswersPassUnchanged(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	const rpc, odd = "application/json", "text/html; charset=latin-1"
	for _, c := range []struct {
		status       int
		ct, body     string
		name, value  string
		notification bool
	}{
		{400, rpc, `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"v","data":{"supported":["2026-07-28"]}}}`, "X-Odd", "a, b", false},
		{400, rpc, `{"jsonrpc":"2.0", "error":{"code":-32000,"message":"no session"}, "id":null}` + "\n", "X-Odd", "1", false},
		{401, rpc, `{"error":"invalid_token"}`, "WWW-Authenticate", `Bearer error="invalid_token", scope="a b"`, false},
		{403, odd, "<p>no</p>", "WWW-Authenticate", `Bearer error="insufficient_scope", scope="x"`, false},
		{404, "text/plain", "session not found\n", "X-Odd", "1", false},
		{404, rpc, `{"jsonrpc":"2.0","id":9,"error":{"code":-32601,"message":"no"}}`, "X-Odd", "1", false},
		{405, "", "", "Allow", "POST", false},
		{406, rpc, `{}`, "X-Odd", "1", false},
		{409, "text/plain", "conflict", "X-Odd", "1", false},
		{413, odd, "too much", "X-Odd", "1", false},
		{415, odd, "what?", "X-Odd", "1", false},
		{429, "text/plain", "slow down", "Retry-After", "7", false},
		{500, odd, "<h1>\xe9</h1>", "X-Odd", "1", false},
		{501, rpc, "not even JSON", "X-Odd", "1", false},
		{502, odd, strings.Repeat("bad gateway ", 50_000), "X-Odd", "1", false},
		{503, "text/plain", "", "Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT", false},
		{504, rpc, `{"jsonrpc":"2.0","id":1,"result":{}}`, "X-Odd", "1", false},
		{302, "text/plain", "moved", "Location", "http://127.0.0.2/login", false},
		{202, "", "", "X-Odd", "1", true},
		{200, rpc, `{}`, "X-Odd", "1", true},
		{500, rpc, `{"jsonrpc":"2.0","error":{"code":-1,"message":"m"}}`, "X-Odd", "1", true},
	} {
		s.Once(mcptest.Saying(c.status, c.ct, c.body, c.name+": "+c.value, "Mcp-Session-Id: id-\x7e!"))
		body := harness.Request("1", "tools/call")
		if c.notification {
			body = harness.Notification("notifications/initialized")
		}
		asked := s.Received()
		r := a.Post(body)
		if r.Status != c.status || r.Body != c.body || r.Header.Get("Content-Type") != c.ct ||
			r.Header.Get(c.name) != c.value || r.Header.Get("Mcp-Session-Id") != "id-\x7e!" {
			t.Errorf("%d %s: got %d %q %v", c.status, c.body[:min(40, len(c.body))], r.Status, r.Body[:min(80, len(r.Body))], r.Header)
		}
		if s.Received()-asked != 1 {
			t.Errorf("%d was asked for %d times", c.status, s.Received()-asked)
		}
		a.Works()
	}
}

// TestErrorsWithoutAnIDAreAnswers: an error whose id the server could not tell passes as it is.
func TestErrorsWithoutAnIDAreAnswers(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"m"}}`,
		`{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"}}`,
		` {"jsonrpc":"2.0","id":1e0,"result":{"a":[1,2,{"b":null}]}} ` + "\n",
	} {
		s.Once(mcptest.Saying(200, "application/json", body))
		if r := a.Post(harness.Request("1", "tools/call")); r.Status != http.StatusOK || r.Body != body {
			t.Errorf("got %d %q, want %q", r.Status, r.Body, body)
		}
	}
}

// TestRedirectsToTheSameOrigin: 307 and 308 are followed with method and body. A 308 is remembered.
func TestRedirectsToTheSameOrigin(t *testing.T) {
	t.Parallel()
	for status, next := range map[int]string{307: "/mcp", 308: "/mcp/"} {
		s, d := harness.StartMinimal(t)
		a := d.Agent(t)
		s.Once(mcptest.Saying(status, "", "", "Location: /mcp/"))
		a.Works()
		r := s.Requests()
		if len(r) != 2 || r[1].Target != "/mcp/" || r[1].Verb != "POST" || string(r[1].Body) != string(r[0].Body) {
			t.Fatalf("%d: %d requests, the last %q", status, len(r), r[len(r)-1].Raw)
		}
		a.Works()
		if last := s.AwaitRequest(3); last.Target != next {
			t.Errorf("%d: the next request went to %s, want %s", status, last.Target, next)
		}
	}
}

// TestEncodedAnswersPassUntouched: the server is asked not to compress; what is compressed all the same is passed on as
// it is, unread.
func TestEncodedAnswersPassUntouched(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	const body = "\x1f\x8b\x08\x00 not even gzip \xff\x00"
	for _, contentType := range []string{"application/json", "text/event-stream"} {
		s.Once(mcptest.Saying(200, contentType, body, "Content-Encoding: gzip"))
		r := a.Post(harness.Request("1", "tools/call"), "Accept-Encoding: gzip, br")
		if r.Status != 200 || r.Body != body || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: got %d %q %v", contentType, r.Status, r.Body, r.Header)
		}
	}
	if got := s.AwaitRequest(1).Get("Accept-Encoding"); got != "identity" {
		t.Errorf("the server was asked for %q", got)
	}
}
