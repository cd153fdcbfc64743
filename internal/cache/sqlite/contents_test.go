package sqlite_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqlite"
	"fluentd-perf/internal/cache/tier"
)

// TestAsksOnlyForWhatItHas: a read of keys that the file does not have asks no connection, and what the file has is
// counted as it comes and goes, over a restart too.
func TestAsksOnlyForWhatItHas(t *testing.T) {
	dir := t.TempDir()
	held := open(t, at(dir))
	kept, gone, evicted := newEntry(), newEntry(), newEntry()
	calls := func(f func()) int64 {
		before := held.Calls()
		f()
		return held.Calls() - before
	}
	for _, e := range []entry{kept, gone, evicted} {
		if n := calls(func() { wantNone(t, held, e) }); n != 0 {
			t.Errorf("%d calls for what is not there", n)
		}
		store(t, held, e, []byte("there"))
		store(t, held, e, []byte("there again"))
	}
	if held := held.Holds(); held.Entries != 3 {
		t.Errorf("holds %+v", held)
	}
	if n := calls(func() { wantValue(t, held, kept, "there again") }); n != 1 {
		t.Errorf("%d calls for what is there", n)
	}
	if err := held.Delete(t.Context(), []tier.Key{gone.Key, newEntry().Key}); err != nil {
		t.Fatal(err)
	}
	if n := calls(func() { wantNone(t, held, gone) }); n != 0 || held.Holds().Entries != 2 {
		t.Errorf("%d calls for what is gone, holds %+v", n, held.Holds())
	}
	closeTier(t, held)
	held = open(t, func(o *sqlite.Options) { at(dir)(o); o.Sweep = time.Millisecond })
	defer closeTier(t, held)
	if held := held.Holds(); held.Entries != 2 {
		t.Errorf("after a restart: %+v", held)
	}
	wantValue(t, held, kept, "there again")
	if err := tryStore(t.Context(), held, evicted, []byte("short"), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what has expired is not counted", func() bool { return held.Holds().Entries == 1 })
	eventually(t, "nor are its bytes unknown", func() bool { return held.Holds().Bytes > 0 })
}
