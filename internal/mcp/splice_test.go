package mcp

import (
	"reflect"
	"strings"
	"testing"
)

// TestSpansComplete: a span that is added to Message and forgotten here would point beside its value.
func TestSpansComplete(t *testing.T) {
	var m Message
	listed := map[*Span]bool{}
	for _, s := range m.spans() {
		listed[s] = true
	}
	fields := reflect.ValueOf(&m).Elem()
	for i := range fields.NumField() {
		if s, ok := fields.Field(i).Addr().Interface().(*Span); ok && !listed[s] {
			t.Errorf("spans does not list Message.%s", fields.Type().Field(i).Name)
		}
	}
}

// FuzzSplice puts another id into any message: what Splice makes of the spans is what a scan finds.
func FuzzSplice(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":1},"cursor":"c"}}`), uint32(12345))
	f.Add([]byte(` {"result":{"ttlMs":1,"cacheScope":"public","isError":false},"id":"a long one","jsonrpc":"2.0"} `), uint32(0))
	f.Add([]byte(`{"error":{"code":-1},"jsonrpc":"2.0","id":-1.5e3}`), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, number uint32) {
		var m, want Message
		if Scan(b, &m) != nil || isNullID(m.ID.Of(b)) {
			return
		}
		id := NewIDs().Next()
		if number%2 == 0 {
			id = []byte(`"` + strings.Repeat("y", int(number%64)) + `"`)
		}
		moved := m.Splice(nil, b, m.ID, id)
		if err := Scan(moved, &want); err != nil {
			t.Fatalf("%q became %q: %v", b, moved, err)
		}
		if m != want {
			t.Errorf("in %q the spans are %+v, want %+v", moved, m, want)
		}
		if string(m.ID.Of(moved)) != string(id) {
			t.Errorf("the id is %s, want %s", m.ID.Of(moved), id)
		}
	})
}
