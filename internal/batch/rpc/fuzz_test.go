package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/mcp"
)

// FuzzArray sends anything as an array and compares what comes back with what encoding/json finds in it.
func FuzzArray(f *testing.F) {
	for _, seed := range []string{
		`[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"b"},{"jsonrpc":"2.0","id":1,"method":"c","params":{}}]`,
		` [ {"jsonrpc":"2.0","id":"\u0031","method":"a"} , 7, null, [], {}, "x" ] `,
		`{"jsonrpc":"2.0","id":null,"method":"a","params":{"_meta":{"progressToken":1}}}`,
		`[{"id":1,"id":2,"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":{},"method":"a"},{"jsonrpc":"2.0","method":7}]`,
		`[{"jsonrpc":"2.0","id":1.0e5,"result":{}},{"jsonrpc":"2.0","error":{}},{"jsonrpc":"1.0","id":"x","method":"m"}]`,
		`[{"jsonrpc":"2.0","id":1,"method":"initialize"},{"params":[],"jsonrpc":"2.0","id":1,"method":"a"}]`,
		`[`, `[]`, `[1,]`, ``, `{`, `7`, `[[[[]]]]`, "[\"\xff\"]", `["\ud800"]`, `[{"jsonrpc":"2.0","id":-0,"method":"a"}]x`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, plain bool) {
		r := newArrayRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
			asScanned(t, c)
			if c.Lane == mcp.LaneNotification {
				return accept202()
			}
			return answerOK(c, "true")
		}, func(o *rpc.Options) { o.Plain = plain })
		status, text, err := r.ask(t.Context(), arrayCall(string(body), modernHeader, modernVer))
		if err != nil { // a notification by itself that is refused
			var single map[string]json.RawMessage
			if json.Unmarshal(body, &single) != nil || single["id"] != nil || single["method"] == nil {
				t.Fatalf("%q: %v", body, err)
			}
			status = 400
		}
		r.close(t)
		compareArray(t, body, status, text, plain)
	})
}

func compareArray(t *testing.T, body []byte, status int, text string, plain bool) {
	var elements []json.RawMessage
	array := json.Unmarshal(body, &elements) == nil && elements != nil
	if text != "" && !json.Valid([]byte(text)) {
		t.Fatalf("%q: the answer is no JSON: %s", body, text)
	}
	switch {
	case status == 400:
		if array && len(elements) > 0 && len(elements) <= 1000 && utf8.Valid(body) && !strings.Contains(string(body), `\u`) && !isDeep(body) {
			t.Fatalf("%q: an array got %s", body, text)
		}
		return
	case !array && (!json.Valid(body) || status == 200 && text[0] == '['):
		t.Fatalf("%q: got %d %s", body, status, text)
	case !array:
		elements = []json.RawMessage{body}
		if status == 200 {
			text = "[" + text + "]"
		}
	}
	var got []map[string]json.RawMessage
	if status == 200 {
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%q: %v in %s", body, err, text)
		}
	}
	compareElements(t, body, elements, got, plain)
}

// compareElements goes through the elements: each but a notification has the next answer, a request of JSON-RPC's one that
// is no refusal.
func compareElements(t *testing.T, body []byte, elements []json.RawMessage, got []map[string]json.RawMessage, plain bool) {
	next := 0
	for _, e := range elements {
		kind, id := classify(e)
		if kind == "notification" {
			continue
		}
		if next == len(got) {
			t.Fatalf("%q: only %d answers", body, next)
		}
		p := got[next]
		next++
		if kind == "request" && !bytes.Equal(p["id"], id) {
			t.Fatalf("%q: the answer to %s has the id %s", body, e, p["id"])
		}
		if refused := p["error"] != nil; refused == (kind == "request") && (plain || !refused) {
			t.Fatalf("%q: %s is a %s and got %v", body, e, kind, p)
		}
	}
	if next != len(got) {
		t.Fatalf("%q: %d answers, want %d", body, len(got), next)
	}
}

// classify says what an element is by encoding/json alone: a request, a notification or nothing valid.
func classify(e []byte) (kind string, id []byte) {
	if !utf8.Valid(e) { // which encoding/json takes
		return "nothing", nil
	}
	d := json.NewDecoder(bytes.NewReader(e))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return "nothing", nil
	}
	member := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "nothing", nil
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return "nothing", nil
		}
		switch name := name.(string); name {
		case "jsonrpc", "id", "method", "params", "result", "error":
			if member[name] != nil {
				return "nothing", nil
			}
			member[name] = value
		}
	}
	var version, method string
	id, params := member["id"], member["params"]
	switch {
	case json.Unmarshal(member["jsonrpc"], &version) != nil || version != "2.0" || isNullToken(member["jsonrpc"]):
	case json.Unmarshal(member["method"], &method) != nil || isNullToken(member["method"]):
	case member["result"] != nil || member["error"] != nil:
	case params != nil && params[0] != '{' && params[0] != '[':
	case id != nil && strings.ContainsRune("{[tf", rune(id[0])):
	case id == nil:
		return "notification", nil
	default:
		return "request", id
	}
	return "nothing", nil
}

func isNullToken(b []byte) bool { return string(b) == "null" }

// isDeep reports whether there may be more levels than mcp.MaxDepth.
func isDeep(body []byte) bool {
	return bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) >= mcp.MaxDepth
}
