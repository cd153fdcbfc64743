package mcp

import (
	"math"
	"strconv"
	"testing"
)

// TestIDs: ids are integers that every double holds, none twice, and are found in text, as numbers of their own.
func TestIDs(t *testing.T) {
	d, other := NewIDs(), NewIDs()
	if d.first == other.first {
		t.Error("two begin at the same number")
	}
	seen := map[string]bool{}
	for range 1000 {
		id := string(d.Next())
		n, err := strconv.ParseUint(id, 10, 64)
		if err != nil || n >= 1<<53 || uint64(float64(n)) != n || seen[id] || len(id) != idDigits {
			t.Fatalf("%s: %v, seen %v", id, err, seen[id])
		}
		seen[id] = true
		for text, want := range map[string]bool{
			`{"id":` + id + `}`: true, `the request ` + id: true, id: true, id + ".0": true, `"` + id + `"`: true,
			"1" + id: false, id + "1": false, id[1:]: false, "": false, `{"id":1}`: false, string(other.Next()): false,
		} {
			if d.Named([]byte(text)) != want {
				t.Errorf("%q names one: %v", text, !want)
			}
		}
	}
	if next := strconv.FormatUint(d.last.Load()+1, 10); d.Named([]byte(next)) {
		t.Error("an id that was not given out is named")
	}
	if lowestID+2*idRoom > 1<<53 || math.Log10(lowestID) < idDigits-1 {
		t.Error("an id may have another length, or be no double's")
	}
}
