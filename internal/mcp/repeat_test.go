package mcp_test

import (
	"testing"

	"fluentd-perf/internal/mcp"
)

func callOf(t *testing.T, version, body string) *mcp.Call {
	t.Helper()
	c := &mcp.Call{Version: version, Era: mcp.EraOf(version), Body: []byte(body)}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRepeatable(t *testing.T) {
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"`
	for _, x := range []struct {
		name, version, body string
		change              func(*mcp.Call)
		repeat, hedge       bool
	}{
		{name: "a list", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, repeat: true, hedge: true},
		{name: "a list of no version", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, repeat: true, hedge: true},
		{name: "a page", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"2"}}`, repeat: true, hedge: true},
		{name: "a cursor that is none", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":2}}`},
		{name: "params in an array", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}`},
		{name: "a modern list", version: mcp.Version20260728, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}}`, repeat: true, hedge: true},
		{name: "a version to come", version: "2027-01-01", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`},
		{name: "rubbish for a version", version: "x", body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`},
		{name: "a prompt", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"a"}}`, repeat: true},
		{name: "a prompt without a name", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"prompts/get"}`},
		{name: "a read", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:"}}`, repeat: true, hedge: true},
		{name: "a read of nothing", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{}}`},
		{name: "subscribe", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a:"}}`, repeat: true},
		{name: "setLevel", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`, repeat: true},
		{name: "ping", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"ping"}`, repeat: true},
		{name: "tasks/get", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a"}}`, repeat: true},
		{name: "a tool", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}`},
		{name: "initialize", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"initialize"}`},
		{name: "an unknown method", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"x"}`},
		{name: "a notification", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","method":"tools/list"}`},
		{name: "an id of null", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":null,"method":"tools/list"}`},
		{name: "a name twice", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"1","cursor":"2"}}`},
		{name: "a progress token", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":1}}}`},
		{name: "a log level", version: mcp.Version20260728, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `,"io.modelcontextprotocol/logLevel":"info"}}}`},
		{name: "an answer to the server", version: mcp.Version20260728, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"inputResponses":{},` + meta + `}}}`},
		{name: "state of a request", version: mcp.Version20260728, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"requestState":"a",` + meta + `}}}`},
		{name: "a task", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"task":{}}}`},
		{name: "headers that differ", version: mcp.Version20260728, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}}`, change: func(c *mcp.Call) { c.Mismatch = true }},
		{name: "an array", version: mcp.Version20251125, body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, change: func(c *mcp.Call) { c.Lane = mcp.LaneBatch }},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := callOf(t, x.version, x.body)
			if x.change != nil {
				x.change(c)
			}
			if got := c.Repeatable(); got != x.repeat {
				t.Errorf("repeatable: %v", got)
			}
			if got := c.Hedgeable(); got != x.hedge {
				t.Errorf("hedgeable: %v", got)
			}
		})
	}
}

// TestRegularPlain: where there is no MCP there is no version, and params may be an array.
func TestRegularPlain(t *testing.T) {
	c := callOf(t, "", `{"jsonrpc":"2.0","id":1,"method":"getBlock","params":[1]}`)
	c.Era = mcp.EraPlain
	if !c.Regular() || c.Repeatable() {
		t.Errorf("regular %v, repeatable %v; want true, false", c.Regular(), c.Repeatable())
	}
}
