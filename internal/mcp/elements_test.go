package mcp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

func TestElements(t *testing.T) {
	for _, x := range []struct {
		doc     string
		want    []string
		invalid bool // JSON all the same
	}{
		{doc: `[1]`, want: []string{`1`}},
		{doc: " [ {\"a\":[1,2]} ,\n\"x\" , [ ] ] ", want: []string{`{"a":[1,2]}`, `"x"`, `[ ]`}},
		{doc: `[]`, invalid: true},
		{doc: ` { } `, invalid: true},
		{doc: `"x"`, invalid: true},
		{doc: `[1,2,3,4]`, invalid: true},
		{doc: `[1,2,3,4,x]`},
		{doc: `[1,]`}, {doc: `[,1]`}, {doc: `[1 2]`}, {doc: `[1`}, {doc: `[`}, {doc: ``}, {doc: `[1]x`}, {doc: `[]x`}, {doc: `{}x`},
		{doc: `[` + strings.Repeat("[", mcp.MaxDepth) + strings.Repeat("]", mcp.MaxDepth) + `]`, invalid: true},
	} {
		spans, err := mcp.Elements(nil, []byte(x.doc), 3)
		var scan *mcp.ScanError
		switch {
		case x.want != nil && err != nil:
			t.Errorf("%.20q: %v", x.doc, err)
		case x.want == nil && (!errors.As(err, &scan) || scan.Invalid != x.invalid):
			t.Errorf("%.20q: error %v, want one with Invalid %v", x.doc, err, x.invalid)
		case x.want != nil && len(spans) != len(x.want):
			t.Errorf("%.20q: %d elements, want %d", x.doc, len(spans), len(x.want))
		default:
			for i, want := range x.want {
				if got := spans[i].Of([]byte(x.doc)); string(got) != want {
					t.Errorf("%.20q: element %d is %q, want %q", x.doc, i, got, want)
				}
			}
		}
	}
}

// FuzzElements compares with encoding/json, which is laxer in what it takes for UTF-8 and knows no depth of ours.
func FuzzElements(f *testing.F) {
	for _, seed := range []string{`[1]`, ` [ {"a":[1,2]} , "x" ] `, `[]`, `[1,]`, `{}`, `[1]x`, "[\"\xff\"]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		spans, err := mcp.Elements(nil, doc, 1<<20)
		var fault *mcp.ScanError
		if errors.As(err, &fault) {
			if bytes.Count(doc, []byte("["))+bytes.Count(doc, []byte("{")) < 9000 && fault.Invalid != isJSON(tidied(doc)) {
				t.Fatalf("%q: %v", doc, err)
			}
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatalf("taken, but %v", err)
		}
		if len(want) != len(spans) {
			t.Fatalf("%d elements, want %d", len(spans), len(want))
		}
		for i := range want {
			if got := spans[i].Of(doc); !bytes.Equal(got, want[i]) {
				t.Fatalf("element %d is %q, want %q", i, got, want[i])
			}
		}
	})
}
