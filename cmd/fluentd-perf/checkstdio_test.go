package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

// TestStdioWarnings: check says what will probably not work of servers that are commands.
func TestStdioWarnings(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("bin/srv", "", 0o755)
	write("bin/crlf", "#!/bin/sh\r\nexit\r\n", 0o755)
	write("bin/docker", "", 0o755)
	write("bin/plain", "", 0o644)
	bin := filepath.Join(dir, "bin")
	environ := []string{"PATH=/none:" + bin, "GH_TOKEN=x", "AWS_PROFILE=y", "UV_INDEX_URL=z", "UV_PUBLISH_TOKEN=z", "EDITOR=vi"}
	const lacks = "upstreams: this environment has AWS_PROFILE, GH_TOKEN, UV_PUBLISH_TOKEN, which a will not get: name in inherit_env what a server needs"
	const here = "(PATH of this environment; a service manager may give the daemon another)"

	for _, c := range []struct {
		entry string
		want  []string
	}{
		{`command: [srv]`, []string{lacks}},
		{`command: [srv], env: {GH_TOKEN: ""}, inherit_env: ["AWS_*", "UV_*"]`, nil},
		{`command: [srv], inherit_env: [GH_TOKEN]`, []string{strings.Replace(lacks, ", GH_TOKEN", "", 1)}},
		{`command: [gone]`, []string{`upstreams.a: command "gone": not found in /none, ` + bin + " " + here, lacks}},
		{`command: [plain]`, []string{`upstreams.a: command "plain": exec ` + bin + `/plain: permission denied`, lacks}},
		{`command: [srv], env: {PATH: "/x:/y"}`, []string{`upstreams.a: command "srv": not found in /x, /y (PATH of its env)`, lacks}},
		{`command: [bin/srv]`, []string{lacks}},
		{`command: [bin/plain]`, []string{`upstreams.a: command "bin/plain": exec ` + bin + `/plain: permission denied`, lacks}},
		{`command: [./none]`, []string{`upstreams.a: command "./none": stat ` + dir + `/none: no such file or directory`, lacks}},
		{`command: [bin/crlf]`, []string{`upstreams.a: command "bin/crlf": the interpreter "/bin/sh\r" of its #! line is not there, the lines end with CR LF`, lacks}},
		{`command: [srv], cwd: gone`, []string{`upstreams.a: cwd "` + dir + `/gone" is no directory`, lacks}},
		{`command: [docker, run, -i, image]`, []string{`upstreams.a: starts a container, which the daemon cannot end by itself: it closes stdin and sends TERM to the client; write docker run -i --rm --init`, lacks}},
		{`command: [docker, run, -i, --rm, --init, image]`, []string{`upstreams.a: starts a container, which the daemon cannot end by itself: it closes stdin and sends TERM to the client`, lacks}},
		{`command: [docker, ps]`, []string{lacks}},
		{`url: http://h`, nil},
	} {
		check := checkOf(t, loadConfig(t, "upstreams: {a: {"+c.entry+"}}\nprocesses: {path: inherit}", dir), environ)
		check.cgroups, check.cgroupOf = dir, filepath.Join(dir, "none")
		var got []string
		for _, w := range check.warnings() {
			got = append(got, w.String())
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\ngot  %q\nwant %q", c.entry, got, c.want)
		}
	}
}

// TestSearchPath: processes.path is searched in place of PATH.
func TestSearchPath(t *testing.T) {
	cfg := loadConfig(t, "upstreams: {a: {command: [sh]}}\nprocesses: {path: [/none, /gone]}", t.TempDir())
	check := checkOf(t, cfg, os.Environ())
	if got, want := check.startWarnings(cfg.Upstreams[0]), `command "sh": not found in /none, /gone (processes.path)`; len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %s", got, want)
	}
	var out bytes.Buffer
	if err := check.pathLines(&out); err != nil || out.String() != "\ncommands are looked for in /none, /gone (processes.path)\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// checkOf is the check of servers that are commands, in an environment.
func checkOf(t *testing.T, cfg *config.Config, environ []string) stdioCheck {
	t.Helper()
	check, err := newStdioCheck(t.Context(), cfg, environ, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return check
}

func loadConfig(t *testing.T, text, home string) *config.Config {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{
		File: "f.yaml", Env: func(string) (string, bool) { return home, true }, ReadFile: func(string) ([]byte, error) { return []byte(text), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestLimitsNeedACgroup: a limit that nothing holds a server to is said.
func TestLimitsNeedACgroup(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "user", "unit.service")
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", "/nowhere") // that of the environment is looked at, and only that
	of := filepath.Join(dir, "cgroup")
	cfg := loadConfig(t, "upstreams: {a: {command: [/bin/sh], processes: {tasks: 9}}, b: {command: [/bin/sh]}}\nprocesses: {path: inherit}", dir)
	check := checkOf(t, cfg, []string{"PATH=" + dir})
	check.cgroups, check.cgroupOf = dir, of
	warned := func(want bool, what string) {
		t.Helper()
		all := check.warnings()
		if got := len(all) == 1 && strings.HasPrefix(all[0].String(), "processes: a daemon started from here cannot hold a to memory and tasks"); got != want || !want && len(all) > 0 {
			t.Errorf("%s: %v", what, all)
		}
	}
	warned(true, "no cgroup")
	write(of, "0::/\n")
	warned(true, "the root's")
	write(of, "1:cpu:/x\n0::/user/unit.service\n")
	warned(true, "one without files")
	write(filepath.Join(own, "cgroup.subtree_control"), "")
	write(filepath.Join(own, "cgroup.controllers"), "cpu memory\n")
	warned(true, "one without pids")
	write(filepath.Join(own, "cgroup.controllers"), "memory pids\n")
	warned(false, "a delegated one")
	write(of, "0::/\n")
	for program, text := range map[string]string{"true": "#!/bin/sh\n", "systemd-run": "#!/bin/sh\nexit 1\n"} {
		write(filepath.Join(dir, program), text)
		if err := os.Chmod(filepath.Join(dir, program), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	warned(true, "a systemd-run that fails")
	write(filepath.Join(dir, "systemd-run"), "#!/bin/sh\n")
	warned(false, "one that works")
	cfg.Upstreams[0].Stdio.Processes.Tasks = 0
	write(of, "")
	warned(false, "no limits")
}

// TestCheckOfCommands runs the verb. What is not found here is looked for in the login shell's PATH.
func TestCheckOfCommands(t *testing.T) {
	for name, value := range map[string]string{"HOME": t.TempDir(), "SHELL": "/bin/sh", "XDG_RUNTIME_DIR": t.TempDir()} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "XPC_SERVICE_NAME", "DISPLAY", "WAYLAND_DISPLAY", "XDG_CURRENT_DESKTOP"} {
		t.Setenv(name, "") // no service manager and no desktop
	}
	var out, errs bytes.Buffer
	code := run([]string{"check", "--stdio", "sh=sh -c 'exec cat'", "--stdio", "gone=no-such-program-here"}, &out, &errs)
	for _, want := range []string{`sh        stdio      sh -c "exec cat"`, "\nthe commands of gone are looked for in ", "\nthe commands of sh are looked for in "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if want := `warning: upstreams.gone: command "no-such-program-here": not found in `; code != 0 || !strings.Contains(errs.String(), want) || strings.Contains(errs.String(), "upstreams.sh: command") {
		t.Errorf("%d: %s", code, errs.String())
	}
}

// TestCommandsUnderTheSystemUnit: check and serve refuse commands there, and check does where it is asked to.
func TestCommandsUnderTheSystemUnit(t *testing.T) {
	const why = "--stdio sh: is refused in the system's unit"
	said := func(args ...string) string {
		var out, errs bytes.Buffer
		if code := run(append(args, "--stdio", "sh=sh"), &out, &errs); code != 0 && code != exitUsage {
			t.Errorf("%q: exit code %d", args, code)
		}
		return errs.String()
	}
	if text := said("check"); strings.Contains(text, why) {
		t.Errorf("check: %s", text)
	}
	if text := said("check", "--system"); !strings.Contains(text, why) {
		t.Errorf("check --system: %s", text)
	}
	name, value := unitVariable(t, "../../deploy/systemd/fluentd-perf.service")
	if name == "" {
		t.Fatal("the system's unit does not say that it is that")
	}
	if own, _ := unitVariable(t, "../../deploy/systemd/user/fluentd-perf.service"); own != "" {
		t.Errorf("the user unit sets %s", own)
	}
	t.Setenv(name, value)
	for _, verb := range []string{"check", "serve"} {
		if text := said(verb); !strings.Contains(text, why) {
			t.Errorf("%s with the unit's environment: %s", verb, text)
		}
	}
}

// unitVariable returns the variable of the daemon's that a unit sets.
func unitVariable(t *testing.T, file string) (name, value string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if set, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			name, value, _ = strings.Cut(set, "=")
		}
	}
	return name, value
}
