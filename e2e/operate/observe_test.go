// Logs, metrics and health say what happens and keep secrets.

package operate

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// secretFields carry a secret in every header that has one, as sent by agents.
var secretFields = []string{
	"Authorization: Bearer SECRET-authorization",
	"Cookie: sid=SECRET-cookie",
	"Proxy-Authorization: Bearer SECRET-token",
	"Mcp-Session-Id: SECRET-session",
	"X-Api-Key: SECRET-key",
}

// secretRequest has a secret in its params.
func secretRequest(method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"SECRET-id","method":%q,"params":{"name":"tool","arguments":{"password":"SECRET-argument"}}}`, method)
}

// TestLogsKeepSecrets: at debug level, in both formats, through calls that work and calls that fail, no credential, no
// query string and no content is in the log; and each request has its access line.
func TestLogsKeepSecrets(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			c := harness.OneUpstream(s.URL()+"?key=SECRET-query", "headers: {X-Own: SECRET-configured}, timeouts: "+harness.ShortTimeouts+", streams: {reopen: 1s}")
			c.Upstreams["refused"] = fmt.Sprintf("{url: %q}", "http://"+mcptest.Refused(t)+"/mcp?key=SECRET-query")
			c.Top = "auth: {token: SECRET-token}\nlimits: {body: 64KiB, check_body: 64KiB}\ndrain: 1s"
			c.Args = []string{"--log-level", "debug", "--log-format", format}
			d := harness.Start(t, c)
			requests := sendSecrets(t, d, s)
			d.Finish()
			log := d.Out.String()
			for line := range strings.SplitSeq(log, "\n") {
				if strings.Contains(line, harness.SecretMark) {
					t.Errorf("a secret in the log: %s", line)
				}
			}
			lines := accessLines(t, log, format)
			if len(lines) != requests {
				t.Errorf("%d access lines for %d requests", len(lines), requests)
			}
		})
	}
}

// sendSecrets makes requests of every kind with secrets in them and returns how many have an access line.
func sendSecrets(t *testing.T, d *harness.Daemon, s *mcptest.Server) int {
	a := d.Agent(t)
	n := 0
	send := func(verb, path, body string, fields ...string) {
		t.Helper()
		a.Must(verb, path, body, append(fields, secretFields...)...)
		n++
	}
	for _, script := range []mcptest.Script{
		mcptest.Minimal,
		mcptest.Streaming(mcptest.EventText(harness.ProgressMessage, "id: SECRET-event")),
		mcptest.Saying(200, "application/json", `{"jsonrpc":"2.0","id":"SECRET-id","result":{}}`, "Set-Cookie: a=SECRET-set", "Mcp-Session-Id: SECRET-session"),
		mcptest.Saying(401, "application/json", `{"e":"SECRET-body"}`, "WWW-Authenticate: Bearer error=\"SECRET-challenge\""),
		mcptest.Saying(500, "text/plain", "SECRET-body"),
		mcptest.ResetBeforeHead,
		mcptest.ResetInBody,
		mcptest.Saying(200, "application/json", `{"jsonrpc":"2.0","id":"SECRET-other","result":{}}`),
		mcptest.Saying(200, "text/html", "<p>SECRET-body</p>"),
		mcptest.Saying(200, "application/json", `SECRET-body`),
		mcptest.Streaming(mcptest.EventText("SECRET-event")),
		mcptest.Saying(200, "SECRET-type;;=", "x"),
		mcptest.Hang,
	} {
		s.Once(script)
		send("POST", "/mcp/s?key=SECRET-query", secretRequest("tools/list"))
	}
	send("POST", "/mcp/refused?key=SECRET-query", secretRequest("tools/call"))
	send("POST", "/mcp/s", secretRequest("SECRET-method"))
	send("POST", "/mcp/s", `{"jsonrpc":"2.0","id":"SECRET-id","method":"ping","method":"SECRET-method"}`)
	send("POST", "/mcp/s", `{"jsonrpc":"2.0","SECRET-name"`)
	send("POST", "/mcp/s", "SECRET-body"+strings.Repeat(" ", 64<<10))
	send("POST", "/mcp/s", harness.Notification("notifications/initialized"), "MCP-Protocol-Version: SECRET")
	send("DELETE", "/mcp/s", "")
	s.Once(func(x *mcptest.Exchange) {
		x.Stream().Event(harness.PingMessage("1"), "id: SECRET-event", "retry: 20")
		x.Reset()
	}, mcptest.Saying(404, "text/plain", "SECRET-body"))
	send("GET", "/mcp/s?key=SECRET-query", "", "Last-Event-ID: SECRET-event")
	// Refused by the handler before it is a request, which has no access line: it is the server's name that is missing.
	for _, fields := range [][]string{{"Host: SECRET-host.example"}, {"Origin: https://evil.example"}, {"Fluentd-Perf-Token: SECRET-wrong"}} {
		if fields[0] != "Host: SECRET-host.example" { // a Host is no secret, and logged
			a.Must("POST", "/mcp/s?key=SECRET-query", secretRequest("ping"), fields...)
		}
	}
	a.Must("POST", "/mcp/SECRET-path?key=SECRET-query", secretRequest("ping"))
	return n
}

// accessLines returns the access lines of a log, each as its fields.
func accessLines(t *testing.T, log, format string) []map[string]any {
	t.Helper()
	want := []string{"time", "level", "id", "upstream", "verb", "method", "outcome", "status", "in", "out", "took_ms", "remote"}
	var all []map[string]any
	for line := range strings.SplitSeq(log, "\n") {
		fields := map[string]any{}
		switch {
		case format == "json" && json.Unmarshal([]byte(line), &fields) == nil:
		case format == "text":
			for part := range strings.FieldsSeq(line) {
				name, value, _ := strings.Cut(part, "=")
				fields[name] = value
			}
		}
		if fields["msg"] != "request" {
			continue
		}
		for _, name := range want {
			if _, ok := fields[name]; !ok {
				t.Errorf("an access line without %s: %s", name, line)
			}
		}
		if fields["outcome"] != "ok" && fields["level"] == "WARN" && fields["reason"] == nil {
			t.Errorf("a warning without its reason: %s", line)
		}
		all = append(all, fields)
	}
	return all
}

// TestQuietLogLevel: at warn, what works writes nothing.
func TestQuietLogLevel(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.OneUpstream(s.URL(), "")
	c.Top += "\nlimits: {max_streams: 10}" // descriptors for more are worth a warning on some machines
	c.Args = []string{"--log-level", "warn"}
	d := harness.Start(t, c)
	for range 20 {
		d.Agent(t).Works()
	}
	d.Finish()
	if log := d.Out.String(); log != "" {
		t.Errorf("the log has %q", log)
	}
}

// documented are the metrics of METRICS.md that have something to count so far.
var documented = []string{
	"fluentd_perf_requests_total", "fluentd_perf_request_duration_seconds", "fluentd_perf_upstream_duration_seconds",
	"fluentd_perf_active_connections", "fluentd_perf_open_connections", "fluentd_perf_idle_connections",
	"fluentd_perf_pool_wait_seconds", "fluentd_perf_pool_connections_total", "fluentd_perf_shed_total",
	"fluentd_perf_streams_open", "fluentd_perf_stream_reopens_total", "fluentd_perf_memory_usage_bytes",
	"fluentd_perf_buffer_pool_gets_total", "fluentd_perf_buffer_pool_misses_total", "fluentd_perf_buffer_pool_discards_total",
	"fluentd_perf_build_info", "go_goroutines", "process_open_fds", "process_resident_memory_bytes",
}

// TestMetricsMove: each documented metric is there once there is something to count, and counts it.
func TestMetricsMove(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), "pool: {max_connections: 1, max_idle: 1, wait_timeout: 100ms}, streams: {reopen: 10s}, "+harness.Unprotected))
	a := d.Agent(t)
	before := d.Scrape()
	for range 3 {
		a.Works()
	}
	s.Once(mcptest.Saying(200, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}`))
	a.Post(harness.Request("1", "tools/list"))
	s.Once(mcptest.Saying(404, "text/plain", "no"))
	a.Post(harness.Request("1", "tools/list"))
	s.Once(mcptest.ResetBeforeHead)
	a.Post(harness.Request("1", "tools/list"))

	gate := mcptest.NewGate()
	s.Once(func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		mcptest.Minimal(x)
	})
	first := inBackground(a, harness.Request("1", "tools/call"))
	s.AwaitRequest(7)
	held := d.Scrape()
	shed := a.Post(harness.Request("2", "tools/call"))
	harness.CheckFailure(t, shed.RPC(t), "2", "s", 1429, "pool_wait", "no")
	if e := shed.RPC(t).Error; e.Data.RetryAfterMs <= 0 {
		t.Errorf("a full pool says nothing of when to come again: %+v", e.Data)
	}
	gate.Open()
	if got := <-first; got.Err != nil {
		t.Error(got.Err)
	}
	s.Once(func(x *mcptest.Exchange) {
		x.Stream().Event(harness.PingMessage("1"), "retry: 20")
		x.Reset()
	})
	l := a.GetStream(harness.SessionField)
	l.Next()
	d.Eventually("counting the re-opened stream", func() bool {
		m := d.Scrape()
		return m.Sum("fluentd_perf_stream_reopens_total", `result="reopened"`) == 1 && m.Sum("fluentd_perf_streams_open") == 1
	})

	after := d.Scrape()
	for _, name := range documented {
		if !after.Has(name) {
			t.Errorf("%s is not exposed", name)
		}
	}
	moved := func(name string, by float64, labels ...string) {
		t.Helper()
		if got := after.Sum(name, labels...) - before.Sum(name, labels...); got != by {
			t.Errorf("%s%v moved by %v, want %v", name, labels, got, by)
		}
	}
	const requests = "fluentd_perf_requests_total"
	moved(requests, 4, `upstream="s"`, `method="tools/call"`, `outcome="ok"`)
	moved(requests, 1, `method="tools/call"`, `outcome="pool_wait"`)
	moved(requests, 1, `method="tools/list"`, `outcome="rpc_error"`)
	moved(requests, 1, `method="tools/list"`, `outcome="http_error"`)
	moved(requests, 1, `method="tools/list"`, `outcome="broke_off"`)
	moved("fluentd_perf_request_duration_seconds_count", 5, `kind="call"`)
	moved("fluentd_perf_shed_total", 1, `reason="pool_wait"`)
	moved("fluentd_perf_pool_wait_seconds_count", 1)
	if held.Sum("fluentd_perf_active_connections", `pool="s"`) != 1 || held.Sum("fluentd_perf_open_connections", `pool="s"`) != 1 {
		t.Error("a call in flight is not counted as an active connection")
	}
	if fresh, used := after.Sum("fluentd_perf_pool_connections_total", `reused="false"`), after.Sum("fluentd_perf_pool_connections_total", `reused="true"`); fresh < 1 || used < 3 {
		t.Errorf("%v connections made, %v reused", fresh, used)
	}
}

// TestSeriesAreBounded: nothing that a stranger can write becomes a label.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
	a := d.Agent(t)
	hostile := func(n int) {
		for range n {
			x := fmt.Sprintf("%016x", rand.Uint64())
			a.Must("POST", "/mcp/s", harness.Request(`"`+x+`"`, "tools/"+x), "Mcp-Session-Id: "+x, "MCP-Protocol-Version: "+x, "User-Agent: "+x)
			a.Must("POST", "/mcp/"+x, harness.Request("1", "ping"))
			a.Must("DELETE", "/mcp/s", "", "Mcp-Session-Id: "+x)
			a.Must("PATCH", "/mcp/s", "", "Host: "+x)
			a.Must("GET", "/"+x, "", "Origin: https://"+x)
			s.Once(mcptest.Saying(400+rand.IntN(200), "text/"+x, x, x+": "+x))
			a.Must("POST", "/mcp/s", harness.Notification(x))
		}
	}
	hostile(5)
	few := len(d.Scrape())
	hostile(100)
	many := d.Scrape()
	if len(many) > few+30 || len(many) > 1000 { // some outcomes and buckets come late
		t.Errorf("%d series after 5 rounds, %d after 105", few, len(many))
	}
	if many.Sum("fluentd_perf_requests_total", `method="other"`) < 105 {
		t.Error("unknown methods are not counted as other")
	}
}

// TestServerTiming: answers of all kinds say where the time went.
func TestServerTiming(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
	a := d.Agent(t)
	for name, script := range map[string]mcptest.Script{
		"JSON":             mcptest.Minimal,
		"SSE":              mcptest.Streaming(),
		"an error":         mcptest.Saying(500, "text/plain", "no"),
		"the server's own": mcptest.Saying(404, "text/plain", "no", "Server-Timing: db;dur=1"),
	} {
		s.Once(script)
		got := strings.Join(a.Post(harness.Request("1", "tools/call")).Header.Values("Server-Timing"), ", ")
		for _, part := range []string{"ttfb;dur=", "upstream;dur=", "total;dur="} {
			if !strings.Contains(got, part) {
				t.Errorf("%s: Server-Timing is %q, %s is missing", name, got, part)
			}
		}
		if name == "the server's own" && !strings.Contains(got, "db;dur=1") {
			t.Errorf("the server's Server-Timing is gone: %q", got)
		}
	}
}

// TestHealth: alive and ready, whoever asks.
func TestHealth(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.OneUpstream("http://"+mcptest.Refused(t)+"/mcp", "")) // a dead server does not make the daemon unready
	for _, path := range []string{"/healthz", "/readyz"} {
		if r := d.Agent(t).Must(http.MethodGet, path, ""); r.Status != http.StatusOK {
			t.Errorf("%s: got %d %q", path, r.Status, r.Body)
		}
	}
}
