package batch

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

// TestSpansComplete: a span that is added to Message and forgotten here would point beside its value.
func TestSpansComplete(t *testing.T) {
	var m mcp.Message
	listed := map[*mcp.Span]bool{}
	for _, s := range spans(&m) {
		listed[s] = true
	}
	fields := reflect.ValueOf(&m).Elem()
	for i := range fields.NumField() {
		if s, ok := fields.Field(i).Addr().Interface().(*mcp.Span); ok && !listed[s] {
			t.Errorf("spans does not list Message.%s", fields.Type().Field(i).Name)
		}
	}
}

// FuzzMove puts another id into any message: what move makes of the spans is what a scan finds.
func FuzzMove(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"progressToken":1},"cursor":"c"}}`), uint32(12345))
	f.Add([]byte(` {"result":{"ttlMs":1,"cacheScope":"public","isError":false},"id":"a long one","jsonrpc":"2.0"} `), uint32(0))
	f.Add([]byte(`{"error":{"code":-1},"jsonrpc":"2.0","id":-1.5e3}`), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, number uint32) {
		var m, want mcp.Message
		if mcp.Scan(b, &m) != nil || !namesCall(&m, b) {
			return
		}
		var own ids
		own.init()
		id := own.next()
		if number%2 == 0 {
			id = []byte(`"` + strings.Repeat("y", int(number%64)) + `"`)
		}
		moved := splice(nil, b, m.ID, id)
		move(&m, m.ID, len(id))
		if err := mcp.Scan(moved, &want); err != nil {
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

// TestOwnIDs: ids are integers that every double holds, none twice, and are found in text, as numbers of their own.
func TestOwnIDs(t *testing.T) {
	var d, other ids
	d.init()
	other.init()
	if d.first == other.first {
		t.Error("two begin at the same number")
	}
	seen := map[string]bool{}
	for range 1000 {
		id := string(d.next())
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil || n >= 1<<53 || uint64(float64(n)) != n || seen[id] || len(id) != idDigits {
			t.Fatalf("%s: %v, seen %v", id, err, seen[id])
		}
		seen[id] = true
		for text, want := range map[string]bool{
			`{"id":` + id + `}`: true, `the request ` + id: true, id: true, id + ".0": true, `"` + id + `"`: true,
			"1" + id: false, id + "1": false, id[1:]: false, "": false, `{"id":1}`: false, string(other.next()): false,
		} {
			if d.named([]byte(text)) != want {
				t.Errorf("%q names one: %v", text, !want)
			}
		}
	}
	if next := strconv.FormatUint(d.last.Load()+1, 10); d.named([]byte(next)) {
		t.Error("an id that was not given out is named")
	}
	if lowestID+2*idRoom > 1<<53 || math.Log10(lowestID) < idDigits-1 {
		t.Error("an id may have another length, or be no double's")
	}
}
