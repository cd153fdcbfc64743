package daemon

import (
	"testing"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
)

func repeatCall(t *testing.T, era mcp.Era, body string) *mcp.Call {
	t.Helper()
	c := &mcp.Call{Era: era, Body: []byte(body)}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		t.Fatal(err)
	}
	if era == mcp.EraPlain {
		c.Message.Method = mcp.MethodOther
	}
	return c
}

// TestMayRepeat: what may be sent again is what the protocol says, and what the operator's lists name.
func TestMayRepeat(t *testing.T) {
	const search, write = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_web"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write"}}`
	again := config.Upstream{Protocol: config.ProtocolMCP, Retry: config.Retry{Tools: []string{"search_*"}}}
	none := config.Upstream{Protocol: config.ProtocolMCP}
	plain := config.Upstream{Protocol: config.ProtocolJSONRPC, Retry: config.Retry{Methods: []string{"get*", "tools/list"}}}
	for name, x := range map[string]struct {
		upstream config.Upstream
		call     *mcp.Call
		want     bool
	}{
		"a list":                        {none, repeatCall(t, mcp.EraLegacy, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`), true},
		"a tool":                        {none, repeatCall(t, mcp.EraLegacy, search), false},
		"a listed tool":                 {again, repeatCall(t, mcp.EraLegacy, search), true},
		"another tool":                  {again, repeatCall(t, mcp.EraLegacy, write), false},
		"a listed tool with a task":     {again, repeatCall(t, mcp.EraLegacy, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_web","task":{}}}`), false},
		"a listed tool, its name twice": {again, repeatCall(t, mcp.EraLegacy, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_web","name":"write"}}`), false},
		"plain, listed":                 {plain, repeatCall(t, mcp.EraPlain, `{"jsonrpc":"2.0","id":1,"method":"getBlock","params":[1]}`), true},
		"plain, listed, with escapes":   {plain, repeatCall(t, mcp.EraPlain, `{"jsonrpc":"2.0","id":1,"method":"get\u0042lock"}`), true},
		"plain, another":                {plain, repeatCall(t, mcp.EraPlain, `{"jsonrpc":"2.0","id":1,"method":"sendBlock"}`), false},
		"plain, a name of MCP's":        {plain, repeatCall(t, mcp.EraPlain, `{"jsonrpc":"2.0","id":1,"method":"prompts/list"}`), false},
		"plain, the same, listed":       {plain, repeatCall(t, mcp.EraPlain, `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`), true},
		"plain, a notification":         {plain, repeatCall(t, mcp.EraPlain, `{"jsonrpc":"2.0","method":"getBlock"}`), false},
		"an array of such":              {plain, &mcp.Call{Lane: mcp.LaneBatch, Again: true}, true},
		"an array":                      {plain, &mcp.Call{Lane: mcp.LaneBatch}, false},
	} {
		if got := (&pipeline{entry: x.upstream}).mayRepeat(x.call); got != x.want {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}
