// Arrays for MCP servers, whose versions differ in whether they take them.

package rpc

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// rpcCast is a real MCP server and what there is on it.
type rpcCast struct {
	name       string
	start      harness.Server
	tool, args string
	says       string // in the tool's answer
	uri        string
	holds      string // in the resource
}

var rpcCasts = []rpcCast{
	{"everything", harness.NPMServer("streamableHttp"), "echo", `{"message":"grüße"}`, "grüße", "demo://resource/dynamic/text/7", "demo://resource/dynamic/text/7"},
	{"go stateful", harness.GoStateful, "test_simple_text", `{}`, "text", "test://static-text", "test://static-text"},
	{"go stateless", harness.GoStateless, "test_simple_text", `{}`, "text", "test://static-text", "test://static-text"},
	{"modern", func(t testing.TB) string { return harness.StartModern(t, harness.ModernOptions{}).URL }, "echo", `{"x":1}`, `{"x":1}`, "item://1", "item://1"},
}

// TestArrayBeforeMCP: whoever posts to /rpc/<name> need know nothing of MCP's envelope, neither of `_meta` and headers nor of
// `initialize` and sessions.
func TestArrayBeforeMCP(t *testing.T) {
	t.Parallel()
	for _, cast := range rpcCasts {
		t.Run(cast.name, func(t *testing.T) {
			t.Parallel()
			d := harness.Start(t, harness.OneUpstream(cast.start(t), ""))
			a := d.Agent(t)
			for range 2 { // the second time, what was found out is known
				cast.play(t, a)
			}
			call := fmt.Sprintf(`{"jsonrpc":"2.0","id":1.0,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, cast.tool, cast.args)
			if got := postArray(a, call).RPC(t); string(got.ID) != "1.0" || !strings.Contains(string(got.Result), quoted(cast.says)) {
				t.Errorf("by itself: id %s: %s %+v", got.ID, got.Result, got.Error)
			}
		})
	}
}

// play asks for everything in one array.
func (cast *rpcCast) play(t *testing.T, a *harness.Agent) {
	t.Helper()
	asked := []struct {
		id, method, params string
		holds              string // in the result
		code               int
	}{
		{`1`, "tools/list", ``, fmt.Sprintf("%q", cast.tool), 0},
		{`"\u0031"`, "tools/list", `{}`, fmt.Sprintf("%q", cast.tool), 0},
		{`1`, "tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s}`, cast.tool, cast.args), cast.says, 0},
		{`1.0`, "resources/read", fmt.Sprintf(`{"uri":%q}`, cast.uri), cast.holds, 0},
		{`2`, "resources/read", `{"uri":"nowhere://at/all"}`, "", anyCode},
		{`3`, "no/such/method", `{}`, "", anyCode},
		{`4`, "initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}`, "", -32600},
		{`5`, "resources/subscribe", fmt.Sprintf(`{"uri":%q}`, cast.uri), "", -32600},
		{`6`, "tools/call", fmt.Sprintf(`{"name":%q,"arguments":%s,"_meta":{"progressToken":1}}`, cast.tool, cast.args), "", -32600},
	}
	var texts []string
	for _, e := range asked {
		params := ""
		if e.params != "" {
			params = `,"params":` + e.params
		}
		texts = append(texts, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q%s}`, e.id, e.method, params))
	}
	answers := postArray(a, "["+strings.Join(texts, ",")+"]").Answers(t)
	if len(answers) != len(asked) {
		t.Fatalf("%d answers to %d requests", len(answers), len(asked))
	}
	for i, e := range asked {
		got := answers[i]
		switch {
		case string(got.ID) != e.id:
			t.Errorf("%s: id %s, want %s", e.method, got.ID, e.id)
		case e.code == anyCode && got.Error == nil, e.code != 0 && e.code != anyCode && (got.Error == nil || got.Error.Code != e.code):
			t.Errorf("%s: %s %+v, want the error %d", e.method, got.Result, got.Error, e.code)
		case e.code == 0 && (got.Error != nil || !strings.Contains(string(got.Result), quoted(e.holds))):
			t.Errorf("%s: %s %+v, want %s in it", e.method, harness.Tail(string(got.Result)), got.Error, e.holds)
		}
	}
}

// anyCode is an error of the server's own, whatever its code.
const anyCode = 1

// quoted is a text as it stands within a JSON string, or a JSON string itself.
func quoted(s string) string {
	if strings.HasPrefix(s, `"`) {
		return s
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text[1 : len(text)-1])
}
