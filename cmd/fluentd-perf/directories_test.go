package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/cache"
)

// TestServeDirectories holds the exit code of a daemon whose directory is named and cannot be used.
func TestServeDirectories(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--state-dir", "--runtime-dir"} {
		code, _, errs := command("serve", "--upstream", "a=http://127.0.0.1:1/mcp", "--listen", "127.0.0.1:0", "--state-dir", t.TempDir(), flag, file)
		if code != exitUsage || !strings.Contains(errs, "not a directory") || !strings.Contains(errs, flag) {
			t.Errorf("%s: exit %d, %s", flag, code, errs)
		}
	}
}

// TestSocketPlaces holds that who names a socket, or its directory, means that one.
func TestSocketPlaces(t *testing.T) {
	for name, value := range map[string]string{"FLUENTD_PERF_SOCKET": "/env.sock", "RUNTIME_DIRECTORY": "/run/x", "HOME": "/home/x"} {
		t.Setenv(name, value)
	}
	for _, c := range []struct {
		flag socketFlag
		want api.Place
	}{
		{socketFlag{path: "/flag.sock"}, api.Place{Path: "/flag.sock", From: "--socket"}},
		{socketFlag{runtime: "/flag"}, api.Place{Path: "/flag/admin.sock", From: "--runtime-dir"}},
		{socketFlag{runtime: "flag/"}, api.Place{Path: "flag/admin.sock", From: "--runtime-dir"}},
		{socketFlag{}, api.Place{Path: "/env.sock", From: "$FLUENTD_PERF_SOCKET"}},
	} {
		places := c.flag.places()
		if len(places) != 1 || places[0] != c.want {
			t.Errorf("%+v: %+v, want %+v", c.flag, places, c.want)
		}
	}
}

// TestVerbsRuntimeDirectory holds that a verb finds the daemon by the directory that serve was given, and takes one name.
func TestVerbsRuntimeDirectory(t *testing.T) {
	daemonFor(t, adminCalls{
		status:     func(context.Context, bool) (api.Status, error) { return api.Status{Version: "this one"}, nil },
		cacheStats: func(context.Context, bool) (cache.Stats, error) { return cache.Stats{}, nil },
		cachePurge: func(context.Context, string, string) (api.CachePurge, error) { return api.CachePurge{}, nil },
	})
	dir := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "fluentd-perf")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("FLUENTD_PERF_SOCKET", "/not/this.sock")
	for _, verb := range []string{"status", "cache-stats", "cache-purge"} {
		if code, _, errs := command(verb, "--runtime-dir", dir); code != 0 {
			t.Errorf("%s: exit %d, %s", verb, code, errs)
		}
		if code, _, errs := command(verb, "--runtime-dir", dir, "--socket", dir+"/admin.sock"); code != exitUsage || !strings.Contains(errs, "give one") {
			t.Errorf("%s with both: exit %d, %s", verb, code, errs)
		}
	}
}
