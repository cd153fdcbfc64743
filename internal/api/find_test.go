package api_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/internal/api"
)

// TestFind holds that the first daemon that answers is taken, and what is said where none does.
func TestFind(t *testing.T) {
	dir := directory(t)
	missing, dead := filepath.Join(dir, "none.sock"), filepath.Join(dir, "dead.sock")
	stale(t, dead)
	first, second := serving(t, api.Options{}), serving(t, api.Options{})
	nowhere := []api.Place{{Path: missing, From: "--socket"}, {Path: dead, From: "$X"}}
	got, err := api.Find(t.Context(), append(nowhere, api.Place{Path: first}, api.Place{Path: second}))
	if err != nil || got != first {
		t.Errorf("%s, %v; want %s", got, err, first)
	}
	_, err = api.Find(t.Context(), nowhere)
	want := "no running fluentd-perf was found; tried\n" +
		"  " + missing + " (--socket): no such file or directory\n" +
		"  " + dead + " ($X): connection refused: its daemon has died"
	if !errors.Is(err, api.ErrNotFound) || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v hides why", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dir} {
		_, err = api.Find(t.Context(), []api.Place{{Path: path, From: "--socket"}})
		if want := path + " (--socket): connection refused: it is not a socket"; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	_, err = api.Find(t.Context(), []api.Place{{Path: "/" + strings.Repeat("x", 200)}})
	if !errors.Is(err, api.ErrPathTooLong) {
		t.Errorf("%v", err)
	}
	if _, err = api.Find(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no place is known") {
		t.Errorf("%v", err)
	}
}
