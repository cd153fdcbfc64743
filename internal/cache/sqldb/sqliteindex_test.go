package sqldb_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/sqldb"
)

// TestSQLiteAsksOnlyForWhatItHas: a read of keys that the file does not have asks no connection, and what the file has is
// counted as it comes and goes, over a restart too.
func TestSQLiteAsksOnlyForWhatItHas(t *testing.T) {
	dir := t.TempDir()
	tier := openSQLite(t, at(dir))
	kept, gone, evicted := newEntry(), newEntry(), newEntry()
	calls := func(f func()) uint64 {
		before := tier.Pool().Reused
		f()
		return tier.Pool().Reused - before
	}
	for _, e := range []entry{kept, gone, evicted} {
		if n := calls(func() { wantNone(t, tier, e) }); n != 0 {
			t.Errorf("%d calls for what is not there", n)
		}
		store(t, tier, e, []byte("there"))
		store(t, tier, e, []byte("there again"))
	}
	if held := tier.Holds(); held.Entries != 3 {
		t.Errorf("holds %+v", held)
	}
	if n := calls(func() { wantValue(t, tier, kept, "there again") }); n != 1 {
		t.Errorf("%d calls for what is there", n)
	}
	if err := tier.Delete(t.Context(), []cache.Key{gone.key, newEntry().key}); err != nil {
		t.Fatal(err)
	}
	if n := calls(func() { wantNone(t, tier, gone) }); n != 0 || tier.Holds().Entries != 2 {
		t.Errorf("%d calls for what is gone, holds %+v", n, tier.Holds())
	}
	closeTier(t, tier)
	tier = openSQLite(t, func(o *sqldb.SQLiteOptions) { at(dir)(o); o.Sweep = time.Millisecond })
	defer closeTier(t, tier)
	if held := tier.Holds(); held.Entries != 2 {
		t.Errorf("after a restart: %+v", held)
	}
	wantValue(t, tier, kept, "there again")
	if err := tryStore(t.Context(), tier, evicted, []byte("short"), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what has expired is not counted", func() bool { return tier.Holds().Entries == 1 })
	eventually(t, "nor are its bytes unknown", func() bool { return tier.Holds().Bytes > 0 })
}
