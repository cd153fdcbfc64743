package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqlite"
	"fluentd-perf/internal/cache/tier"
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

func TestKeepsItsSize(t *testing.T) {
	for _, tt := range []struct {
		max    int64
		size   int // of a value
		rounds int // entries; they would take more than the limit
	}{{4 << 20, 250, 7500}, {4 << 20, 1000, 2600}, {8 << 20, 20_000, 350}, {16 << 20, 1 << 20, 16}} {
		t.Run(fmt.Sprintf("values of %d B", tt.size), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			held := open(t, func(o *sqlite.Options) { at(dir)(o); o.MaxBytes = tt.max; o.MaxValue = tt.size })
			var entries []entry
			var largest int64
			for len(entries) < tt.rounds {
				var lookups []tier.Lookup
				batch := min(64, 1+int(tt.max/int64(8*tt.size)))
				for range batch {
					entries = append(entries, newEntry())
					lookups = append(lookups, entries[len(entries)-1].Lookup())
				}
				found, err := held.Read(t.Context(), lookups)
				if err != nil {
					t.Fatal(err)
				}
				var writes []tier.Write
				for i, l := range lookups {
					// What is written later lives longer.
					writes = append(writes, tier.Write{Key: l.Key, Value: noise(tt.size), Expires: time.Now().Add(time.Hour + time.Duration(len(entries))*time.Second),
						Guard: tier.Guard{Generations: l.Generations, Tokens: found[i].Tokens}})
				}
				if err := held.Write(t.Context(), writes); err != nil {
					t.Fatalf("after %d entries: %v", len(entries), err)
				}
				largest = max(largest, sizeOf(t, dir))
			}
			if largest > tt.max {
				t.Errorf("%d bytes on the disk, the limit is %d", largest, tt.max)
			}
			stats := held.Holds()
			if stats.Evictions < 1 || stats.Entries < 2 || stats.Bytes < tt.max/4 {
				t.Errorf("%+v", stats)
			}
			if value, _ := read(t, held, entries[len(entries)-1]); len(value) != tt.size {
				t.Error("the last one is gone")
			}
			wantNone(t, held, entries[0])
			// Little ones leave holes, and each has a token that stays.
			if least := tt.max / 6; stats.Entries*int64(tt.size) < least && tt.size > 250 {
				t.Errorf("%d entries are left", stats.Entries)
			}
			t.Logf("at most %d of %d bytes on the disk, %+v", largest, tt.max, stats)
			closeTier(t, held)
		})
	}
}

// TestEvictsTokens opens a file that is full, and not of entries.
func TestEvictsTokens(t *testing.T) {
	dir := t.TempDir()
	small := func(o *sqlite.Options) { at(dir)(o); o.MaxBytes = 4 << 20 }
	held := open(t, small)
	closeTier(t, held)
	path := filepath.Join(dir, "cache.db")
	alter(t, path, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
		INSERT INTO tokens SELECT i || zeroblob(2000), i, unixepoch() FROM n`)
	held = open(t, small)
	defer closeTier(t, held)
	e := newEntry()
	eventually(t, "there is space", func() bool {
		err := tryStore(t.Context(), held, e, noise(500_000), time.Hour)
		value, _, _ := tryRead(t.Context(), held, e)
		return err == nil && len(value) == 500_000
	})
}

func TestDeletesWhatHasExpired(t *testing.T) {
	held := open(t, func(o *sqlite.Options) { o.Sweep = 5 * time.Millisecond })
	defer closeTier(t, held)
	e := newEntry()
	store(t, held, e, []byte("stays"))
	for range 600 {
		if err := tryStore(t.Context(), held, newEntry(), []byte("goes"), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one entry is left", func() bool {
		stats := held.Holds()
		return stats.Entries == 1 && stats.Evictions == 0
	})
	wantValue(t, held, e, "stays")
}

func TestLeavesOutWhatIsTooLarge(t *testing.T) {
	held := open(t, func(o *sqlite.Options) { o.MaxValue = 1000 })
	defer closeTier(t, held)
	large, right := newEntry(), newEntry()
	store(t, held, large, make([]byte, 1001))
	store(t, held, right, make([]byte, 1000))
	wantNone(t, held, large)
	wantValue(t, held, right, string(make([]byte, 1000)))
}
