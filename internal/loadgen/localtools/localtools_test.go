package localtools_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen/localtools"
)

// TestRun has each tool do what it is for, and give the text that is known of it. Nothing is left but the files.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	if err := localtools.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	for _, name := range localtools.Names() {
		if err := localtools.Missing(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := localtools.Run(t.Context(), dir, name); err != nil || got == "" || got != localtools.Result(name) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if after := names(t, dir); !slices.Equal(after, before) {
		t.Errorf("left %v, want %v", after, before)
	}
	if _, err := localtools.Run(t.Context(), dir, "other"); err == nil || localtools.Result("other") != "" {
		t.Error("there is another tool")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := localtools.Run(ctx, dir, localtools.Compiler); err == nil {
		t.Error("a call that has ended builds")
	}
}

// TestFailures tells what a tool cannot do: it does the work, and knows no answer by heart.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	for _, name := range localtools.Names() {
		if got, err := localtools.Run(t.Context(), dir, name); err == nil {
			t.Errorf("%s without its files: %q", name, got)
		}
	}
	if err := localtools.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "program", "main.go"), []byte("package main\nfunc main() { nothing }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := localtools.Run(t.Context(), dir, localtools.Compiler); err == nil || !strings.Contains(err.Error(), "undefined: nothing") {
		t.Errorf("a program with a fault: %v", err)
	}
	if err := localtools.Prepare(dir); err == nil {
		t.Error("files are written twice")
	}
	t.Setenv("PATH", t.TempDir())
	for name, missing := range map[string]bool{localtools.Filesystem: false, localtools.Shell: true, localtools.Compiler: true} {
		if err := localtools.Missing(name); (err != nil) != missing {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
