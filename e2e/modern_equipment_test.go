package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestModernServer holds the server of the cache's tests to what it says of itself, asked without a daemon.
func TestModernServer(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"JSON", "SSE"} {
		t.Run(framing, func(t *testing.T) {
			m := startModern(t, modernOptions{
				hint: hint{time.Minute, "private"}, json: framing == "JSON", tokens: map[string]string{"a": "ada", "b": "bob"},
			})
			direct := newAgent(t, strings.TrimSuffix(m.url, "/mcp"))
			m.testHints(t, direct)
			m.testCredentials(t, direct)
			m.testFailing(t, direct)
		})
	}
}

// testHints asks for every result that carries a hint.
func (m *modernServer) testHints(t *testing.T, direct *agent) {
	t.Helper()
	m.say("resources/read", hint{2 * time.Second, "public"})
	last := 0
	for method, params := range cacheable {
		got := direct.ask("/mcp", method, params, as("a"))
		ttl, scope := 60_000, "private"
		if method == "resources/read" {
			ttl, scope = 2000, "public"
		}
		if got.ttl != ttl || got.scope != scope || got.asker != "ada" || got.serial <= last {
			t.Errorf("%s: ttlMs %d, %s, for %s, answer %d after %d: %s", method, got.ttl, got.scope, got.asker, got.serial, last, got.body)
		}
		if got.header.Get("Content-Type") == "application/json" != m.options.json {
			t.Errorf("%s: %s", method, got.header.Get("Content-Type"))
		}
		last = got.serial
		if n := m.calls(method, "ada"); n != 1 {
			t.Errorf("%s: %d calls counted", method, n)
		}
	}
}

// cacheable are the methods whose results carry a hint, with params for each.
var cacheable = map[string]string{
	"server/discover": "", "tools/list": "", "prompts/list": "", "resources/list": "", "resources/templates/list": "",
	"resources/read": `"uri":"item://77"`,
}

// testCredentials asks as two, as nobody and as somebody whose token has been revoked.
func (m *modernServer) testCredentials(t *testing.T, direct *agent) {
	t.Helper()
	for token, owner := range map[string]string{"a": "ada", "b": "bob"} {
		if got := direct.ask("/mcp", "resources/read", `"uri":"item://5"`, as(token)); got.asker != owner || got.text != "item://5 for "+owner+", version 0 " {
			t.Errorf("read as %s: %q for %s", owner, got.text, got.asker)
		}
		if got := direct.ask("/mcp", "tools/call", `"name":"echo","arguments":{"x":1}`, as(token)); got.text != "echo for "+owner+`: {"x":1}` {
			t.Errorf("call as %s: %q", owner, got.text)
		}
	}
	m.revoke("b")
	for _, fields := range [][]string{nil, {as("b")}, {"Authorization: a"}} {
		got := direct.ask("/mcp", "tools/list", "", fields...)
		if got.status != http.StatusUnauthorized || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%q: %d, %q", fields, got.status, got.header)
		}
	}
	if n, all := m.calls("tools/list", "bob"), m.calls("tools/list"); n != 0 || all != 1 || m.refusals() != 3 {
		t.Errorf("%d of %d calls by bob, %d refused", n, all, m.refusals())
	}
}

// testFailing has the server fail, and hold answers back.
func (m *modernServer) testFailing(t *testing.T, direct *agent) {
	t.Helper()
	m.fail(http.StatusServiceUnavailable)
	if got := direct.ask("/mcp", "tools/list", "", as("a")); got.status != http.StatusServiceUnavailable {
		t.Errorf("got %d from a failing server", got.status)
	}
	m.fail(0)
	m.hold()
	before := m.calls("tools/list")
	answer := make(chan answered, 1)
	go func() {
		defer close(answer) // where asking failed, too
		answer <- direct.ask("/mcp", "tools/list", "", as("a"))
	}()
	m.awaitCalls(t, before+1, "tools/list", "ada")
	select {
	case got := <-answer:
		t.Errorf("a held call was answered: %d", got.status)
	default:
	}
	m.release()
	if got := <-answer; !slices.Equal(got.tools, []string{"echo"}) {
		t.Errorf("tools %q", got.tools)
	}
}

// TestModernServerTells changes what the server offers while somebody listens.
func TestModernServerTells(t *testing.T) {
	t.Parallel()
	m := startModern(t, modernOptions{})
	direct := newAgent(t, strings.TrimSuffix(m.url, "/mcp"))
	body, fields := modernRequest(`"ears"`, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["item://1"]}`)
	ears := direct.listen(http.MethodPost, "/mcp", body, append(fields, as("ada"))...)
	next := func(want string) {
		t.Helper()
		if e := ears.next(); !strings.Contains(e.data, want) {
			t.Errorf("heard %q, want %s", e.data, want)
		}
	}
	next("notifications/subscriptions/acknowledged")
	m.awaitListens(t, 1, "ada")
	m.addTool("second")
	next("notifications/tools/list_changed")
	if got := direct.ask("/mcp", "tools/list", ""); !slices.Equal(got.tools, []string{"echo", "second"}) {
		t.Errorf("tools %q", got.tools)
	}
	m.removeTool("second")
	next("notifications/tools/list_changed")
	m.update(item(1))
	next("notifications/resources/updated")
	if got := direct.ask("/mcp", "resources/read", `"uri":"item://1"`); !strings.Contains(got.text, "version 1") {
		t.Errorf("read %q", got.text)
	}
	if m.listens() != 1 || m.listens("bob") != 0 {
		t.Errorf("%d listen, %d as bob", m.listens(), m.listens("bob"))
	}
	_ = ears.res.Body.Close()
	m.awaitListens(t, 0)
}

// TestTTLProxy has a server that says 0 say something else, in both framings.
func TestTTLProxy(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"JSON", "SSE"} {
		t.Run(framing, func(t *testing.T) {
			m := startModern(t, modernOptions{hint: hint{0, "public"}, json: framing == "JSON"})
			through := newAgent(t, withTTL(func(testing.TB) string { return m.url }, 12_345)(t))
			for method, params := range cacheable {
				got := through.ask("/", method, params, as("ada"))
				if got.ttl != 12_345 || got.scope != "public" || got.asker != "ada" {
					t.Errorf("%s: ttlMs %d, %s, for %s: %s", method, got.ttl, got.scope, got.asker, got.body)
				}
			}
			quoted := `"name":"echo","arguments":{"text":"\"ttlMs\":0,"}`
			if got := through.ask("/", "tools/call", quoted); !strings.Contains(got.body, `ttlMs\\\":0,`) {
				t.Errorf("a string was edited: %s", got.body)
			}
			if got := through.must(http.MethodGet, "/", ""); got.status != http.StatusMethodNotAllowed {
				t.Errorf("GET: %d", got.status)
			}
		})
	}
}
