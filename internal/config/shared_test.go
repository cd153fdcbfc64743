package config_test

import (
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/config"
)

// The ways to say that the sessions of a command share a process, and where else that means nothing.
func TestSharedSessions(t *testing.T) {
	f := files{
		"f.yaml": `
upstreams:
  word: {command: [x], sessions: shared}
  key: {command: [x], sessions: {heal: all, mode: shared}}
  own: {command: [x], sessions: per-agent}
  plain: {command: [x]}
`,
		"m.json": `{"mcpServers": {
  "entry": {"command": "x", "fluentd-perf": {"sessions": "shared"}},
  "mapping": {"command": "x", "fluentd-perf": {"sessions": {"mode": "shared"}}},
  "after": {"command": "x"}}}`,
		"$HOME": "/h",
	}
	for _, c := range []struct {
		shared []string
		want   map[string]bool
	}{
		{nil, map[string]bool{"word": true, "key": true, "entry": true, "mapping": true}},
		{[]string{"own", "after", "flag"}, map[string]bool{"word": true, "key": true, "entry": true, "mapping": true, "own": true, "after": true, "flag": true}},
	} {
		cfg := mustLoad(t, f, config.Sources{File: "f.yaml", MCPJSON: []string{"m.json"}, Stdio: []string{"flag=x"}, Shared: c.shared})
		if len(cfg.Upstreams) != 8 {
			t.Errorf("%d upstreams", len(cfg.Upstreams))
		}
		for _, u := range cfg.Upstreams {
			if isShared := u.Sessions.Mode == config.SessionsShared; isShared != c.want[u.Name] {
				t.Errorf("--shared %v: %s is %s", c.shared, u.Name, u.Sessions.Mode)
			}
			if want := map[bool]config.Heal{true: config.HealAll, false: config.HealReads}[u.Name == "key"]; u.Sessions.Heal != want {
				t.Errorf("%s heals %s", u.Name, u.Sessions.Heal)
			}
		}
	}
}

// TestUnusedKeys: what is given and means nothing after all is said, with its place.
func TestUnusedKeys(t *testing.T) {
	f := files{
		"f.yaml": `
upstreams:
  both:
    command: [x]
    sessions: shared
    processes: {warm: 0, lazy: false}
  flag:
    command: [npx, x]
    processes: {warm: 3}
  node: {command: [node, x], resolve: false, processes: {refresh: 1h}}
  off: {command: [/usr/bin/npx, x], resolve: false, processes: {refresh: 1h}}
  used: {command: [npx, x], resolve: true, processes: {refresh: 1h, warm: 2, lazy: true}}
  shared: {command: [npx, x], sessions: shared, resolve: true, processes: {refresh: 1h}}
`,
		"m.json": `{"mcpServers": {"entry": {"command": "uvx", "args": ["x"], "fluentd-perf": {"sessions": "shared", "resolve": true, "processes": {"warm": 1}}}}}`,
		"$HOME":  "/h",
	}
	cfg, warnings, err := f.load(config.Sources{File: "f.yaml", MCPJSON: []string{"m.json"}, Shared: []string{"flag"}})
	if err != nil || len(cfg.Upstreams) != 7 {
		t.Fatal(err, cfg)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	const shared, npx = ": means nothing where sessions share a process: there is one, which is ready", ": means nothing with a command that is not npx"
	want := []string{
		"f.yaml:6: upstreams.both.processes.warm" + shared, "f.yaml:6: upstreams.both.processes.lazy" + shared,
		"f.yaml:9: upstreams.flag.processes.warm" + shared,
		"f.yaml:10: upstreams.node.resolve" + npx, "f.yaml:10: upstreams.node.processes.refresh" + npx,
		"f.yaml:11: upstreams.off.processes.refresh: means nothing with resolve: false",
		"m.json:1: mcpServers.entry.fluentd-perf.resolve" + npx, "m.json:1: mcpServers.entry.fluentd-perf.processes.warm" + shared,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFaultsOfSharedFlags(t *testing.T) {
	f := files{"f.yaml": "upstreams: {a: {command: [x]}, web: {url: http://h}}", "broken.yaml": "upstreams: {a: {command: []}}", "$HOME": "/h"}
	for _, c := range []struct{ file, name, want string }{
		{"f.yaml", "web", "--shared web: is no command: its sessions are its own"},
		{"f.yaml", "wep", "--shared wep: names no server; did you mean web?"},
		{"f.yaml", "", `--shared "": names no server; known here: a, web`},
		{"broken.yaml", "a", "broken.yaml:1: upstreams.a.command: must name a program"},
		{"missing.yaml", "a", "missing.yaml: cannot be read: no such file or directory"},
	} {
		_, _, err := f.load(config.Sources{File: c.file, Shared: []string{c.name}})
		if err == nil || err.Error() != c.want {
			t.Errorf("--shared %s: %v, want %s", c.name, err, c.want)
		}
	}
}
