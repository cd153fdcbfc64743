package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqlite"
)

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

func TestOnAFullDisk(t *testing.T) {
	dir, fill, free := fullDisk(t)
	testFullDisk(t, dir, fill, free)
}

func TestOnADiskThatRefuses(t *testing.T) {
	testFullDisk(t, t.TempDir(), func() { limitFiles(t, 1<<20) }, func() { limitFiles(t, 1<<40) })
}

func testFullDisk(t *testing.T, dir string, fill, free func()) {
	defer free()
	tier := open(t, at(dir))
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
	log := &lines{}
	tier, closed = open(t, func(o *sqlite.Options) { at(dir)(o); o.Log = log.Logger() }), false
	err := tryStore(t.Context(), tier, e, noise(900_000), time.Hour)
	if errors.Is(err, sqlite.ErrUnavailable) { // it is not, where the disk has space for an empty file
		eventually(t, "it is said", func() bool { return log.Has("cannot be used for now") })
		if err.Error() == "sqlite: "+sqlite.ErrUnavailable.Error() || strings.Count(log.String(), "level=WARN") != 1 {
			t.Errorf("the error is %v, the log\n%s", err, log)
		}
	}
	t.Logf("on a disk that is full at the start: %v", err)
	free()
	worksWithin(t, tier, 5*time.Second)
}
