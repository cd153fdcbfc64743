// ModernServer and the proxy that sets its hints do what they say.

package harness

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
			m := StartModern(t, ModernOptions{
				Hint: Hint{time.Minute, "private"}, JSON: framing == "JSON", Tokens: map[string]string{"a": "ada", "b": "bob"},
			})
			direct := NewAgent(t, strings.TrimSuffix(m.URL, "/mcp"))
			m.testHints(t, direct)
			m.testCredentials(t, direct)
			m.testFailing(t, direct)
		})
	}
}

// testHints asks for every result that carries a hint.
func (m *ModernServer) testHints(t *testing.T, direct *Agent) {
	t.Helper()
	m.Say("resources/read", Hint{2 * time.Second, "public"})
	last := 0
	for method, params := range cacheable {
		got := direct.Ask("/mcp", method, params, Bearer("a"))
		ttl, scope := 60_000, "private"
		if method == "resources/read" {
			ttl, scope = 2000, "public"
		}
		if got.TTL != ttl || got.Scope != scope || got.Principal != "ada" || got.Serial <= last {
			t.Errorf("%s: ttlMs %d, %s, for %s, answer %d after %d: %s", method, got.TTL, got.Scope, got.Principal, got.Serial, last, got.Body)
		}
		if got.Header.Get("Content-Type") == "application/json" != m.options.JSON {
			t.Errorf("%s: %s", method, got.Header.Get("Content-Type"))
		}
		last = got.Serial
		if n := m.Calls(method, "ada"); n != 1 {
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
func (m *ModernServer) testCredentials(t *testing.T, direct *Agent) {
	t.Helper()
	for token, owner := range map[string]string{"a": "ada", "b": "bob"} {
		if got := direct.Ask("/mcp", "resources/read", `"uri":"item://5"`, Bearer(token)); got.Principal != owner || got.Text != "item://5 for "+owner+", version 0 " {
			t.Errorf("read as %s: %q for %s", owner, got.Text, got.Principal)
		}
		if got := direct.Ask("/mcp", "tools/call", `"name":"echo","arguments":{"x":1}`, Bearer(token)); got.Text != "echo for "+owner+`: {"x":1}` {
			t.Errorf("call as %s: %q", owner, got.Text)
		}
	}
	m.Revoke("b")
	for _, fields := range [][]string{nil, {Bearer("b")}, {"Authorization: a"}} {
		got := direct.Ask("/mcp", "tools/list", "", fields...)
		if got.Status != http.StatusUnauthorized || !strings.HasPrefix(got.Header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%q: %d, %q", fields, got.Status, got.Header)
		}
	}
	if n, all := m.Calls("tools/list", "bob"), m.Calls("tools/list"); n != 0 || all != 1 || m.refusals() != 3 {
		t.Errorf("%d of %d calls by bob, %d refused", n, all, m.refusals())
	}
}

// testFailing has the server fail, and hold answers back.
func (m *ModernServer) testFailing(t *testing.T, direct *Agent) {
	t.Helper()
	m.fail(http.StatusServiceUnavailable)
	if got := direct.Ask("/mcp", "tools/list", "", Bearer("a")); got.Status != http.StatusServiceUnavailable {
		t.Errorf("got %d from a failing server", got.Status)
	}
	m.fail(0)
	m.hold()
	before := m.Calls("tools/list")
	answer := make(chan Answered, 1)
	go func() {
		defer close(answer) // where asking failed, too
		answer <- direct.Ask("/mcp", "tools/list", "", Bearer("a"))
	}()
	m.awaitCalls(t, before+1, "tools/list", "ada")
	select {
	case got := <-answer:
		t.Errorf("a held call was answered: %d", got.Status)
	default:
	}
	m.release()
	if got := <-answer; !slices.Equal(got.Tools, []string{"echo"}) {
		t.Errorf("tools %q", got.Tools)
	}
}

// TestModernServerTells changes what the server offers while somebody listens.
func TestModernServerTells(t *testing.T) {
	t.Parallel()
	m := StartModern(t, ModernOptions{})
	direct := NewAgent(t, strings.TrimSuffix(m.URL, "/mcp"))
	body, fields := ModernRequest(`"changes"`, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourceSubscriptions":["item://1"]}`)
	events := direct.Listen(http.MethodPost, "/mcp", body, append(fields, Bearer("ada"))...)
	next := func(want string) {
		t.Helper()
		if e := events.Next(); !strings.Contains(e.Data, want) {
			t.Errorf("received %q, want %s", e.Data, want)
		}
	}
	next("notifications/subscriptions/acknowledged")
	m.AwaitListens(t, 1, "ada")
	m.AddTool("second")
	next("notifications/tools/list_changed")
	if got := direct.Ask("/mcp", "tools/list", ""); !slices.Equal(got.Tools, []string{"echo", "second"}) {
		t.Errorf("tools %q", got.Tools)
	}
	m.removeTool("second")
	next("notifications/tools/list_changed")
	m.update(Item(1))
	next("notifications/resources/updated")
	if got := direct.Ask("/mcp", "resources/read", `"uri":"item://1"`); !strings.Contains(got.Text, "version 1") {
		t.Errorf("read %q", got.Text)
	}
	if m.Listens() != 1 || m.Listens("bob") != 0 {
		t.Errorf("%d listen, %d as bob", m.Listens(), m.Listens("bob"))
	}
	_ = events.res.Body.Close()
	m.AwaitListens(t, 0)
}

// TestTTLProxy has a server that says 0 say something else, in both framings.
func TestTTLProxy(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"JSON", "SSE"} {
		t.Run(framing, func(t *testing.T) {
			m := StartModern(t, ModernOptions{Hint: Hint{0, "public"}, JSON: framing == "JSON"})
			through := NewAgent(t, WithTTL(func(testing.TB) string { return m.URL }, 12_345)(t))
			for method, params := range cacheable {
				got := through.Ask("/", method, params, Bearer("ada"))
				if got.TTL != 12_345 || got.Scope != "public" || got.Principal != "ada" {
					t.Errorf("%s: ttlMs %d, %s, for %s: %s", method, got.TTL, got.Scope, got.Principal, got.Body)
				}
			}
			quoted := `"name":"echo","arguments":{"text":"\"ttlMs\":0,"}`
			if got := through.Ask("/", "tools/call", quoted); !strings.Contains(got.Body, `ttlMs\\\":0,`) {
				t.Errorf("a string was edited: %s", got.Body)
			}
			if got := through.Must(http.MethodGet, "/", ""); got.Status != http.StatusMethodNotAllowed {
				t.Errorf("GET: %d", got.Status)
			}
		})
	}
}
