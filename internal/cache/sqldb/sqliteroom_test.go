package sqldb_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
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
		max  int64
		size int // of a value
	}{{4 << 20, 1000}, {8 << 20, 20_000}, {16 << 20, 1 << 20}} {
		dir := t.TempDir()
		tier := openSQLite(t, func(o *sqldb.SQLiteOptions) { at(dir)(o); o.MaxBytes = tt.max; o.MaxValue = tt.size })
		var entries []entry
		var largest int64
		rounds := int(3 * tt.max / int64(2*tt.size))
		for len(entries) < rounds {
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
			t.Errorf("values of %d B: %d bytes on the disk, the limit is %d", tt.size, largest, tt.max)
		}
		stats, err := tier.Stats(t.Context())
		if err != nil || stats.Evictions < 1 || stats.Entries < 2 || stats.Bytes < tt.max/4 {
			t.Errorf("values of %d B: %+v, %v", tt.size, stats, err)
		}
		if value, _ := read(t, tier, entries[len(entries)-1]); len(value) != tt.size {
			t.Errorf("values of %d B: the last one is gone", tt.size)
		}
		wantNone(t, tier, entries[0])
		t.Logf("values of %d B: at most %d of %d bytes on the disk, %+v", tt.size, largest, tt.max, stats)
		closeTier(t, tier)
	}
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
		stats, err := tier.Stats(t.Context())
		return err == nil && stats.Entries == 1 && stats.Evictions == 0
	})
	wantValue(t, tier, e, "stays")
}

func TestSQLiteCompresses(t *testing.T) {
	tier := openSQLite(t, nil)
	defer closeTier(t, tier)
	text := bytes.Repeat([]byte(`{"name":"a tool","description":"what it does"},`), 20_000)
	e := newEntry()
	store(t, tier, e, text)
	wantValue(t, tier, e, string(text))
	if stats, err := tier.Stats(t.Context()); err != nil || stats.Bytes > int64(len(text)/10) {
		t.Errorf("%d bytes of text take %d, %v", len(text), stats.Bytes, err)
	}
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

// TestSQLiteForgetsTokensThatGuardNothing asks for more tokens than are kept.
func TestSQLiteForgetsTokensThatGuardNothing(t *testing.T) {
	tier := openSQLite(t, nil)
	defer closeTier(t, tier)
	kept, late := newEntry(), newEntry()
	store(t, tier, kept, []byte("kept"))
	_, token := read(t, tier, late)
	for range 70 {
		lookup := newEntry().lookup()
		for range 999 {
			lookup.Generations = append(lookup.Generations, newEntry().generation)
		}
		if _, err := tier.Read(t.Context(), []cache.Lookup{lookup}); err != nil {
			t.Fatal(err)
		}
	}
	wantValue(t, tier, kept, "kept")
	if _, again := read(t, tier, late); again == token {
		t.Error("a token that guards nothing was kept")
	}
	if err := tryWrite(t.Context(), tier, late, token, []byte("late"), time.Hour); err != nil {
		t.Fatal(err)
	}
	wantNone(t, tier, late)
	if !works(t, tier) {
		t.Error("it does not work")
	}
}

// fullDisk returns a directory on a disk of which fill takes all that is left, until free is called. Where nothing may be
// mounted, it is a limit to the size of files instead.
func fullDisk(t *testing.T) (dir string, fill, free func()) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Logf("no disk of its own (%v), only a limit to the size of files", err)
		return dir, func() { limitFiles(t, 1<<20) }, func() { limitFiles(t, 1<<40) }
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(dir, "filler")
	return dir, func() {
			f, err := os.Create(filler)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for {
				if _, err := f.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, func() {
			if err := os.Remove(filler); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
}

// limitFiles limits how large files may become. Writes past that fail with EFBIG, as on a disk with faults.
func limitFiles(t *testing.T, size uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = min(size, limit.Max)
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
}

func TestSQLiteOnAFullDisk(t *testing.T) {
	dir, fill, free := fullDisk(t)
	testFullDisk(t, dir, fill, free)
}

func TestSQLiteOnADiskThatRefuses(t *testing.T) {
	testFullDisk(t, t.TempDir(), func() { limitFiles(t, 1<<20) }, func() { limitFiles(t, 1<<40) })
}

func testFullDisk(t *testing.T, dir string, fill, free func()) {
	defer free()
	tier := openSQLite(t, at(dir))
	closed := false
	defer func() {
		if !closed {
			closeTier(t, tier)
		}
	}()
	e := newEntry()
	store(t, tier, e, []byte("before"))
	fill()
	failed := false
	for i := 0; i < 3000 && !failed; i++ {
		failed = tryStore(t.Context(), tier, newEntry(), noise(10_000), time.Hour) != nil
	}
	if !failed {
		t.Fatal("a full disk is no error")
	}
	stop := load(t, tier)
	for range 20 {
		_ = tryStore(t.Context(), tier, newEntry(), noise(10_000), time.Hour) // may fail, may not crash
	}
	stop()
	free()
	worksWithin(t, tier, 5*time.Second)
	closeTier(t, tier)
	closed = true

	// And one that is full at the start.
	for _, part := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, "cache.db"+part)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	fill()
	tier, closed = openSQLite(t, at(dir)), false
	_ = tryStore(t.Context(), tier, e, noise(900_000), time.Hour)
	free()
	worksWithin(t, tier, 5*time.Second)
}

func TestSQLiteOptions(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "cache.db")
	for name, opt := range map[string]sqldb.SQLiteOptions{
		"no path":               {},
		"too small":             {Path: good, MaxBytes: 1 << 20},
		"a negative size":       {Path: good, MaxBytes: -1},
		"a negative time":       {Path: good, Timeout: -1},
		"a negative sweep":      {Path: good, Sweep: -1},
		"a large entry":         {Path: good, MaxBytes: 4 << 20, MaxValue: 2 << 20},
		"no directory":          {Path: filepath.Join(dir, "none", "cache.db")},
		"a directory":           {Path: dir},
		"a link to who knows":   {Path: link(t, dir)},
		"something that is not": {Path: pipe(t, dir)},
	} {
		tier, err := sqldb.OpenSQLite(opt)
		if err == nil {
			closeTier(t, tier)
			t.Errorf("%s: no error", name)
		}
	}
	if left, err := filepath.Glob(good + "*"); err != nil || len(left) > 0 {
		t.Errorf("refused options left %v, %v", left, err)
	}
}

func link(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "link")
	if err := os.Symlink("/nowhere/at/all", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func pipe(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
