package sqldb_test

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

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/sqldb"
)

// at opens a tier on a file in dir.
func at(dir string) func(*sqldb.SQLiteOptions) {
	return func(o *sqldb.SQLiteOptions) { o.Path = filepath.Join(dir, "cache.db") }
}

// alter runs a statement on the file as another program would.
func alter(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestSQLiteFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cache.db"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	tier := openSQLite(t, at(dir))
	defer closeTier(t, tier)
	store(t, tier, newEntry(), []byte("x"))
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

func TestSQLiteRemembers(t *testing.T) {
	dir, kept, bumped, e := t.TempDir(), newEntry(), newEntry(), newEntry()
	tier := openSQLite(t, at(dir))
	store(t, tier, kept, []byte("kept"))
	store(t, tier, bumped, []byte("old"))
	_, token := read(t, tier, kept)
	_, late := read(t, tier, bumped)
	if err := tier.Bump(t.Context(), []cache.Generation{bumped.generation}); err != nil {
		t.Fatal(err)
	}
	closeTier(t, tier)
	if _, err := os.Stat(filepath.Join(dir, "cache.db-wal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close there still is a -wal: %v", err)
	}

	tier = openSQLite(t, at(dir))
	wantValue(t, tier, kept, "kept")
	if _, again := read(t, tier, kept); again != token {
		t.Error("a token is not the same after a restart")
	}
	if err := tryWrite(t.Context(), tier, bumped, late, []byte("late"), time.Hour); err != nil {
		t.Fatal(err)
	}
	wantNone(t, tier, bumped)
	if err := tier.BumpAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNone(t, tier, kept)
	store(t, tier, e, []byte("new"))
	closeTier(t, tier)

	tier = openSQLite(t, at(dir))
	defer closeTier(t, tier)
	wantNone(t, tier, kept)
	wantNone(t, tier, bumped)
	wantValue(t, tier, e, "new")
}

// TestSQLiteOutlivesKill ends a process that writes with SIGKILL. What it was told is stored is there.
func TestSQLiteOutlivesKill(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSQLiteChild$")
	cmd.Env = append(os.Environ(), "SQLDB_TEST_CHILD="+dir, "TMPDIR="+t.TempDir()) // what it leaves when it is killed goes with this test
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
		if err != nil || len(raw) != len(last.key)+len(last.generation) {
			continue
		}
		last = entry{cache.Key(raw), cache.Generation(raw[len(last.key):])}
		n++
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if n < 200 {
		t.Fatalf("the child stored %d entries", n)
	}
	tier := openSQLite(t, at(dir))
	defer closeTier(t, tier)
	wantValue(t, tier, last, "child")
	if _, err := os.Stat(filepath.Join(dir, "cache.db.corrupt")); err == nil {
		t.Error("the file was set aside")
	}
}

// TestSQLiteChild is the child of TestSQLiteOutlivesKill, and nothing else.
func TestSQLiteChild(t *testing.T) {
	dir := os.Getenv("SQLDB_TEST_CHILD")
	if dir == "" {
		return
	}
	tier := openSQLite(t, at(dir))
	for {
		e := newEntry()
		store(t, tier, e, []byte("child"))
		fmt.Printf("%x%x\n", e.key, e.generation)
	}
}

// TestSQLiteForgetsWhatAnotherKeyWrote has the file used under one prefix, another, and the first again.
func TestSQLiteForgetsWhatAnotherKeyWrote(t *testing.T) {
	dir, e := t.TempDir(), newEntry()
	for i, prefix := range []string{"first", "first", "second", "first", "FIRST"} {
		tier := openSQLite(t, func(o *sqldb.SQLiteOptions) { at(dir)(o); o.Prefix = prefix })
		if i == 1 {
			wantValue(t, tier, e, "first")
		} else {
			wantNone(t, tier, e)
			store(t, tier, e, []byte(prefix))
			wantValue(t, tier, e, prefix)
		}
		closeTier(t, tier)
	}
	if aside, err := filepath.Glob(filepath.Join(dir, "cache.db.*")); err != nil || len(aside) != 1 {
		t.Errorf("beside the file: %v, %v; want the lock alone", aside, err)
	}
}

func TestSQLiteBelongsToOne(t *testing.T) {
	dir := t.TempDir()
	tier := openSQLite(t, at(dir))
	opt := sqldb.SQLiteOptions{Path: filepath.Join(dir, "cache.db"), Prefix: "0123abcd", Timeout: 100 * time.Millisecond}
	if _, err := sqldb.OpenSQLite(opt); !errors.Is(err, sqldb.ErrInUse) || !strings.Contains(err.Error(), opt.Path) {
		t.Errorf("a second tier on the file: %v", err)
	}
	if !works(t, tier) {
		t.Error("the first one does not work any more")
	}
	closeTier(t, tier)

	// Another program, which knows nothing of the lock file.
	db, err := sql.Open("sqlite", opt.Path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	if _, err := sqldb.OpenSQLite(opt); !errors.Is(err, sqldb.ErrInUse) {
		t.Errorf("a tier on a locked file: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := func() error { tier, err := sqldb.OpenSQLite(opt); return errors.Join(err, tier.Close()) }(); err != nil {
		t.Error(err)
	}
}

func TestSQLiteWaitsForALockNoLongerThanItMay(t *testing.T) {
	dir := t.TempDir()
	tier := openSQLite(t, func(o *sqldb.SQLiteOptions) { at(dir)(o); o.Timeout = 200 * time.Millisecond })
	defer closeTier(t, tier)
	e := newEntry()
	eventually(t, "an entry is stored", func() bool { return tryStore(t.Context(), tier, e, []byte("here"), time.Hour) == nil })
	db, err := sql.Open("sqlite", filepath.Join(dir, "cache.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := tryStore(t.Context(), tier, newEntry(), []byte("x"), time.Hour); err == nil {
		t.Error("a write past a lock")
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("a write waited %v for a lock", took)
	}
	eventually(t, "reads go on", func() bool { value, _, err := tryRead(t.Context(), tier, e); return err == nil && value != nil })
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	worksWithin(t, tier, 5*time.Second)
}

func TestSQLiteSetsAForeignFileAside(t *testing.T) {
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
			tier := openSQLite(t, at(dir))
			defer closeTier(t, tier)
			if !works(t, tier) {
				t.Error("it does not work")
			}
			if after, err := os.ReadFile(path + ".foreign"); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the foreign file has changed: %v", err)
			}
		})
	}
}

func TestSQLiteRemovesDamagedEntries(t *testing.T) {
	dir := t.TempDir()
	tier := openSQLite(t, at(dir))
	defer closeTier(t, tier)
	path := filepath.Join(dir, "cache.db")
	for _, damage := range []string{
		"x''", "x'01'", "zeroblob(length(value))", "randomblob(length(value))", "substr(value, 1, length(value) - 1)",
		"substr(value, 1, 20)", "value || x'00'", "substr(value, 1, 5) || zeroblob(8) || substr(value, 14)", "'a text'", "17",
	} {
		e := newEntry()
		store(t, tier, e, bytes.Repeat([]byte("good "), 1000))
		alter(t, path, "UPDATE entries SET value = "+damage)
		wantNone(t, tier, e)
		eventually(t, "the damaged entry is removed: "+damage, func() bool {
			return tier.Holds().Entries == 0
		})
		store(t, tier, e, []byte("new"))
		wantValue(t, tier, e, "new")
		if err := tier.Delete(t.Context(), []cache.Key{e.key}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSQLiteIsRebuiltWhenItsTablesGo(t *testing.T) {
	dir := t.TempDir()
	tier := openSQLite(t, at(dir))
	defer closeTier(t, tier)
	store(t, tier, newEntry(), []byte("x"))
	alter(t, filepath.Join(dir, "cache.db"), "DROP TABLE entries; DROP TABLE tokens")
	worksWithin(t, tier, 5*time.Second)
}

func TestSQLiteStartsWithADeadContext(t *testing.T) {
	tier := openSQLite(t, nil)
	defer closeTier(t, tier)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := tryRead(ctx, tier, newEntry()); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v", err)
	}
	if err := tier.Bump(ctx, []cache.Generation{{1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Bump: %v", err)
	}
}
