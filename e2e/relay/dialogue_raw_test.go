// HTTP requests that no client of good manners sends get the same answers directly and through the daemon.

package relay

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// exchange is one HTTP request, written by hand: what no client of good manners would send.
type exchange struct {
	name   string
	verb   string // POST if empty
	body   string
	fields []string // "Name: value"; SESSION stands for the session's id
}

// legacyExchanges are sent in order within one session.
func legacyExchanges() []exchange {
	ping := func(id string) string { return `{"jsonrpc":"2.0","id":` + id + `,"method":"ping"}` }
	normal := []string{harness.AcceptBoth, harness.JSONContent, harness.InSession, harness.LegacyVersionField}
	list := []exchange{
		{"initialized", "", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, normal},
		{"a response nobody waits for", "", `{"jsonrpc":"2.0","id":99,"result":{}}`, normal},
		{"an unknown notification", "", `{"jsonrpc":"2.0","method":"notifications/none","params":{"a":[1,2]}}`, normal},
		{"a cancellation of nothing", "", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":77}}`, normal},
		{"an unknown method", "", `{"jsonrpc":"2.0","id":1,"method":"no/such"}`, normal},
		{"white space", "", " \r\n\t" + strings.ReplaceAll(ping("5"), ":", " : ") + "\n ", normal},
		{"an unknown member", "", `{"jsonrpc":"2.0","id":6,"method":"ping","extra":{"deep":[[[]]]}}`, normal},
		{"a wrong Accept", "", ping("7"), []string{"Accept: text/html", harness.JSONContent, harness.InSession, harness.LegacyVersionField}},
		{"only JSON accepted", "", ping("8"), []string{"Accept: application/json", harness.JSONContent, harness.InSession, harness.LegacyVersionField}},
		{"no Accept", "", ping("9"), []string{harness.JSONContent, harness.InSession, harness.LegacyVersionField}},
		{"a wrong content type", "", ping("10"), []string{harness.AcceptBoth, "Content-Type: text/plain", harness.InSession, harness.LegacyVersionField}},
		{"a content type with parameters", "", ping("11"), []string{harness.AcceptBoth, "Content-Type: application/json; charset=utf-8", harness.InSession, harness.LegacyVersionField}},
		{"no session", "", ping("12"), []string{harness.AcceptBoth, harness.JSONContent, harness.LegacyVersionField}},
		{"an unknown session", "", ping("13"), []string{harness.AcceptBoth, harness.JSONContent, harness.LegacyVersionField, "Mcp-Session-Id: none"}},
		{"no version", "", ping("14"), []string{harness.AcceptBoth, harness.JSONContent, harness.InSession}},
		{"an unsupported version", "", ping("15"), []string{harness.AcceptBoth, harness.JSONContent, harness.InSession, "MCP-Protocol-Version: 1999-01-01"}},
		{"a second initialize", "", harness.InitializeRequest, normal},
		{"GET without a session", "GET", "", []string{"Accept: text/event-stream", harness.LegacyVersionField}},
		{"GET of an unknown session", "GET", "", []string{"Accept: text/event-stream", harness.LegacyVersionField, "Mcp-Session-Id: none"}},
		{"GET with a wrong Accept", "GET", "", []string{"Accept: application/json", harness.LegacyVersionField, harness.InSession}},
		{"DELETE without a session", "DELETE", "", []string{harness.LegacyVersionField}},
		{"DELETE of an unknown session", "DELETE", "", []string{harness.LegacyVersionField, "Mcp-Session-Id: none"}},
		{"DELETE", "DELETE", "", []string{harness.LegacyVersionField, harness.InSession}},
		{"after the DELETE", "", ping("16"), normal},
		{"DELETE again", "DELETE", "", []string{harness.LegacyVersionField, harness.InSession}},
	}
	// Over 2^53 the servers here, which keep ids in floats, answer another one: that is theirs to do.
	ids := []string{"0", "-1", "9007199254740991", "9007199254740993", "1.0", "1e3", `""`, `"é \u00e9 \" \\ \/"`, `"` + strings.Repeat("x", 1000) + `"`}
	for i, id := range ids {
		list = slices.Insert(list, 1, exchange{fmt.Sprintf("id %d", i), "", ping(id), normal})
	}
	return list
}

// modernExchanges are independent of each other.
func modernExchanges() []exchange {
	call := func(id, version, method, params string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":%q,`+
			`"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"}}}}`, id, method, params, version)
	}
	headers := func(method string, more ...string) []string {
		return append([]string{harness.AcceptBoth, harness.JSONContent, harness.ModernVersionField, "Mcp-Method: " + method}, more...)
	}
	const now = "2026-07-28"
	return []exchange{
		{"discover", "", call("1", now, "server/discover", ""), headers("server/discover")},
		{"tools", "", call(`"a\u0062"`, now, "tools/list", ""), headers("tools/list")},
		{"a large id", "", call("9007199254740991", now, "prompts/list", ""), headers("prompts/list")},
		{"a stray session", "", call("2", now, "tools/list", ""), headers("tools/list", "Mcp-Session-Id: none")},
		{"an unknown method", "", call("3", now, "no/such", ""), headers("no/such")},
		{"ping, which is gone", "", call("4", now, "ping", ""), headers("ping")},
		{"an unknown tool", "", call("5", now, "tools/call", `"name":"none","arguments":{},`), headers("tools/call", "Mcp-Name: none")},
		{"a wrong Mcp-Method", "", call("6", now, "tools/list", ""), headers("prompts/list")},
		{"no Mcp-Method", "", call("7", now, "tools/list", ""), []string{harness.AcceptBoth, harness.JSONContent, harness.ModernVersionField}},
		{"a wrong Mcp-Name", "", call("8", now, "tools/call", `"name":"none","arguments":{},`), headers("tools/call", "Mcp-Name: other")},
		{"no version header", "", call("9", now, "tools/list", ""), []string{harness.AcceptBoth, harness.JSONContent, "Mcp-Method: tools/list"}},
		{"another version header", "", call("10", now, "tools/list", ""), []string{harness.AcceptBoth, harness.JSONContent, harness.LegacyVersionField, "Mcp-Method: tools/list"}},
		{"an unsupported version", "", call("11", "2031-01-01", "tools/list", ""), []string{harness.AcceptBoth, harness.JSONContent, "MCP-Protocol-Version: 2031-01-01", "Mcp-Method: tools/list"}},
		{"no _meta", "", `{"jsonrpc":"2.0","id":12,"method":"tools/list"}`, headers("tools/list")},
		{"a wrong Accept", "", call("13", now, "tools/list", ""), []string{"Accept: text/html", harness.JSONContent, harness.ModernVersionField, "Mcp-Method: tools/list"}},
		{"GET", "GET", "", []string{"Accept: text/event-stream", harness.ModernVersionField}},
		{"DELETE", "DELETE", "", []string{harness.ModernVersionField}},
	}
}

// TestRawExchanges sends the same bytes directly and through the daemon: status, headers and body come back equal.
func TestRawExchanges(t *testing.T) {
	for _, c := range []struct {
		name      string
		start     harness.Server
		exchanges []exchange
	}{
		{"everything", harness.NPMServer("streamableHttp"), legacyExchanges()},
		{"go stateful", harness.GoStateful, legacyExchanges()},
		{"go stateless, legacy", harness.GoStateless, legacyExchanges()},
		{"go stateless", harness.GoStateless, modernExchanges()},
		{"dual, legacy", harness.DualServer, legacyExchanges()},
		{"dual", harness.DualServer, modernExchanges()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			direct := newRawClient(t, c.start(t))
			got := newRawClient(t, harness.Through(t, c.start(t)))
			for _, x := range c.exchanges {
				t.Run(strings.ReplaceAll(x.name, " ", "_"), func(t *testing.T) {
					compareAnswers(t, direct.send(t, x), got.send(t, x))
				})
			}
		})
	}
}

// rawClient sends exchanges as they are, each on a connection of its own.
type rawClient struct {
	url, session string
}

// newRawClient opens a session, where the server has them.
func newRawClient(t *testing.T, url string) *rawClient {
	t.Helper()
	c := &rawClient{url: url}
	a := c.send(t, exchange{"initialize", "", harness.InitializeRequest, []string{harness.AcceptBoth, harness.JSONContent}})
	c.session = a.header.Get("Mcp-Session-Id")
	return c
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (c *rawClient) send(t *testing.T, x exchange) answer {
	t.Helper()
	verb := x.verb
	if verb == "" {
		verb = http.MethodPost
	}
	request, err := http.NewRequestWithContext(t.Context(), verb, c.url, strings.NewReader(x.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header["Accept"] = nil // none of net/http's own
	for _, field := range x.fields {
		name, value, _ := strings.Cut(field, ": ")
		if value == "SESSION" {
			if value = c.session; value == "" {
				continue
			}
		}
		request.Header.Set(name, value)
	}
	response, err := harness.HTTPClient.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", x.name, err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// added are the headers that the daemon may add of its own; dropped are those of one connection only.
var (
	added   = []string{"Server-Timing", "X-Accel-Buffering", "Cache-Control", "Cache-Status", "Vary"}
	dropped = []string{"Connection", "Keep-Alive", "Date", "Content-Length", "Transfer-Encoding"}
)

func compareAnswers(t *testing.T, direct, got answer) {
	t.Helper()
	if direct.status != got.status {
		t.Errorf("status %d directly, %d through the daemon", direct.status, got.status)
	}
	harness.Diff(t, harness.Steady([]string{direct.body}, ""), harness.Steady([]string{withoutComments(got)}, ""))
	for name := range got.header {
		if direct.header[name] == nil && !slices.Contains(added, name) && !slices.Contains(dropped, name) {
			t.Errorf("header %s: %q only through the daemon", name, got.header[name])
		}
	}
	for name, values := range direct.header {
		if slices.Contains(dropped, name) || name == "Mcp-Session-Id" && got.header.Get(name) != "" {
			continue
		}
		if !slices.Equal(values, got.header[name]) {
			t.Errorf("header %s: %q directly, %q through the daemon", name, values, got.header[name])
		}
	}
}

// withoutComments returns the body without the comments that the daemon may put between events.
func withoutComments(a answer) string {
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		return a.body
	}
	blocks := strings.SplitAfter(a.body, "\n\n")
	return strings.Join(slices.DeleteFunc(blocks, func(block string) bool { return strings.HasPrefix(block, ":") }), "")
}
