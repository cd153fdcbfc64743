package sqlite_test

import (
	"testing"

	"fluentd-perf/internal/cache/tier/tiertest"
)

func TestTrustsNoValue(t *testing.T) {
	dir := t.TempDir()
	held := open(t, at(dir))
	tiertest.RunPlanted(t, held, func(value []byte) { alter(t, dir+"/cache.db", "UPDATE entries SET value = ?", value) })
}

// TestTrustsNoToken plants tokens.
func TestTrustsNoToken(t *testing.T) {
	dir := t.TempDir()
	held := open(t, at(dir))
	kept, zero, old := newEntry(), newEntry(), newEntry()
	for _, e := range []entry{kept, zero, old} {
		store(t, held, e, []byte("kept"))
	}
	closeTier(t, held)
	path := dir + "/cache.db"
	alter(t, path, "UPDATE tokens SET token = 0 WHERE generation = ?", zero.Generation[:])
	alter(t, path, "UPDATE tokens SET used = 1 WHERE generation = ?", old.Generation[:])
	alter(t, path, "INSERT INTO tokens VALUES (x'', 1, 9e15), (x'01', 1, 1e10), ('text', 'text', 1e10), (x'02', 1, 'text'), (zeroblob(5000000), 1, 1e10)")
	held = open(t, at(dir))
	defer closeTier(t, held)
	wantValue(t, held, kept, "kept")
	for _, e := range []entry{zero, old} {
		wantNone(t, held, e)
		if _, token := read(t, held, e); token == 0 {
			t.Error("a token of 0")
		}
		store(t, held, e, []byte("new"))
		wantValue(t, held, e, "new")
	}
}
