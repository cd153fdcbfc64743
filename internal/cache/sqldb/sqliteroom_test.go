package sqldb_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/sqldb"
)

// sizeOf is what the files of a tier in dir take.
func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	for _, name := range []string{"cache.db", "cache.db-wal"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestSQLiteKeepsItsSize(t *testing.T) {
	for _, tt := range []struct {
		max    int64
		size   int // of a value
		rounds int // entries; they would take more than the limit
	}{{4 << 20, 250, 7500}, {4 << 20, 1000, 2600}, {8 << 20, 20_000, 350}, {16 << 20, 1 << 20, 16}} {
		t.Run(fmt.Sprintf("values of %d B", tt.size), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tier := openSQLite(t, func(o *sqldb.SQLiteOptions) { at(dir)(o); o.MaxBytes = tt.max; o.MaxValue = tt.size })
			var entries []entry
			var largest int64
			for len(entries) < tt.rounds {
				var lookups []cache.Lookup
				batch := min(64, 1+int(tt.max/int64(8*tt.size)))
				for range batch {
					entries = append(entries, newEntry())
					lookups = append(lookups, entries[len(entries)-1].lookup())
				}
				found, err := tier.Read(t.Context(), lookups)
				if err != nil {
					t.Fatal(err)
				}
				var writes []cache.Write
				for i, l := range lookups {
					// What is written later lives longer.
					writes = append(writes, cache.Write{Key: l.Key, Value: noise(tt.size), Expires: time.Now().Add(time.Hour + time.Duration(len(entries))*time.Second),
						Guard: cache.Guard{Generations: l.Generations, Tokens: found[i].Tokens}})
				}
				if err := tier.Write(t.Context(), writes); err != nil {
					t.Fatalf("after %d entries: %v", len(entries), err)
				}
				largest = max(largest, sizeOf(t, dir))
			}
			if largest > tt.max {
				t.Errorf("%d bytes on the disk, the limit is %d", largest, tt.max)
			}
			stats := tier.Holds()
			if stats.Evictions < 1 || stats.Entries < 2 || stats.Bytes < tt.max/4 {
				t.Errorf("%+v", stats)
			}
			if value, _ := read(t, tier, entries[len(entries)-1]); len(value) != tt.size {
				t.Error("the last one is gone")
			}
			wantNone(t, tier, entries[0])
			// Little ones leave holes, and each has a token that stays.
			if least := tt.max / 6; stats.Entries*int64(tt.size) < least && tt.size > 250 {
				t.Errorf("%d entries are left", stats.Entries)
			}
			t.Logf("at most %d of %d bytes on the disk, %+v", largest, tt.max, stats)
			closeTier(t, tier)
		})
	}
}

// TestSQLiteMakesRoomAmongTokens opens a file that is full, and not of entries.
func TestSQLiteMakesRoomAmongTokens(t *testing.T) {
	dir := t.TempDir()
	small := func(o *sqldb.SQLiteOptions) { at(dir)(o); o.MaxBytes = 4 << 20 }
	tier := openSQLite(t, small)
	closeTier(t, tier)
	path := filepath.Join(dir, "cache.db")
	alter(t, path, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
		INSERT INTO tokens SELECT i || zeroblob(2000), i, unixepoch() FROM n`)
	tier = openSQLite(t, small)
	defer closeTier(t, tier)
	e := newEntry()
	eventually(t, "there is room", func() bool {
		err := tryStore(t.Context(), tier, e, noise(500_000), time.Hour)
		value, _, _ := tryRead(t.Context(), tier, e)
		return err == nil && len(value) == 500_000
	})
}

func TestSQLiteDeletesWhatHasExpired(t *testing.T) {
	tier := openSQLite(t, func(o *sqldb.SQLiteOptions) { o.Sweep = 5 * time.Millisecond })
	defer closeTier(t, tier)
	e := newEntry()
	store(t, tier, e, []byte("stays"))
	for range 600 {
		if err := tryStore(t.Context(), tier, newEntry(), []byte("goes"), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one entry is left", func() bool {
		stats := tier.Holds()
		return stats.Entries == 1 && stats.Evictions == 0
	})
	wantValue(t, tier, e, "stays")
}

func TestSQLiteLeavesOutWhatIsTooLarge(t *testing.T) {
	tier := openSQLite(t, func(o *sqldb.SQLiteOptions) { o.MaxValue = 1000 })
	defer closeTier(t, tier)
	large, right := newEntry(), newEntry()
	store(t, tier, large, make([]byte, 1001))
	store(t, tier, right, make([]byte, 1000))
	wantNone(t, tier, large)
	wantValue(t, tier, right, string(make([]byte, 1000)))
}
