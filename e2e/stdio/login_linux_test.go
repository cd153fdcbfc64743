package stdio

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestLoginShell: a program that only a version manager's directory has is found by a daemon with `path: login`, and by check. On a
// machine that is so slow that the shell counts as hung, it is found as well: that directory is a usual one.
func TestLoginShell(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	command := serverCommand(t, "counting", "legacy")
	tools := filepath.Join(home, ".nvm/versions/node/v22.20.0/bin")
	for path, text := range map[string]string{
		filepath.Join(tools, "nodelike"): "#!/bin/sh\nexec '" + command[0] + "' \"$@\"\n",
		filepath.Join(home, ".profile"):  "echo welcome; PATH=" + tools + ":$PATH; export PATH\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := harness.Config{
		Upstreams: map[string]string{"s": fmt.Sprintf("{command: [nodelike, %s]}", strings.Join(command[1:], ", "))},
		Top:       "processes: {path: login}", Env: []string{"HOME=" + home, "SHELL=/bin/sh"},
	}.In(harness.NewFolders(t))
	d := harness.Start(t, c)
	if pid, calls := count(t, connect(t, d.URL(""), "s")); calls != 1 {
		t.Errorf("process %d, %d calls", pid, calls)
	}
	if n := strings.Count(d.Out.String(), " login shell"); n == 0 {
		t.Errorf("the log does not say where PATH is from:\n%s", d.Out)
	}
	check := exec.CommandContext(t.Context(), harness.DaemonBinary, "check", "--config", c.File(t))
	check.Env = append(os.Environ(), c.Env...)
	out, err := check.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(tools)) || bytes.Contains(out, []byte("not found")) {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// TestPrintEnvironment: the program writes its environment to a file that is the user's alone, and says nothing.
func TestPrintEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "environment")
	program := exec.CommandContext(t.Context(), harness.DaemonBinary, "print-environment", file)
	program.Env = []string{"A=1\n2", "B=" + strings.Repeat("x", 100_000)}
	if out, err := program.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	text, err := os.ReadFile(file)
	if want := strings.Join(program.Env, "\x00") + "\x00"; err != nil || string(text) != want {
		t.Errorf("%v, %d bytes", err, len(text))
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	program = exec.CommandContext(t.Context(), harness.DaemonBinary, "print-environment")
	if out, err := program.CombinedOutput(); err == nil || !strings.Contains(string(out), "it takes a file") {
		t.Errorf("%v: %s", err, out)
	}
}
