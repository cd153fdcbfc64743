package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// around makes surroundings of variables. Whoever runs the tests, root may use the system's directory.
func around(root bool, env map[string]string) surroundings {
	return surroundings{
		root: root, env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		usable: func(dir string) error {
			if dir == SystemRuntime() {
				return nil
			}
			return usableDirectory(dir)
		},
	}
}

// TestDirectories holds where the daemon keeps its files, and where verbs look for it.
func TestDirectories(t *testing.T) {
	d := t.TempDir()
	run := SystemRuntime()
	for _, c := range []struct {
		what    string
		named   Paths // by flags
		root    bool
		env     map[string]string
		state   string
		runtime string
		cache   string
		looked  []string // directories in which verbs look
	}{
		{what: "home", env: map[string]string{"HOME": d},
			state: d + "/.local/state/fluentd-perf", runtime: d + "/.local/state/fluentd-perf/run", cache: d + "/.cache/fluentd-perf",
			looked: []string{run, d + "/.local/state/fluentd-perf/run"}},
		{what: "root", root: true, env: map[string]string{"HOME": d},
			state: d + "/.local/state/fluentd-perf", runtime: run, cache: d + "/.cache/fluentd-perf",
			looked: []string{run, d + "/.local/state/fluentd-perf/run"}},
		{what: "XDG", env: map[string]string{"HOME": d, "XDG_STATE_HOME": d + "/s", "XDG_RUNTIME_DIR": d + "/r", "XDG_CACHE_HOME": d + "/c"},
			state: d + "/s/fluentd-perf", runtime: d + "/r/fluentd-perf", cache: d + "/c/fluentd-perf",
			looked: []string{d + "/r/fluentd-perf", run, d + "/s/fluentd-perf/run"}},
		{what: "XDG, relative", env: map[string]string{"HOME": d, "XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r", "XDG_CACHE_HOME": "c"},
			state: d + "/.local/state/fluentd-perf", runtime: d + "/.local/state/fluentd-perf/run", cache: d + "/.cache/fluentd-perf",
			looked: []string{run, d + "/.local/state/fluentd-perf/run"}},
		{what: "systemd", root: true,
			env:   map[string]string{"STATE_DIRECTORY": d + "/a:" + d + "/b", "RUNTIME_DIRECTORY": d + "/c:" + d + "/e", "XDG_RUNTIME_DIR": d + "/r", "CACHE_DIRECTORY": d + "/f:" + d + "/g"},
			state: d + "/a", runtime: d + "/c", cache: d + "/f",
			looked: []string{d + "/c", d + "/r/fluentd-perf", run, d + "/a/run"}},
		{what: "flags", named: Paths{d + "/x/../y", d + "/z", d + "/v/"},
			env:   map[string]string{"STATE_DIRECTORY": d + "/a", "RUNTIME_DIRECTORY": d + "/c", "CACHE_DIRECTORY": d + "/f"},
			state: d + "/y", runtime: d + "/z", cache: d + "/v", looked: []string{d + "/c", run, d + "/a/run"}},
		{what: "one flag", named: Paths{State: d + "/y"}, state: d + "/y", runtime: d + "/y/run", looked: []string{run}},
	} {
		s := around(c.root, c.env)
		got, err := c.named.resolve(s, slog.New(slog.DiscardHandler))
		if err != nil || got != (Paths{c.state, c.runtime, c.cache}) {
			t.Errorf("%s: %+v, %v; want %s, %s and %s", c.what, got, err, c.state, c.runtime, c.cache)
			continue
		}
		if _, err := os.Stat(c.cache); err == nil {
			t.Errorf("%s: the cache directory was made, and nothing needs it", c.what)
		}
		if info, err := os.Stat(c.state); err != nil || info.Mode() != 0o700|os.ModeDir {
			t.Errorf("%s: the state directory: %v, %v", c.what, info, err)
		}
		var looked []string
		for _, p := range s.socketPlaces() {
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
		flags  Paths
		env    map[string]string
		fault  []string // words of the error
		warned []string // words of the warnings
		want   Paths
	}{
		{warned: []string{"there is no $HOME", state, "none is known", runtime}},
		{env: map[string]string{"HOME": "home"}, warned: []string{"there is no $HOME", state, runtime}},
		{env: map[string]string{"HOME": file}, warned: []string{"not a directory", state, runtime}},
		{env: map[string]string{"XDG_STATE_HOME": file, "XDG_RUNTIME_DIR": d + "/r"}, warned: []string{"not a directory", state},
			want: Paths{Runtime: d + "/r/fluentd-perf"}},
		{env: map[string]string{"XDG_STATE_HOME": d + "/s", "XDG_RUNTIME_DIR": file},
			want: Paths{State: d + "/s/fluentd-perf", Runtime: d + "/s/fluentd-perf/run"}},
		{env: map[string]string{"XDG_STATE_HOME": long, "XDG_RUNTIME_DIR": file}, warned: []string{"not a directory", "too long", runtime},
			want: Paths{State: long + "/fluentd-perf"}},
		{flags: Paths{Runtime: d + "/r"}, warned: []string{"there is no $HOME", state}, want: Paths{Runtime: d + "/r"}},
		{flags: Paths{State: d + "/s"}, env: map[string]string{"XDG_RUNTIME_DIR": file}, want: Paths{State: d + "/s", Runtime: d + "/s/run"}},

		{flags: Paths{State: d + "/s"}, env: map[string]string{"XDG_RUNTIME_DIR": d + "/r", "XDG_CACHE_HOME": file}, want: Paths{State: d + "/s", Runtime: d + "/r/fluentd-perf"}},

		{flags: Paths{State: file}, fault: []string{"not a directory", state}},
		{flags: Paths{State: file + "/x"}, fault: []string{"not a directory", state}},
		{env: map[string]string{"STATE_DIRECTORY": file}, fault: []string{"not a directory", state}},
		{env: map[string]string{"STATE_DIRECTORY": "s"}, fault: []string{"$STATE_DIRECTORY is not an absolute path", state}},
		{flags: Paths{State: d + "/s", Runtime: file}, fault: []string{"not a directory", runtime}},
		{flags: Paths{State: d + "/s", Runtime: long}, fault: []string{"too long", runtime}},
		{flags: Paths{State: d + "/s"}, env: map[string]string{"RUNTIME_DIRECTORY": file}, fault: []string{"not a directory", runtime}},
		{flags: Paths{State: d + "/s"}, env: map[string]string{"RUNTIME_DIRECTORY": "r"}, fault: []string{"$RUNTIME_DIRECTORY is not an absolute path"}},
		{flags: Paths{State: d + "/s", Runtime: d + "/r", Cache: file}, fault: []string{"not a directory", "--cache-dir or $CACHE_DIRECTORY"}},
		{flags: Paths{State: d + "/s", Runtime: d + "/r"}, env: map[string]string{"CACHE_DIRECTORY": "c"}, fault: []string{"$CACHE_DIRECTORY is not an absolute path"}},
	} {
		var said bytes.Buffer
		got, err := c.flags.resolve(around(false, c.env), slog.New(slog.NewTextHandler(&said, nil)))
		var usage UsageError
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
		got, err := (&Paths{State: dir}).resolve(around(false, nil), slog.New(slog.DiscardHandler))
		var usage UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%s: %+v, %v", dir, got, err)
		}
	}
}
