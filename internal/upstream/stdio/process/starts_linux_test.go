package process

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestMissing holds that a command that is missing needs no turn to be refused, and starts when it has appeared.
func TestMissing(t *testing.T) {
	g := testGuard(t, shortLadder)
	s := NewStarts(g, 1)
	if err := s.slots.Acquire(t.Context(), 1); err != nil { // somebody installs a package
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "server")
	one := Spec{Name: "x", Command: []string{program}, Dir: "/", Env: os.Environ()}
	for range 2 {
		_, _, err := s.Start(t.Context(), "x", one)
		if missing := new(CommandError); !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("got %v", err)
		}
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Start(t.Context(), "x", one); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file that may not be run: %v", err)
	}
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	s.slots.Release(1)
	p, release, err := s.Start(t.Context(), "x", one)
	if err != nil {
		t.Fatalf("it is there: %v", err)
	}
	release()
	await(t, "Gone", p.Gone())
	p.Stdout().Close()
}
