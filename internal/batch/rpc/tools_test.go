package rpc_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

// paramTools are two pages of tools; those of the second are marked in ways that are not allowed.
const paramTools = `{"name":"plain","inputSchema":{"type":"object","properties":{"a":{"type":"string"}}}},
{"name":"marked","inputSchema":{"type":"object","properties":{
"region":{"type":"string","x-mcp-header":"Region"},
"n":{"type":"integer","x-mcp-header":"n"},"yes":{"type":"boolean","x-mcp-header":"YES"},
"deep":{"type":"object","properties":{"er":{"type":"string","x-mcp-header":"Deep-Er"}}},
"list":{"type":"array","items":{"type":"object","properties":{"x":{"type":"string","x-mcp-header":"never"}}}}}}}` +
	"\n" + `{"name":"number","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"number","x-mcp-header":"B"}}}},` +
	`{"name":"twice","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}},` +
	`{"name":"no name","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}},` +
	`{"name":"last","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`

func oneLine(s string) string { // the pages are parted by the newline before the second
	first, second, _ := strings.Cut(s, "\n{\"name\":\"number\"")
	return strings.ReplaceAll(first, "\n", "") + "\n{\"name\":\"number\"" + second
}

func sentinel(s string) string {
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

// TestArrayHeaders derives Mcp-Name and Mcp-Param-* for each element.
func TestArrayHeaders(t *testing.T) {
	s := &eraServer{modern: true, tools: oneLine(paramTools)}
	r := newArrayRig(s.call, nil)
	call := func(tool, arguments string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q%s}}`, tool, arguments)
	}
	var elements []string
	var want []map[string]string
	add := func(element string, fields ...string) {
		mark := fmt.Sprintf(`"params":{"i":"%d",`, len(elements))
		elements = append(elements, strings.Replace(element, `"params":{`, mark, 1))
		w := map[string]string{}
		for i := 0; i < len(fields); i += 2 {
			w[fields[i]] = fields[i+1]
		}
		want = append(want, w)
	}
	add(call("plain", `,"arguments":{"a":"x"}`), "Mcp-Name", "plain")
	add(call("marked", ``), "Mcp-Name", "marked")
	add(call("marked", `,"arguments":{"region":"eu","n":7,"yes":true,"deep":{"er":"down"},"list":[{"x":"y"}]}`), "Mcp-Name", "marked",
		"Mcp-Param-Region", "eu", "Mcp-Param-N", "7", "Mcp-Param-Yes", "true", "Mcp-Param-Deep-Er", "down")
	add(call("marked", `,"arguments":{"region":" eu","n":1.0e3,"yes":false,"deep":null}`), "Mcp-Name", "marked",
		"Mcp-Param-Region", sentinel(" eu"), "Mcp-Param-N", "1000", "Mcp-Param-Yes", "false")
	add(call("marked", `,"arguments":{"region":"\u00fc","n":1.5,"yes":null,"deep":{"er":"a b"}}`), "Mcp-Name", "marked",
		"Mcp-Param-Region", sentinel("ü"), "Mcp-Param-Deep-Er", "a b")
	add(call("marked", `,"arguments":{"region":"=?base64?eHg=?=","n":-9007199254740991}`), "Mcp-Name", "marked",
		"Mcp-Param-Region", sentinel("=?base64?eHg=?="), "Mcp-Param-N", "-9007199254740991")
	add(call("marked", `,"arguments":{"region":"","n":9007199254740993}`), "Mcp-Name", "marked", "Mcp-Param-Region", "",
		"Mcp-Param-N", "9007199254740993")
	add(call("number", `,"arguments":{"a":"x","b":1}`), "Mcp-Name", "number")
	add(call("twice", `,"arguments":{"a":"x","b":"y"}`), "Mcp-Name", "twice")
	add(call("no name", `,"arguments":{"a":"x"}`), "Mcp-Name", "no name")
	add(call("last", `,"arguments":{"a":"x\ny"}`), "Mcp-Name", "last", "Mcp-Param-A", sentinel("x\ny"))
	add(`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"Grüße"}}`, "Mcp-Name", sentinel("Grüße"))
	add(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a"}}`, "Mcp-Name", "file:///a")
	add(`{"jsonrpc":"2.0","id":1,"method":"prompts/list","params":{"cursor":"c"}}`)
	r.answers(t, t.Context(), joinElements(elements), "Mcp-Param-Region", "nonsense", "Mcp-Name", "nonsense")
	byNumber := map[string]*mcp.Call{}
	for _, c := range r.sent("") {
		byNumber[textParam(c, "i")] = c
	}
	for i, element := range elements {
		c := byNumber[fmt.Sprint(i)]
		for _, f := range c.Header {
			if w, ok := want[i][f.Name]; (f.Name == "Mcp-Name" || strings.HasPrefix(f.Name, "Mcp-Param-")) && (!ok || f.Value != w) {
				t.Errorf("%s went out with %s: %q, want %q (%v)", element, f.Name, f.Value, w, ok)
			}
		}
		for name, w := range want[i] {
			if got := slices.Collect(c.Header.Values(name)); len(got) != 1 || got[0] != w {
				t.Errorf("%s went out with %s %q, want %q", element, name, got, w)
			}
		}
		if c.Mismatch {
			t.Errorf("%s: a mismatch", element)
		}
	}
	if n := len(r.sent("tools/list")); n != 2 {
		t.Errorf("%d pages were asked for, want 2", n)
	}
	s.blameless(t)
	r.close(t)
}

// TestArrayHeaderMismatch asks for the tools again when the server finds the headers wrong, and calls once more.
func TestArrayHeaderMismatch(t *testing.T) {
	s := &eraServer{modern: true, tools: `{"name":"t","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"Old"}}}}`}
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Method() == mcp.MethodToolsCall && (c.Header.Get("Mcp-Param-New") != "x" && strings.Contains(s.tools, "New") || strings.Contains(s.tools, "Newest")) {
			return whole(400, errorBody(c, -32020, "header mismatch")), nil
		}
		return s.call(ctx, c)
	}, nil)
	body := `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":"x"}}}]`
	wantReplies(t, r.answers(t, t.Context(), body), `1: "2026-07-28"`)
	s.tools = strings.Replace(s.tools, "Old", "New", 1)
	wantReplies(t, r.answers(t, t.Context(), body), `1: "2026-07-28"`)
	if n := len(r.sent("tools/list")); n != 2 || len(s.ran) != 2 {
		t.Errorf("%d lists and %d runs, want 2 and 2", n, len(s.ran))
	}
	s.tools = strings.Replace(s.tools, "New", "Newest and New", 1) // which is no name of a header
	wantReplies(t, r.answers(t, t.Context(), body), "1: error -32020 , sent ")
	r.close(t)
}

// TestArrayToolsFail calls without headers where there is no list, and does not ask for it with every element.
func TestArrayToolsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lists := 0
		r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if c.Method() != mcp.MethodToolsList {
				return answerOK(c, "1")
			}
			if lists++; lists == 1 {
				panic("planted")
			}
			return nil, after(ctx, time.Hour)
		}, nil)
		body := joinElements(repeat(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`, 100))
		for range 2 {
			if got := r.answers(t, t.Context(), body, modernHeader, modernVer); got[99].String() != "1: 1" {
				t.Errorf("the last answer is %v", got[99])
			}
		}
		if lists != 1 {
			t.Errorf("%d lists were asked for, want 1", lists)
		}
		<-time.After(6 * time.Second)
		start := time.Now()
		r.answers(t, t.Context(), body, modernHeader, modernVer)
		if took := time.Since(start); took != 15*time.Second || lists != 2 {
			t.Errorf("a list that does not come held the array for %v, and %d were asked for", took, lists)
		}
		r.close(t)
	})
}
