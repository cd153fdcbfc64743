package mcp_test

import (
	"fmt"
	"testing"

	"fluentd-perf/internal/mcp"
)

func TestText(t *testing.T) {
	tests := []struct {
		token, want string
		ok          bool
	}{
		{`""`, "", true},
		{`"plain"`, "plain", true},
		{`"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t", true},
		{`"a\u0000b\u00E9\u4e16\ud83d\ude00z"`, "a\x00bé世😀z", true},
		{`"é世😀"`, "é世😀", true},
		{``, "", false},
		{`"`, "", false},
		{`"a`, "", false},
		{`a"`, "", false},
		{`"a"b`, "", false},
		{`"a" `, "", false},
		{`"\"`, "", false},
		{`"\x"`, "", false},
		{`"\ud800"`, "", false},
		{"\"\xff\"", "", false},
		{"\"\n\"", "", false},
		{`1`, "", false},
		{`null`, "", false},
	}
	for _, tt := range tests {
		got, ok := mcp.Text([]byte(tt.token))
		if got != tt.want || ok != tt.ok {
			t.Errorf("Text(%s) = %q, %v", tt.token, got, ok)
		}
		if is := mcp.TextIs([]byte(tt.token), tt.want); is != tt.ok {
			t.Errorf("TextIs(%s, %q) = %v", tt.token, tt.want, is)
		}
		for _, other := range []string{tt.want + "x", "x" + tt.want, "y"} {
			if mcp.TextIs([]byte(tt.token), other) {
				t.Errorf("TextIs(%s, %q)", tt.token, other)
			}
		}
		if n := len(tt.want); n > 0 && mcp.TextIs([]byte(tt.token), tt.want[:n-1]) {
			t.Errorf("TextIs(%s, %q)", tt.token, tt.want[:n-1])
		}
	}
}

// FuzzText compares with jsontext. What is no Unicode is no text, and is let alone in Scan: as a name and as a value.
func FuzzText(f *testing.F) {
	for _, bad := range noUnicode {
		f.Add([]byte(`"` + bad + `"`))
	}
	f.Add([]byte(`"a\u0061\ud83d\ude00\n"`))
	f.Add([]byte(`"\ud83d\u0061"`))
	f.Fuzz(func(t *testing.T, token []byte) {
		got, ok := mcp.Text(token)
		want := len(token) > 1 && token[0] == '"' && token[len(token)-1] == '"' && isJSON(token)
		if ok != want || ok && got != decoded(token) {
			t.Errorf("Text(%q) = %q, %v", token, got, ok)
		}
		if mcp.TextIs(token, got) != ok {
			t.Errorf("TextIs(%q, %q) = %v", token, got, !ok)
		}
		agree(t, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%[1]s,"params":{%[1]s:1,"_meta":{%[1]s:%[1]s}},"id":%[1]s}`, token))
	})
}
