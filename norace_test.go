package fluentdperf_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNoRaceTestsRun holds that `make test` runs, without the race detector, each test that is not built with it: the pattern in the
// Makefile matches its name, and its package is in the same line.
func TestNoRaceTestsRun(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`(?m)^NORACE = (.+)$`).FindSubmatch(makefile)
	packages := regexp.MustCompile(`(?m)^\tgo test .*-run '\$\(NORACE\)' (.+)$`).FindSubmatch(makefile)
	if pattern == nil || packages == nil {
		t.Fatal("the Makefile has no NORACE, or runs no tests of it")
	}
	ran, name := strings.Fields(string(packages[1])), regexp.MustCompile(string(pattern[1]))
	found := 0
	for _, file := range noRaceTests(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			found++
			if !name.Match(test[1]) || !slices.Contains(ran, "./"+filepath.Dir(file)) {
				t.Errorf("%s: %s is not run: add it to NORACE, and its package to the line that runs them", file, test[1])
			}
		}
	}
	if found == 0 {
		t.Error("no test is found that is not built with the race detector")
	}
}

// noRaceTests returns the files of tests that are not built with the race detector.
func noRaceTests(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || path != "." && strings.HasPrefix(entry.Name(), ".")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if bytes.HasPrefix(text, []byte("//go:build !race\n")) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
