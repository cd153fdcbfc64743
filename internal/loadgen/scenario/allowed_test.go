package scenario_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/scenario"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"

	"go.uber.org/goleak"
)

// ownServer is the argument of this binary where it is to be the scripted server.
const ownServer = "own-server"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == ownServer {
		if err := scenario.ServeOwn("", os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// TestOnThisMachine tells this machine's addresses from others.
func TestOnThisMachine(t *testing.T) {
	own := map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "localhost": true, "::1": true, "[::1]": true, "::ffff:127.0.0.1": true,
		"192.0.2.1": false, "8.8.8.8": false, "2001:db8::1": false, "0.0.0.0": false, "::ffff:192.0.2.1": false,
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		own[strings.Split(a.String(), "/")[0]] = true
	}
	for host, want := range own {
		if got, err := scenario.OnThisMachine(t.Context(), host); err != nil || got != want {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	if _, err := scenario.OnThisMachine(t.Context(), "no such name.invalid"); err == nil {
		t.Error("a name that there is not is somewhere")
	}
}

// toolsServer is a server with tools on two pages. It speaks the eras that it is told.
func toolsServer(t *testing.T, modern, legacy bool) *loadgen.Target {
	t.Helper()
	const schema = `{"type":"object","required":["query","limit","deep","kind"],"properties":{"query":{"type":["null","string"],"minLength":12},` +
		`"limit":{"type":"integer","minimum":3},"optional":{"type":"string"},"kind":{"enum":["b","a"]},` +
		`"deep":{"type":"object","required":["list"],"properties":{"list":{"type":"array","minItems":1,"items":{"type":"boolean"}}}}}}`
	pages := map[bool]string{
		false: `{"tools":[{"name":"read","inputSchema":` + schema + `,"annotations":{"readOnlyHint":true}},{"name":"odd","inputSchema":{"properties":[]}}],"nextCursor":"2"}`,
		true:  `{"tools":[{"name":"write","inputSchema":` + schema + `},{"name":"bare","inputSchema":{"type":"object"}},{"name":"requires","inputSchema":{"required":["path"]}}]}`,
	}
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		body := string(x.Body)
		isModern := x.Get("Mcp-Method") != ""
		switch {
		case isModern && !modern, !isModern && !legacy:
			x.JSON(`{"jsonrpc":"2.0","id":` + x.ID() + `,"error":{"code":-32601,"message":"no"}}`)
		case x.ID() == "":
			x.Accept()
		case x.Method() == "initialize":
			x.Result(`{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}`)
		case x.Method() == "ping": // there are servers that do not know it
			x.JSON(`{"jsonrpc":"2.0","id":` + x.ID() + `,"error":{"code":-32601,"message":"no"}}`)
		case x.Method() == "tools/list":
			x.Result(pages[strings.Contains(body, `"cursor":"2"`)])
		case x.Method() == "tools/call":
			t.Error("a tool is called")
			x.Result(mcptest.ToolResult)
		default:
			x.Result("{}")
		}
	})
	target, err := loadgen.NewTarget("http://"+s.Addr()+"/mcp", "")
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// TestDetectEra asks a server in both.
func TestDetectEra(t *testing.T) {
	for _, c := range []struct {
		modern, legacy bool
		era            mcp.Era
	}{{true, true, mcp.EraModern}, {true, false, mcp.EraModern}, {false, true, mcp.EraLegacy}} {
		if era, err := scenario.DetectEra(t.Context(), toolsServer(t, c.modern, c.legacy)); err != nil || era != c.era {
			t.Errorf("%+v: %v, %v", c, era, err)
		}
	}
	if _, err := scenario.DetectEra(t.Context(), toolsServer(t, false, false)); err == nil {
		t.Error("a server that answers in no era has one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := scenario.DetectEra(ctx, toolsServer(t, true, true)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestChoice makes arguments up only where it may, and never calls a tool for it.
func TestChoice(t *testing.T) {
	const made = `{"deep":{"list":[false]},"kind":"b","limit":3,"query":"benchmarkxxx"}`
	target := toolsServer(t, true, true)
	for name, c := range map[string]struct {
		choice scenario.Choice
		params string // "": an error
		err    string
	}{
		"nothing":               {scenario.Choice{}, "tools/list", ""},
		"given":                 {scenario.Choice{Tool: "write", Arguments: `{"a":1}`}, `"name":"write","arguments":{"a":1}`, ""},
		"no JSON":               {scenario.Choice{Tool: "write", Arguments: `{"a":`}, "", "no JSON object"},
		"no object":             {scenario.Choice{Tool: "write", Arguments: `null`}, "", "no JSON object"},
		"made up, it reads":     {scenario.Choice{Tool: "read"}, `"name":"read","arguments":` + made, ""},
		"made up, it may write": {scenario.Choice{Tool: "write"}, "", "does not say that it only reads"},
		"made up, by leave":     {scenario.Choice{Tool: "write", Generate: true}, `"name":"write","arguments":` + made, ""},
		"none to make up":       {scenario.Choice{Tool: "bare"}, `"name":"bare","arguments":{}`, ""},
		"required, no property": {scenario.Choice{Tool: "requires"}, "", "does not say that it only reads"},
		"the same, by leave":    {scenario.Choice{Tool: "requires", Generate: true}, `"name":"requires","arguments":{"path":"benchmark"}`, ""},
		"no such tool":          {scenario.Choice{Tool: "other"}, "", "it has read, odd, write, bare, requires"},
		"a schema that is none": {scenario.Choice{Tool: "odd", Generate: true}, "", "inputSchema"},
	} {
		k, err := c.choice.Kind(t.Context(), target)
		switch {
		case c.params == "tools/list":
			if err != nil || k.Method != "tools/list" {
				t.Errorf("%s: %+v, %v", name, k, err)
			}
		case c.params != "":
			if err != nil || k.Params != c.params || k.Method != "tools/call" || k.Tool != c.choice.Tool {
				t.Errorf("%s: %+v, %v, want %s", name, k, err, c.params)
			}
		case err == nil || !strings.Contains(err.Error(), c.err):
			t.Errorf("%s: %+v, %v, want %q", name, k, err, c.err)
		}
	}
}

// TestChoiceWithoutArguments: a tool that does not say that it only reads is called with an empty object only where its schema is that of a
// tool without arguments.
func TestChoiceWithoutArguments(t *testing.T) {
	for schema, want := range map[string]bool{
		`{"type":"object"}`: true,
		`{"type":"object","properties":{},"required":[],"additionalProperties":false}`:                                         true,
		`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","title":"none","description":"takes none"}`: true,
		`{"type":"object","$ref":"#/$defs/a","$defs":{"a":{"required":["path"]}}}`:                                             false,
		`{"type":"object","anyOf":[{"required":["path"]},{"required":["url"]}]}`:                                               false,
		`{"type":"object","allOf":[{"required":["path"]}]}`:                                                                    false,
		`{"type":"object","oneOf":[{"required":["path"]}]}`:                                                                    false,
		`{"type":"object","minProperties":1}`:                                                                                  false,
		`{"type":"object","if":{},"then":{"required":["path"]}}`:                                                               false,
		`{"type":"object","additionalProperties":{"type":"string"}}`:                                                           false,
		`{"type":"object","properties":{"path":{"type":"string"}}}`:                                                            false,
		`{"type":["object","null"]}`:                                                                                           false,
		`{}`:                                                                                                                   false,
	} {
		s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
			if x.Method() != "tools/list" {
				t.Errorf("%s is called", x.Method())
			}
			x.Result(`{"tools":[{"name":"tool","inputSchema":` + schema + `}]}`)
		})
		target, err := loadgen.NewTarget("http://"+s.Addr()+"/mcp", "")
		if err != nil {
			t.Fatal(err)
		}
		k, err := scenario.Choice{Tool: "tool"}.Kind(t.Context(), target)
		if want && (err != nil || k.Params != `"name":"tool","arguments":{}`) || !want && !errors.Is(err, scenario.ErrArguments) {
			t.Errorf("%s: %+v, %v", schema, k, err)
		}
	}
}

// TestValidate names what options cannot be together.
func TestValidate(t *testing.T) {
	endpoint := new(scenario.Endpoint)
	for want, o := range map[string]scenario.Options{
		"no scenario":    {Scenario: "fastest"},
		"own server":     {Scenario: "cache", Server: endpoint},
		"leave --daemon": {Scenario: "targets", Daemon: endpoint},
		"--direct":       {Scenario: "coalesce", NoDaemon: true},
		"negative":       {Scenario: "sessions", Rounds: -1},
		"give one":       {Scenario: "sessions", Requests: 1, Duration: 1e9},
		"too short":      {Scenario: "sessions", Duration: 1},
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	for _, name := range scenario.Names() {
		if err := (&scenario.Options{Scenario: name}).Validate(); err != nil || !strings.Contains(scenario.Help(), "  "+name+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
