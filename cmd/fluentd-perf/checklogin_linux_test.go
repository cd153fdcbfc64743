package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckLoginShell: check runs the login shell as the daemon would, and says what comes of that: where PATH is from, what a server
// does not get, and that the shell fails.
func TestCheckLoginShell(t *testing.T) {
	for _, c := range []struct {
		does, profile  string
		line, warnings string // with HOME for the home directory
	}{
		{"works", `export PATH="$HOME/tools:/usr/bin:/bin" GH_TOKEN=x`,
			"\ncommands are looked for in HOME/tools, /usr/bin, /bin (PATH of the login shell /bin/sh)\n",
			"upstreams: the login shell's environment has GH_TOKEN, which a will not get: name in inherit_env what a server needs"},
		{"fails", `export PATH=/none GH_TOKEN=x; case $- in *i*) exit 3;; esac`,
			"(PATH of the login shell /bin/sh, not interactive: /bin/sh -l -i has ended without saying its environment (exit status 3))\n",
			"processes.path: an interactive login shell does not say its environment: /bin/sh -l -i has ended without saying its environment (exit status 3)" +
				"|upstreams.a: command \"tool\": not found in /none (PATH of the login shell"},
		{"always fails", `exit 3`,
			"\ncommands are looked for in /none, /usr/bin, /bin, HOME/.local/bin, ",
			"/bin/sh -l has ended without saying its environment (exit status 3)|upstreams.a: command \"tool\": not found in /none, /usr/bin, /bin, HOME/.local/bin, "},
	} {
		t.Run(c.does, func(t *testing.T) {
			home := t.TempDir()
			for name, text := range map[string]string{".profile": c.profile, "tools/tool": "", ".local/bin/x": ""} {
				path := filepath.Join(home, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cfg := loadConfig(t, "upstreams: {a: {command: [tool]}, b: {url: \"http://h\"}}\nprocesses: {path: login}", home)
			check := checkOf(t, cfg, []string{"PATH=/none:/usr/bin:/bin", "HOME=" + home, "SHELL=/bin/sh", "XDG_RUNTIME_DIR=" + t.TempDir()})
			var out, warned bytes.Buffer
			if err := check.pathLines(&out); err != nil || !strings.Contains(out.String(), strings.ReplaceAll(c.line, "HOME", home)) {
				t.Errorf("%v: %s", err, &out)
			}
			for _, w := range check.warnings() {
				warned.WriteString(w.String() + "\n")
			}
			for want := range strings.SplitSeq(strings.ReplaceAll(c.warnings, "HOME", home), "|") {
				if !strings.Contains(warned.String(), want) {
					t.Errorf("%q is not in\n%s", want, &warned)
				}
			}
		})
	}
}
