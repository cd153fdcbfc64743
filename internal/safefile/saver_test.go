package safefile

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A file follows what is in it within a second, is not read or written while another process has it, and is whole after Close.
func TestSaver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	synctest.Test(t, func(t *testing.T) {
		content := "one"
		s := NewSaver(path, true, func() []byte { return []byte(content) }, func(err error) { t.Error(err) })
		wants := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got, err := os.ReadFile(path); string(got) != want || want == "" && !os.IsNotExist(err) {
				t.Errorf("%s: %q, %v, want %q", when, got, err, want)
			}
		}
		s.Changed()
		time.Sleep(time.Second)
		wants("while another process has the file", "")
		s.Join()
		s.Changed()
		wants("at once", "")
		time.Sleep(time.Second)
		wants("a second after a change", "one")
		content = "two"
		s.Save()
		wants("with no change", "one")
		s.Changed()
		s.Close()
		wants("after the end", "two")
		content = "three"
		s.Changed()
		time.Sleep(time.Second)
		wants("with a change after the end", "two")
	})
}

// A file that others may have written is not read; that there is none is no error.
func TestReadPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if content, err := ReadPrivate(path, 10); content != nil || err != nil {
		t.Errorf("of no file: %q, %v", content, err)
	}
	if err := os.WriteFile(path, []byte("own"), 0o600); err != nil {
		t.Fatal(err)
	}
	if content, err := ReadPrivate(path, 10); string(content) != "own" || err != nil {
		t.Errorf("of an own file: %q, %v", content, err)
	}
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivate(path, 10); err == nil {
		t.Error("a file was read that the group may write")
	}
}
