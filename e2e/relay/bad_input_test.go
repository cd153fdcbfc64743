// What agents should not send is refused, and costs others nothing.

package relay

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// slowClient is a client that sends its request so slowly that it never ends.
type slowClient struct {
	*harness.RawAgent
	kind  string
	begun time.Time
	ended chan struct{} // closed when the daemon has given it up; then the following count
	told  string
	after time.Duration
}

// startSlow opens connections that stop in mid-head and in mid-body.
func startSlow(t *testing.T, d *harness.Daemon, each int) []*slowClient {
	var all []*slowClient
	for range each {
		for kind, text := range map[string]string{
			"head": "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nX-A: ",
			"body": "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\":",
		} {
			c := &slowClient{RawAgent: harness.DialAgent(t, d), kind: kind, begun: time.Now(), ended: make(chan struct{})}
			c.Deadline(2 * time.Minute)
			c.Write("%s", text)
			go c.end() // at once: what comes between may take long
			t.Cleanup(func() { c.Close(); <-c.ended })
			all = append(all, c)
		}
	}
	return all
}

// end waits until the daemon has given the client up, and notes what it was told.
func (c *slowClient) end() {
	defer close(c.ended)
	c.told = "nothing"
	if r, err := c.Whole(http.MethodPost); err == nil {
		c.told = fmt.Sprint(r.Status)
	}
	_, _ = io.Copy(io.Discard, c.Reader)
	c.after = time.Since(c.begun)
}

// TestBadInput throws at the daemon what agents should not send. Slow clients hold connections open all the while, and
// honest calls are served between any two of the cases.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.FaultConfig(t, s, `origins: ["https://inspector.example"]`)
	c.Top = strings.Replace(c.Top, "body: 1MiB", "body: 64KiB", 1)
	c.Top = strings.Replace(c.Top, "check_body: 256KiB", "check_body: 64KiB", 1)
	d := harness.Start(t, c)
	slow := startSlow(t, d, 50)
	d.Agent(t).Works()

	t.Run("bodies", func(t *testing.T) { badBodies(t, d, s) })
	t.Run("arrays", func(t *testing.T) { arrays(t, d, s) })
	t.Run("mismatch", func(t *testing.T) { mismatches(t, d, s) })
	t.Run("requests", func(t *testing.T) { badRequests(t, d, s) })
	t.Run("heads", func(t *testing.T) { badHeads(t, d) })
	t.Run("cors", func(t *testing.T) { cors(t, d, s) })
	t.Run("others are served meanwhile", func(t *testing.T) {
		a := d.Agent(t)
		for range 200 {
			a.Works()
		}
	})
	t.Run("slow clients are given up", func(t *testing.T) {
		for _, c := range slow {
			<-c.ended
			if c.kind == "body" && c.told != "408" {
				t.Errorf("a slow body was told %s, want 408", c.told)
			}
			if c.after < 5*time.Second || c.after > 30*time.Second+harness.Soon {
				t.Errorf("a slow %s was given up after %v, want 30 s at most, and not at once", c.kind, c.after)
			}
		}
		d.Agent(t).Works()
	})
}

// badBodies are bodies that the daemon refuses by itself: the server must not see one of them.
func badBodies(t *testing.T, d *harness.Daemon, s *mcptest.Server) {
	for _, c := range []struct {
		name, body string
		status     int
		code       int
		id         string // "": none must be there
	}{
		{"over the limit", harness.Request("7", "ping") + strings.Repeat(" ", 64<<10), 413, 1413, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := s.Received()
			r := d.Agent(t).Post(c.body)
			got := r.RPC(t)
			if r.Status != c.status || got.Error == nil || c.code != 0 && got.Error.Code != c.code {
				t.Fatalf("got %d %s, want %d %d", r.Status, r.Body, c.status, c.code)
			}
			if c.id != "any" && string(got.ID) != c.id {
				t.Errorf("id %s, want %q", got.ID, c.id)
			}
			if c.code == 1413 && !strings.Contains(r.Body, "limits.body") {
				t.Errorf("the key to raise is not named: %s", r.Body)
			}
			if s.Received() != asked {
				t.Error("the server saw it")
			}
			d.Agent(t).Works()
		})
	}
}

// arrays are passed on whole, in any version: the server says what it thinks of them.
func arrays(t *testing.T, d *harness.Daemon, s *mcptest.Server) {
	body := " [" + harness.Request("1", "ping") + ",\n" + harness.Notification("x") + ", " + harness.Request(`"b"`, "tools/list") + "] "
	const answers = `[{"jsonrpc":"2.0","id":"b","result":{}},{"jsonrpc":"2.0","id":1,"result":{}}]`
	a := d.Agent(t)
	for _, version := range []string{"", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28", "2027-01-01", "rubbish"} {
		var fields []string
		if version != "" {
			fields = []string{"MCP-Protocol-Version: " + version}
		}
		s.Once(mcptest.Saying(200, "application/json", answers))
		if r := a.Post(body, fields...); r.Status != 200 || r.Body != answers {
			t.Errorf("%s: got %d %s", version, r.Status, r.Body)
		}
		all := s.Requests()
		if got := string(all[len(all)-1].Body); got != body {
			t.Errorf("%s: the server got %q, want the array whole", version, got)
		}
	}
	a.Works()
}

// mismatches go upstream untouched: refusing them is the server's business (SEP-2243).
func mismatches(t *testing.T, d *harness.Daemon, s *mcptest.Server) {
	body, _ := harness.Modern("1", "tools/call")
	const refusal = `{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"HeaderMismatch"}}`
	a := d.Agent(t)
	for _, fields := range [][]string{
		{"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/list", "Mcp-Name: echo"},
		{"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: other"},
		{"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call"},
		{"MCP-Protocol-Version: 2025-11-25", "Mcp-Method: tools/call", "Mcp-Name: echo"},
		{"Mcp-Method: tools/call", "Mcp-Name: echo", "Mcp-Param-X: =?base64?4pyT?="},
		{"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: TOOLS/CALL", "Mcp-Name: echo", "Mcp-Session-Id: kept"},
	} {
		s.Once(mcptest.Saying(400, "application/json", refusal))
		asked := s.Received()
		if r := a.Post(body, fields...); r.Status != 400 || r.Body != refusal {
			t.Errorf("%v: got %d %s", fields, r.Status, r.Body)
		}
		got := s.AwaitRequest(asked + 1)
		if string(got.Body) != body {
			t.Errorf("%v: the server got %q", fields, got.Body)
		}
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			if got.Get(name) != value {
				t.Errorf("%s arrived as %q, want %q", name, got.Get(name), value)
			}
		}
	}
	a.Works()
}

// badRequests are refused for their path, verb, Host or Origin.
func badRequests(t *testing.T, d *harness.Daemon, s *mcptest.Server) {
	asked := s.Received()
	a := d.Agent(t)
	ok := harness.Request("1", "tools/call")
	for _, c := range []struct {
		name, verb, path string
		fields           []string
		status           int
	}{
		{"an unknown path", "POST", "/", nil, 404},
		{"another unknown path", "POST", "/mcp/s/extra", nil, 404},
		{"an unknown upstream", "POST", "/mcp/nobody", nil, 404},
		{"the alias, with several upstreams", "POST", "/mcp", nil, 404},
		{"dots", "POST", "/mcp/../mcp/nobody", nil, 404},
		{"an escaped slash", "POST", "/mcp/s%2f..", nil, 404},
		{"PUT", "PUT", "/mcp/s", nil, 405},
		{"PATCH", "PATCH", "/mcp/s", nil, 405},
		{"OPTIONS", "OPTIONS", "/mcp/s", nil, 405},
		{"POST to /metrics", "POST", "/metrics", nil, 405},
		{"an evil Host", "POST", "/mcp/s", []string{"Host: evil.example"}, 403},
		{"an evil Host that looks local", "POST", "/mcp/s", []string{"Host: localhost.evil.example:7300"}, 403},
		{"an evil Host, numbers", "POST", "/mcp/s", []string{"Host: 127.0.0.1.evil.example"}, 403},
		{"an evil Host on GET", "GET", "/mcp/s", []string{"Host: evil.example"}, 403},
		{"an evil Host on DELETE", "DELETE", "/mcp/s", []string{"Host: evil.example"}, 403},
		{"an evil Host on /metrics", "GET", "/metrics", []string{"Host: evil.example"}, 403},
		{"an evil Origin", "POST", "/mcp/s", []string{"Origin: https://evil.example"}, 403},
		{"the Origin null", "POST", "/mcp/s", []string{"Origin: null"}, 403},
		{"an Origin with a listed prefix", "POST", "/mcp/s", []string{"Origin: https://inspector.example.evil"}, 403},
		{"a listed Origin by another scheme", "POST", "/mcp/s", []string{"Origin: http://inspector.example"}, 403},
		{"a local Origin that is not listed", "POST", "/mcp/s", []string{"Origin: http://localhost:6274"}, 403},
		{"two Origins", "POST", "/mcp/s", []string{"Origin: https://inspector.example", "Origin: https://evil.example"}, 403},
		{"an evil preflight", "OPTIONS", "/mcp/s", []string{"Origin: https://evil.example", "Access-Control-Request-Method: POST"}, 403},
	} {
		body := ok
		if c.verb == "GET" || c.verb == "DELETE" || c.verb == "OPTIONS" {
			body = ""
		}
		r := a.Must(c.verb, c.path, body, c.fields...)
		if r.Status != c.status {
			t.Errorf("%s: got %d %q, want %d", c.name, r.Status, r.Body, c.status)
		}
		if c.status == 405 && c.path == "/mcp/s" && r.Header.Get("Allow") != "GET, POST, DELETE" {
			t.Errorf("%s: Allow is %q", c.name, r.Header.Get("Allow"))
		}
		if r.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: allowed to read the answer", c.name)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if r := a.Must("GET", path, "", "Host: evil.example"); r.Status != 200 {
			t.Errorf("%s is exempt from the check of Host: got %d", path, r.Status)
		}
	}
	if s.Received() != asked {
		t.Errorf("the server saw %d of them", s.Received()-asked)
	}
	for _, host := range []string{"localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]:7300"} {
		if r := a.Post(ok, "Host: "+host); r.Status != 200 {
			t.Errorf("Host %s: got %d", host, r.Status)
		}
	}
}

// badHeads are heads that no HTTP client sends.
func badHeads(t *testing.T, d *harness.Daemon) {
	body := harness.Request("1", "ping")
	for name, text := range map[string]string{
		"not HTTP":            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"no Host":             "POST /mcp/s HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"a head of 2 MiB":     "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\n\r\n",
		"two lengths":         "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + body,
		"a negative length":   "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n" + body,
		"rubbish in a chunk":  "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"a bare CR in a name": "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nX\rA: 1\r\nContent-Length: 0\r\n\r\n",
	} {
		c := harness.DialAgent(t, d)
		c.Write("%s", text)
		c.HalfClose()
		r, err := c.Whole(http.MethodPost)
		if err == nil && (r.Status < 400 || r.Status > 499) {
			t.Errorf("%s: got %d %q, want a 4xx or a closed connection", name, r.Status, r.Body)
		}
		d.Agent(t).Works()
	}
	// A body that stops short of its length is no message, whatever it says so far.
	c := harness.DialAgent(t, d)
	c.Write("POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body)+1, body)
	c.HalfClose()
	if r, err := c.Whole(http.MethodPost); err == nil && r.Status == 200 {
		t.Errorf("a cut body was answered: %s", r.Body)
	}
	// A chunked body over the limit is found out on the way.
	c = harness.DialAgent(t, d)
	c.Write("POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", 70<<10, strings.Repeat(" ", 70<<10))
	if r, err := c.Whole(http.MethodPost); err != nil || r.Status != 413 || r.RPC(t).Error.Code != 1413 {
		t.Errorf("a chunked body over the limit: got %d %s, %v", r.Status, r.Body, err)
	}
	d.Agent(t).Works()
}
