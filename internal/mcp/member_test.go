package mcp_test

import (
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

func TestMember(t *testing.T) {
	long := strings.Repeat("very long ", 20)
	tests := []struct {
		doc, name, want string // want "!" for an error
	}{
		{`{}`, "a", ``},
		{`{"a":1}`, "a", `1`},
		{"\n{ \"a\" : [ 1, 2 ] }\n", "a", `[ 1, 2 ]`},
		{`{"b":{"a":2},"a":{"a":3}}`, "a", `{"a":3}`},
		{`{"b":{"a":2}}`, "a", ``},
		{`{"A":1}`, "a", ``},
		{`{"\u0061":"x"}`, "a", `"x"`},
		{`{"":0}`, "", `0`},
		{`{"b":0}`, "", ``},
		{`{"` + long + `":0}`, long, `0`},
		{`{"` + escapeAll(long) + `":0}`, long, `0`},
		{`{"` + escapeAll(long) + `":0}`, "", ``},
		{`{"a":1,"b":2,"b":3}`, "a", `1`},
		{`{"a":1,"a":1}`, "a", `!`},
		{`{"a":1,"\u0061":2}`, "a", `!`},
		{`{"a":1,"a":1}`, "b", ``},
		{`{"jsonrpc":1,"jsonrpc":2,"x":1}`, "x", `1`},
		{`{"a":1`, "a", `!`},
		{`{"a":1}}`, "a", `!`},
		{`{"a":1,}`, "a", `!`},
		{"{\"a\":1,\"b\":\"\xff\"}", "a", `1`},
		{"{\"a\xff\":1,\"\xff\":2,\"a\":3}", "a", `3`},
		{`{"a\ud800":1,"a":"\udc00"}`, "a", `"\udc00"`},
		{`{"\ud800":1}`, "\ufffd", ``},
		{"{\"a\xff\":1}", "a\xff", ``},
		{`{"\ud800":1,"\ud800":2}`, "a", ``},
		{"\xef\xbb\xbf{\"a\":1}", "a", `!`},
		{`[{"a":1}]`, "a", `!`},
		{`"a"`, "a", `!`},
		{``, "a", `!`},
		{`{"a":` + strings.Repeat("[", mcp.MaxDepth) + strings.Repeat("]", mcp.MaxDepth) + `}`, "a", `!`},
	}
	for _, tt := range tests {
		span, err := mcp.Member([]byte(tt.doc), tt.name)
		if _, ok := err.(*mcp.ScanError); err != nil && !ok {
			t.Errorf("%s: error %v is no ScanError", brief(tt.doc), err)
		}
		if (err != nil) != (tt.want == `!`) {
			t.Errorf("%s: error %v", brief(tt.doc), err)
		} else if got := string(span.Of([]byte(tt.doc))); err == nil && got != tt.want {
			t.Errorf("Member(%s, %q) = %s", brief(tt.doc), tt.name, got)
		}
	}
}

func FuzzMember(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"a":2},"\u0061b":[]}`), "a")
	f.Add([]byte(`{"resource":"https://example.com/mcp"}`), "resource")
	f.Fuzz(func(t *testing.T, doc []byte, name string) {
		got, err := mcp.Member(doc, name)
		trimmed := strings.Trim(string(doc), " \t\r\n")
		if strings.Count(trimmed, "[")+strings.Count(trimmed, "{") > 1000 || strings.ContainsAny(name, "?\ufffd") {
			return // too deep, or the name could be one that tidied has made
		}
		tidy := tidied(doc)
		if !isJSON(tidy) || trimmed[0] != '{' {
			if err == nil {
				t.Fatalf("%q: no error", doc)
			}
			return
		}
		var want mcp.Span
		twice, _ := sort(entries(tidy, mcp.Span{End: uint32(len(doc))}), map[string]*mcp.Span{name: &want})
		if (err != nil) != (len(twice) > 0) {
			t.Fatalf("Member(%q, %q): %v", doc, name, err)
		}
		if err == nil && got != want {
			t.Fatalf("Member(%q, %q) = %v, want %v", doc, name, got, want)
		}
	})
}
