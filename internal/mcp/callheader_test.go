package mcp

import (
	"encoding/json"
	"fmt"
	"testing"

	"fluentd-perf/internal/http1/header"
)

// TestHeaderValue holds the two forms of a text in a header field, and that each is read back. What only looks like base64
// stays as it is.
func TestHeaderValue(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "",
		"get_weather":      "get_weather",
		"a b~":             "a b~",
		" a":               "=?base64?IGE=?=",
		"a ":               "=?base64?YSA=?=",
		"a\nb":             "=?base64?YQpi?=",
		"\u00fc":           "=?base64?w7w=?=",
		"\x7f":             "=?base64?fw==?=",
		"\xff":             "=?base64?/w==?=",
		"=?base64?eHg=?=":  "=?base64?PT9iYXNlNjQ/ZUhnPT89?=",
		"=?base64?":        "=?base64?",
		"=?base64?no end":  "=?base64?no end",
		"no beginning?=":   "no beginning?=",
		"=?BASE64?eHg=?= ": "=?base64?PT9CQVNFNjQ/ZUhnPT89IA==?=",
	} {
		if got := HeaderValue(text); got != want {
			t.Errorf("HeaderValue(%q) = %q, want %q", text, got, want)
		}
		if got := HeaderText(want); got != text {
			t.Errorf("HeaderText(%q) = %q, want %q", want, got, text)
		}
	}
	for _, value := range []string{"=?base64?!?=", "=?base64?eHg?=", "=?base64?eHh=?=", "=?base64?="} {
		if got := HeaderText(value); got != value {
			t.Errorf("HeaderText(%q) = %q, want it as it is", value, got)
		}
	}
}

// TestNamed holds which requests have an Mcp-Name, and of what.
func TestNamed(t *testing.T) {
	for _, x := range []struct {
		method, params, want string
		ok                   bool
	}{
		{"tools/call", `{"name":"t","uri":"u"}`, `"t"`, true},
		{"prompts/get", `{"name":"p"}`, `"p"`, true},
		{"resources/read", `{"name":"n","uri":"u"}`, `"u"`, true},
		{"tools/call", `{}`, "", true},
		{"tools/list", `{"name":"t"}`, "", false},
		{"x/y", `{"name":"t"}`, "", false},
	} {
		b := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, x.method, x.params)
		var m Message
		if err := Scan(b, &m); err != nil {
			t.Fatal(err)
		}
		if at, ok := m.Named(); ok != x.ok || string(at.Of(b)) != x.want {
			t.Errorf("%s: %s, %v; want %s, %v", b, at.Of(b), ok, x.want, x.ok)
		}
	}
}

// TestParamHeaders holds which arguments have headers, and the text of each.
func TestParamHeaders(t *testing.T) {
	const marked = `{"properties":{"s":{"type":"string","x-mcp-header":"S"},"n":{"type":"integer","x-mcp-header":"N"},
		"o":{"type":"object","properties":{"b":{"type":"boolean","x-mcp-header":"Deep-b"}}},
		"l":{"type":"array","items":{"properties":{"x":{"type":"string","x-mcp-header":"Never"}}}}}}`
	for _, x := range []struct{ schema, arguments, want string }{
		{marked, `{"s":"x","n":7,"o":{"b":true},"l":[{"x":"y"}]}`, "map[Mcp-Param-Deep-B:[true] Mcp-Param-N:[7] Mcp-Param-S:[x]]"},
		{marked, `{"s":" x","n":1.0e3,"o":{"b":false}}`, "map[Mcp-Param-Deep-B:[false] Mcp-Param-N:[1000] Mcp-Param-S:[=?base64?IHg=?=]]"},
		{marked, `{"s":null,"n":1.5,"o":null}`, "map[]"},
		{marked, `{"s":{},"n":9007199254740993.0,"o":[]}`, "map[]"},
		{marked, `{"n":9007199254740993}`, "map[Mcp-Param-N:[9007199254740993]]"},
		{marked, `{"n":-9007199254740991.0}`, "map[Mcp-Param-N:[-9007199254740991]]"},
		{marked, `{"n":1e999}`, "map[]"},
		{marked, `{"s":"\ud83d"}`, "map[]"},
		{marked, `7`, "map[]"},
		{`null`, `{"s":"x"}`, "map[]"},
		{`{"properties":{"s":{"type":"number","x-mcp-header":"S"}}}`, `{"s":1}`, "map[]"},
		{`{"properties":{"s":{"type":"string","x-mcp-header":"a b"}}}`, `{"s":"x"}`, "map[]"},
		{`{"properties":{"s":{"type":"string","x-mcp-header":""}}}`, `{"s":"x"}`, "map[]"},
		{`{"properties":{"s":{"type":"string","x-mcp-header":7}}}`, `{"s":"x"}`, "map[]"},
		{`{"properties":{"s":{"type":"string","x-mcp-header":"A"},"t":{"type":"string","x-mcp-header":"a"}}}`, `{"s":"x","t":"y"}`, "map[]"},
	} {
		var p ParamHeaders
		if err := json.Unmarshal([]byte(x.schema), &p); err != nil {
			t.Fatal(err)
		}
		var l header.List
		p.Set(&l, []byte(`{"name":"t","arguments":`+x.arguments+`}`))
		h := map[string][]string{}
		for _, f := range l {
			h[f.Name] = append(h[f.Name], f.Value)
		}
		if got := fmt.Sprint(h); got != x.want {
			t.Errorf("%s in a call with %s: %s, want %s", x.schema, x.arguments, got, x.want)
		}
	}
	var p ParamHeaders
	if err := json.Unmarshal([]byte(`{"properties":[]}`), &p); err == nil {
		t.Error("a schema that is none is read")
	}
}

// TestIsParamHeader: in any case of letters, and also where it names no argument.
func TestIsParamHeader(t *testing.T) {
	for name, want := range map[string]bool{"Mcp-Param-X": true, "mcp-param-x": true, "Mcp-Param-": true, "Mcp-Param": false, "X-Mcp-Param-X": false} {
		if got := IsParamHeader(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
