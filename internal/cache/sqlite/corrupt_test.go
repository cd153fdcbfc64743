package sqlite_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// damages are the things that happen to files.
var damages = map[string]func(path string, size int64) error{
	"cut in half":        func(path string, size int64) error { return os.Truncate(path, size/2) },
	"cut in a page":      func(path string, size int64) error { return os.Truncate(path, 4096+100) },
	"cut in the header":  func(path string, _ int64) error { return os.Truncate(path, 50) },
	"overwritten":        func(path string, size int64) error { return overwrite(path, 0, size) },
	"overwritten inside": func(path string, size int64) error { return overwrite(path, 4096, size-4096) },
	"a text": func(path string, _ int64) error {
		return os.WriteFile(path, bytes.Repeat([]byte("text "), 1000), 0o600)
	},
}

func overwrite(path string, from, n int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	noise := make([]byte, n)
	rand.Read(noise)
	_, err = f.WriteAt(noise, from)
	return errors.Join(err, f.Close())
}

// filled makes a file with a hundred entries and returns its size.
func filled(t *testing.T, dir string) (entries []entry, size int64) {
	t.Helper()
	tier := open(t, at(dir))
	for range 100 {
		e := newEntry()
		store(t, tier, e, bytes.Repeat([]byte{e.Key[0]}, 1000))
		entries = append(entries, e)
	}
	closeTier(t, tier)
	info, err := os.Stat(filepath.Join(dir, "cache.db"))
	if err != nil {
		t.Fatal(err)
	}
	return entries, info.Size()
}

func TestSetsACorruptFileAside(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "cache.db")
			for range 2 { // the second one takes the first one's place
				entries, size := filled(t, dir)
				if err := damage(path, size); err != nil {
					t.Fatal(err)
				}
				tier := open(t, at(dir))
				eventually(t, "the tier works and every entry can be asked for", func() bool {
					for _, e := range entries {
						value, _, err := tryRead(t.Context(), tier, e)
						if err != nil {
							return false
						}
						if value != nil && !bytes.Equal(value, bytes.Repeat([]byte{e.Key[0]}, 1000)) {
							t.Fatalf("read what nobody wrote: %.40q", value)
						}
					}
					return works(t, tier)
				})
				closeTier(t, tier)
			}
			aside, err := filepath.Glob(path + ".*")
			if err != nil || len(aside) != 2 || aside[0] != path+".corrupt" || aside[1] != path+".lock" {
				t.Errorf("beside the file: %v, %v", aside, err)
			}
		})
	}
}

func TestSurvivesWhatHappensToTheFileInUse(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "cache.db")
			entries, size := filled(t, dir)
			tier := open(t, at(dir))
			stop := load(t, tier)
			if err := damage(path, size); err != nil {
				t.Fatal(err)
			}
			eventually(t, "every entry can be asked for", func() bool {
				for _, e := range entries {
					value, _, err := tryRead(t.Context(), tier, e)
					if err != nil {
						return false
					}
					if value != nil && !bytes.Equal(value, bytes.Repeat([]byte{e.Key[0]}, 1000)) {
						t.Fatalf("read what nobody wrote: %.40q", value)
					}
				}
				return true
			})
			worksWithin(t, tier, 5*time.Second)
			if longest := stop(); longest > 6*time.Second {
				t.Errorf("a call took %v", longest)
			}
			closeTier(t, tier)
			tier = open(t, at(dir)) // and what is left is a sound file, or is made one
			worksWithin(t, tier, 5*time.Second)
			closeTier(t, tier)
		})
	}
}
