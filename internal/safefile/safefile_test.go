package safefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCreate puts files in their place in both ways: a rename replaces what is there, a link does not.
func TestCreate(t *testing.T) {
	t.Chdir(t.TempDir()) // a name without a directory is one in this
	if err := errors.Join(Create("f", []byte("one"), os.Rename), Create("f", []byte("two"), os.Rename)); err != nil {
		t.Fatal(err)
	}
	if err := Create("f", []byte("three"), os.Link); !errors.Is(err, fs.ErrExist) {
		t.Errorf("linked over a file: %v", err)
	}
	content, info, err := Read("f", 3)
	if err != nil || string(content) != "two" || info.Mode() != 0o600 {
		t.Errorf("%q, %v, %v", content, info, err)
	}
	if _, _, err := Read("f", 2); err == nil || !strings.Contains(err.Error(), "more than 2 bytes") {
		t.Errorf("a file of 3 bytes: %v", err)
	}
	if names, _ := filepath.Glob("*"); len(names) != 1 {
		t.Errorf("%q are left", names)
	}
}

// TestRemoveTemps removes what a process left that ended while it wrote, and nothing else.
func TestRemoveTemps(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"f.1" + TempSuffix, "f.22" + TempSuffix, "f", "g.1" + TempSuffix, "ff.1" + TempSuffix} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	RemoveTemps(dir, "f")
	left, err := fs.Glob(os.DirFS(dir), "*")
	if err != nil || strings.Join(left, " ") != "f ff.1.tmp g.1.tmp" {
		t.Errorf("%q, %v", left, err)
	}
}

// TestLock has a second lock fail while the first is held.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	if err := Unlock(first); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Unlock(again); err != nil {
		t.Error(err)
	}
}

// TestLockShared has several hold a lock together, and none of them beside one that holds it alone.
func TestLockShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var shared [2]*os.File
	for i := range shared {
		var err error
		if shared[i], err = LockShared(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Lock(path); !errors.Is(err, ErrLocked) {
			t.Errorf("locked beside %d who share it: %v", i+1, err)
		}
	}
	if err := errors.Join(Unlock(shared[0]), Unlock(shared[1])); err != nil {
		t.Fatal(err)
	}
	alone, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockShared(path); !errors.Is(err, ErrLocked) {
		t.Errorf("shared beside one who has it alone: %v", err)
	}
	if err := Unlock(alone); err != nil {
		t.Error(err)
	}
}

// TestNoRegularFile: a link and a directory are not opened.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{link: "a symbolic link", dir: "not a regular file"} {
		if _, _, err := Read(path, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reading %s: %v, want %q", path, err, want)
		}
	}
	if _, err := Lock(link); err == nil || !strings.Contains(err.Error(), "a symbolic link") {
		t.Errorf("locking a link: %v", err)
	}
}
