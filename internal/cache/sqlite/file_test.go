package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqlite"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// at opens a tier on a file in dir.
func at(dir string) func(*sqlite.Options) {
	return func(o *sqlite.Options) { o.Path = filepath.Join(dir, "cache.db") }
}

// alter runs a statement on the file as another program would.
func alter(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)") // the tier's writer may have the lock at that moment
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cache.db"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	held := open(t, at(dir))
	defer closeTier(t, held)
	store(t, held, newEntry(), []byte("x"))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("files %v, %v: want the database, -wal, -shm and .lock", files, err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", file.Name(), info.Mode(), err)
		}
	}
}

func TestRemembers(t *testing.T) {
	dir, kept, bumped, e := t.TempDir(), newEntry(), newEntry(), newEntry()
	held := open(t, at(dir))
	store(t, held, kept, []byte("kept"))
	store(t, held, bumped, []byte("old"))
	_, token := read(t, held, kept)
	_, late := read(t, held, bumped)
	if err := held.Bump(t.Context(), []tier.Generation{bumped.Generation}); err != nil {
		t.Fatal(err)
	}
	closeTier(t, held)
	if _, err := os.Stat(filepath.Join(dir, "cache.db-wal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close there still is a -wal: %v", err)
	}

	held = open(t, at(dir))
	wantValue(t, held, kept, "kept")
	if _, again := read(t, held, kept); again != token {
		t.Error("a token is not the same after a restart")
	}
	if err := tryWrite(t.Context(), held, bumped, late, []byte("late"), time.Hour); err != nil {
		t.Fatal(err)
	}
	wantNone(t, held, bumped)
	if err := held.BumpAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNone(t, held, kept)
	store(t, held, e, []byte("new"))
	closeTier(t, held)

	held = open(t, at(dir))
	defer closeTier(t, held)
	wantNone(t, held, kept)
	wantNone(t, held, bumped)
	wantValue(t, held, e, "new")
}

// TestOutlivesKill ends a process that writes with SIGKILL. What it was told is stored is there.
func TestOutlivesKill(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "SQLITE_TEST_CHILD="+dir, "TMPDIR="+t.TempDir()) // what it leaves when it is killed goes with this test
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last entry
	lines, n := bufio.NewScanner(out), 0
	for n < 200 && lines.Scan() {
		raw, err := hex.DecodeString(lines.Text())
		if err != nil || len(raw) != len(last.Key)+len(last.Generation) {
			continue
		}
		last = entry{Key: tier.Key(raw), Generation: tier.Generation(raw[len(last.Key):])}
		n++
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if n < 200 {
		t.Fatalf("the child stored %d entries", n)
	}
	held := open(t, at(dir))
	defer closeTier(t, held)
	wantValue(t, held, last, "child")
	if _, err := os.Stat(filepath.Join(dir, "cache.db.corrupt")); err == nil {
		t.Error("the file was set aside")
	}
}

// TestChild is the child of TestOutlivesKill, and nothing else.
func TestChild(t *testing.T) {
	dir := os.Getenv("SQLITE_TEST_CHILD")
	if dir == "" {
		return
	}
	held := open(t, at(dir))
	for {
		e := newEntry()
		store(t, held, e, []byte("child"))
		fmt.Printf("%x%x\n", e.Key, e.Generation)
	}
}

// TestForgetsWhatAnotherKeyWrote has the file used under one prefix, another, and the first again.
func TestForgetsWhatAnotherKeyWrote(t *testing.T) {
	dir, e := t.TempDir(), newEntry()
	for i, prefix := range []string{"first", "first", "second", "first", "FIRST"} {
		held := open(t, func(o *sqlite.Options) { at(dir)(o); o.Prefix = prefix })
		if i == 1 {
			wantValue(t, held, e, "first")
		} else {
			wantNone(t, held, e)
			store(t, held, e, []byte(prefix))
			wantValue(t, held, e, prefix)
		}
		closeTier(t, held)
	}
	if aside, err := filepath.Glob(filepath.Join(dir, "cache.db.*")); err != nil || len(aside) != 1 {
		t.Errorf("beside the file: %v, %v; want the lock alone", aside, err)
	}
}

func TestBelongsToOne(t *testing.T) {
	dir := t.TempDir()
	held := open(t, at(dir))
	opt := sqlite.Options{Path: filepath.Join(dir, "cache.db"), Prefix: "0123abcd", Timeout: 100 * time.Millisecond}
	if _, err := sqlite.OpenTier(opt); !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), opt.Path) {
		t.Errorf("a second tier on the file: %v", err)
	}
	if !works(t, held) {
		t.Error("the first one does not work any more")
	}
	closeTier(t, held)

	// Another program, which knows nothing of the lock file.
	db, err := sql.Open("sqlite", opt.Path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.OpenTier(opt); !errors.Is(err, sqlite.ErrInUse) {
		t.Errorf("a tier on a locked file: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := func() error { held, err := sqlite.OpenTier(opt); return errors.Join(err, held.Close()) }(); err != nil {
		t.Error(err)
	}
}

func TestWaitsForALockNoLongerThanItMay(t *testing.T) {
	dir := t.TempDir()
	held := open(t, func(o *sqlite.Options) { at(dir)(o); o.Timeout = 200 * time.Millisecond })
	defer closeTier(t, held)
	e := newEntry()
	eventually(t, "an entry is stored", func() bool { return tryStore(t.Context(), held, e, []byte("here"), time.Hour) == nil })
	db, err := sql.Open("sqlite", filepath.Join(dir, "cache.db")+"?_pragma=busy_timeout(10000)") // the tier's writer may have the lock at that moment
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	took := tiertest.Stopwatch(t)(func() { err = tryStore(t.Context(), held, newEntry(), []byte("x"), time.Hour) })
	if err == nil {
		t.Error("a write past a lock")
	}
	if took > time.Second {
		t.Errorf("a write waited %v for a lock", took)
	}
	eventually(t, "reads go on", func() bool { value, _, err := tryRead(t.Context(), held, e); return err == nil && value != nil })
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	worksWithin(t, held, 5*time.Second)
}

func TestSetsAnotherProgramsFileAside(t *testing.T) {
	for name, statements := range map[string]string{
		"somebody's":      "CREATE TABLE treasure (x); INSERT INTO treasure VALUES (1)",
		"another version": "PRAGMA application_id=1718642275; PRAGMA user_version=99; CREATE TABLE treasure (x)",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "cache.db")
			alter(t, path, statements)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			held := open(t, at(dir))
			defer closeTier(t, held)
			if !works(t, held) {
				t.Error("it does not work")
			}
			if after, err := os.ReadFile(path + ".foreign"); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file has changed: %v", err)
			}
		})
	}
}

func TestRemovesDamagedEntries(t *testing.T) {
	dir := t.TempDir()
	held := open(t, at(dir))
	defer closeTier(t, held)
	path := filepath.Join(dir, "cache.db")
	for _, damage := range []string{
		"x''", "x'01'", "zeroblob(length(value))", "randomblob(length(value))", "substr(value, 1, length(value) - 1)",
		"substr(value, 1, 20)", "value || x'00'", "substr(value, 1, 5) || zeroblob(8) || substr(value, 14)", "'a text'", "17",
	} {
		e := newEntry()
		store(t, held, e, bytes.Repeat([]byte("good "), 1000))
		alter(t, path, "UPDATE entries SET value = "+damage)
		wantNone(t, held, e)
		eventually(t, "the damaged entry is removed: "+damage, func() bool {
			return held.Holds().Entries == 0
		})
		store(t, held, e, []byte("new"))
		wantValue(t, held, e, "new")
		if err := held.Delete(t.Context(), []tier.Key{e.Key}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIsRebuiltWhenItsTablesGo(t *testing.T) {
	dir := t.TempDir()
	held := open(t, at(dir))
	defer closeTier(t, held)
	store(t, held, newEntry(), []byte("x"))
	alter(t, filepath.Join(dir, "cache.db"), "DROP TABLE entries; DROP TABLE tokens")
	worksWithin(t, held, 5*time.Second)
}

func TestStartsWithADeadContext(t *testing.T) {
	held := open(t, nil)
	defer closeTier(t, held)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := tryRead(ctx, held, newEntry()); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v", err)
	}
	if err := held.Bump(ctx, []tier.Generation{{1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Bump: %v", err)
	}
}
