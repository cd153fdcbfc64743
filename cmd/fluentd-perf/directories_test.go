package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/admin"
	"fluentd-perf/internal/cache"
)

// around makes surroundings of variables. Whoever runs the tests, root may use the system's directory.
func around(root bool, env map[string]string) surroundings {
	return surroundings{
		root: root, env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		usable: func(dir string) error {
			if dir == systemRuntime() {
				return nil
			}
			return usableDirectory(dir)
		},
	}
}

// TestDirectories holds where the daemon keeps its files, and where verbs look for it.
func TestDirectories(t *testing.T) {
	d := t.TempDir()
	run := systemRuntime()
	for _, c := range []struct {
		what    string
		args    []string
		root    bool
		env     map[string]string
		state   string
		runtime string
		looked  []string // directories in which verbs look
	}{
		{what: "home", env: map[string]string{"HOME": d},
			state: d + "/.local/state/fluentd-perf", runtime: d + "/.local/state/fluentd-perf/run",
			looked: []string{run, d + "/.local/state/fluentd-perf/run"}},
		{what: "root", root: true, env: map[string]string{"HOME": d},
			state: d + "/.local/state/fluentd-perf", runtime: run,
			looked: []string{run, d + "/.local/state/fluentd-perf/run"}},
		{what: "XDG", env: map[string]string{"HOME": d, "XDG_STATE_HOME": d + "/s", "XDG_RUNTIME_DIR": d + "/r"},
			state: d + "/s/fluentd-perf", runtime: d + "/r/fluentd-perf",
			looked: []string{d + "/r/fluentd-perf", run, d + "/s/fluentd-perf/run"}},
		{what: "XDG, relative", env: map[string]string{"HOME": d, "XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r"},
			state: d + "/.local/state/fluentd-perf", runtime: d + "/.local/state/fluentd-perf/run",
			looked: []string{run, d + "/.local/state/fluentd-perf/run"}},
		{what: "systemd", root: true,
			env:   map[string]string{"STATE_DIRECTORY": d + "/a:" + d + "/b", "RUNTIME_DIRECTORY": d + "/c:" + d + "/e", "XDG_RUNTIME_DIR": d + "/r"},
			state: d + "/a", runtime: d + "/c",
			looked: []string{d + "/c", d + "/r/fluentd-perf", run, d + "/a/run"}},
		{what: "flags", args: []string{"--state-dir", d + "/x/../y", "--runtime-dir", d + "/z"},
			env:   map[string]string{"STATE_DIRECTORY": d + "/a", "RUNTIME_DIRECTORY": d + "/c"},
			state: d + "/y", runtime: d + "/z", looked: []string{d + "/c", run, d + "/a/run"}},
		{what: "one flag", args: []string{"--state-dir", d + "/y"}, state: d + "/y", runtime: d + "/y/run", looked: []string{run}},
	} {
		var flags directoryFlags
		verb := &cobra.Command{RunE: func(*cobra.Command, []string) error { return nil }}
		flags.register(verb)
		if err := verb.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		s := around(c.root, c.env)
		got, err := flags.resolve(s, slog.New(slog.DiscardHandler))
		if err != nil || got != (directories{c.state, c.runtime}) {
			t.Errorf("%s: %+v, %v; want %s and %s", c.what, got, err, c.state, c.runtime)
			continue
		}
		if info, err := os.Stat(c.state); err != nil || info.Mode() != 0o700|os.ModeDir {
			t.Errorf("%s: the state directory: %v, %v", c.what, info, err)
		}
		var looked []string
		for _, p := range new(socketFlag).places(s) {
			looked = append(looked, filepath.Dir(p.Path))
		}
		if strings.Join(looked, " ") != strings.Join(c.looked, " ") {
			t.Errorf("%s: verbs look in %q, want %q", c.what, looked, c.looked)
		}
	}
}

// TestDirectoriesUnusable holds that a directory that is named and cannot be used is the typist's error, which says what to
// set, and that one that nobody named is a warning and leaves the other as it is.
func TestDirectoriesUnusable(t *testing.T) {
	d := t.TempDir()
	file, long := filepath.Join(d, "file"), filepath.Join(d, strings.Repeat("x", 100))
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const state, runtime = "--state-dir or $STATE_DIRECTORY", "--runtime-dir or $RUNTIME_DIRECTORY"
	for _, c := range []struct {
		flags  directoryFlags
		env    map[string]string
		fault  []string // words of the error
		warned []string // words of the warnings
		want   directories
	}{
		{warned: []string{"there is no $HOME", state, "none is known", runtime}},
		{env: map[string]string{"HOME": "home"}, warned: []string{"there is no $HOME", state, runtime}},
		{env: map[string]string{"HOME": file}, warned: []string{"not a directory", state, runtime}},
		{env: map[string]string{"XDG_STATE_HOME": file, "XDG_RUNTIME_DIR": d + "/r"}, warned: []string{"not a directory", state},
			want: directories{runtime: d + "/r/fluentd-perf"}},
		{env: map[string]string{"XDG_STATE_HOME": d + "/s", "XDG_RUNTIME_DIR": file},
			want: directories{d + "/s/fluentd-perf", d + "/s/fluentd-perf/run"}},
		{env: map[string]string{"XDG_STATE_HOME": long, "XDG_RUNTIME_DIR": file}, warned: []string{"not a directory", "too long", runtime},
			want: directories{state: long + "/fluentd-perf"}},
		{flags: directoryFlags{runtime: d + "/r"}, warned: []string{"there is no $HOME", state}, want: directories{runtime: d + "/r"}},
		{flags: directoryFlags{state: d + "/s"}, env: map[string]string{"XDG_RUNTIME_DIR": file}, want: directories{d + "/s", d + "/s/run"}},

		{flags: directoryFlags{state: file}, fault: []string{"not a directory", state}},
		{flags: directoryFlags{state: file + "/x"}, fault: []string{"not a directory", state}},
		{env: map[string]string{"STATE_DIRECTORY": file}, fault: []string{"not a directory", state}},
		{env: map[string]string{"STATE_DIRECTORY": "s"}, fault: []string{"$STATE_DIRECTORY is not an absolute path", state}},
		{flags: directoryFlags{state: d + "/s", runtime: file}, fault: []string{"not a directory", runtime}},
		{flags: directoryFlags{state: d + "/s", runtime: long}, fault: []string{"too long", runtime}},
		{flags: directoryFlags{state: d + "/s"}, env: map[string]string{"RUNTIME_DIRECTORY": file}, fault: []string{"not a directory", runtime}},
		{flags: directoryFlags{state: d + "/s"}, env: map[string]string{"RUNTIME_DIRECTORY": "r"}, fault: []string{"$RUNTIME_DIRECTORY is not an absolute path"}},
	} {
		var said bytes.Buffer
		got, err := c.flags.resolve(around(false, c.env), slog.New(slog.NewTextHandler(&said, nil)))
		var usage usageError
		if (c.fault != nil) != errors.As(err, &usage) || got != c.want {
			t.Errorf("%+v: %+v, %v; want %+v, %q", c, got, err, c.want, c.fault)
			continue
		}
		if err != nil {
			holdsAll(t, err.Error(), c.fault)
		}
		holdsAll(t, said.String(), c.warned)
		if c.warned == nil && said.Len() > 0 {
			t.Errorf("%+v: %s", c, &said)
		}
	}
}

func holdsAll(t *testing.T, text string, words []string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}

// TestDirectoriesRefused holds that a directory in which nothing may be made is an error, before or when it is made.
func TestDirectoriesRefused(t *testing.T) {
	refused := []string{"/proc/fluentd-perf"} // even root's
	if os.Geteuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		refused = append(refused, dir, dir+"/a/b")
	}
	for _, dir := range refused {
		got, err := (&directoryFlags{state: dir}).resolve(around(false, nil), slog.New(slog.DiscardHandler))
		var usage usageError
		if !errors.As(err, &usage) {
			t.Errorf("%s: %+v, %v", dir, got, err)
		}
	}
}

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
	env := map[string]string{"FLUENTD_PERF_SOCKET": "/env.sock", "RUNTIME_DIRECTORY": "/run/x", "HOME": "/home/x"}
	for _, c := range []struct {
		flag socketFlag
		want admin.Place
	}{
		{socketFlag{path: "/flag.sock"}, admin.Place{Path: "/flag.sock", From: "--socket"}},
		{socketFlag{runtime: "/flag"}, admin.Place{Path: "/flag/admin.sock", From: "--runtime-dir"}},
		{socketFlag{runtime: "flag/"}, admin.Place{Path: "flag/admin.sock", From: "--runtime-dir"}},
		{socketFlag{}, admin.Place{Path: "/env.sock", From: "$FLUENTD_PERF_SOCKET"}},
	} {
		places := c.flag.places(around(false, env))
		if len(places) != 1 || places[0] != c.want {
			t.Errorf("%+v: %+v, want %+v", c.flag, places, c.want)
		}
	}
}

// TestVerbsRuntimeDirectory holds that a verb finds the daemon by the directory that serve was given, and takes one name.
func TestVerbsRuntimeDirectory(t *testing.T) {
	daemonFor(t, adminCalls{
		status:     func(context.Context, bool) (statusAnswer, error) { return statusAnswer{Version: "this one"}, nil },
		cacheStats: func(context.Context, bool) (cache.Stats, error) { return cache.Stats{}, nil },
		cachePurge: func(context.Context, string, string) (purgeAnswer, error) { return purgeAnswer{}, nil },
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
