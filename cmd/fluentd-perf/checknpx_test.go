package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// npxHome makes a home with a configuration of npx commands, and programs beside it that say what npm would. It returns both.
func npxHome(t *testing.T) (home, file string) {
	t.Helper()
	dir := t.TempDir()
	home, bin := filepath.Join(dir, "home"), filepath.Join(dir, "bin")
	files := map[string]string{
		"bin/npx": "#!/bin/sh\n", "bin/uvx": "#!/bin/sh\n", "home/project/.npmrc": "",
		"bin/npm": `#!/bin/sh
echo '{"npm-version": "11.0.0", "prefix": "` + home + `/global", "userconfig": "` + home + `/.npmrc", "globalconfig": "/none", "yes": null}'
`,
		"f.yaml": `upstreams:
  files: {command: [npx, -y, "@s/files@1.2.3", /data]}
  latest: {command: [npx, -y, latest-one]}
  project: {command: [npx, -y, "pkg@1.0.0"], cwd: project}
  flags: {command: [npx, --quiet, pkg]}
  off: {command: [npx, -y, pkg], resolve: false}
  own: {command: [npx, -y, "pkg@1.0.0"], env: {npm_config_registry: "http://r/"}}
  git: {command: [uvx, "mcp-server-git>=1"]}
  sh: {command: [/bin/sh]}
`,
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("this test runs node (make setup): %v", err)
	}
	if err := os.Symlink(node, filepath.Join(bin, "node")); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"HOME": home, "PATH": bin + ":/usr/bin:/bin", "XDG_CACHE_HOME": "", "CACHE_DIRECTORY": "", "npm_config_userconfig": ""} {
		t.Setenv(name, value)
		if value == "" {
			os.Unsetenv(name)
		}
	}
	return home, filepath.Join(dir, "f.yaml")
}

// TestCheckNPX: check says of each npx command whether it is resolved, why not, and which packages of npx and uvx have no exact version.
func TestCheckNPX(t *testing.T) {
	home, file := npxHome(t)
	const asWritten = ": npx runs as it is written, and asks its registry at each start: "
	code, out, errs := command("check", "--config", file)
	for _, want := range []string{
		"warning: upstreams.project" + asWritten + home + "/project/.npmrc may name another registry\n",
		"warning: upstreams.flags" + asWritten + "its flag --quiet is not known here\n",
		"warning: upstreams.own" + asWritten + "the entry has its own npm_config_registry, which npm reads\n",
		"warning: upstreams: no exact version has mcp-server-git>=1 of git, latest-one of latest, pkg of off: what is published next, runs next; ",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("exit %d, not said: %s\nbut\n%s", code, want, errs)
		}
	}
	const table = `
NPX COMMAND OF PACKAGE INSTALLED RUNS
files @s/files@1.2.3 - without npx
flags - - as it is written: its flag --quiet is not known here
latest latest-one - without npx
own - - as it is written: the entry has its own npm_config_registry, which npm reads
project - - as it is written: HOME/project/.npmrc may name another registry
`
	if got := squeezed(out); code != 0 || !strings.HasSuffix(got+"\n", strings.ReplaceAll(table, "HOME", home)) {
		t.Errorf("exit %d\n%s", code, got)
	}
	if code, out, _ := command("check", "--config", file, "-o", "json"); code != 0 || !strings.Contains(out, `"upstream": "files",`+"\n"+`      "package": "@s/files@1.2.3"`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(home, ".cache")); err == nil {
		t.Error("check has written something")
	}
}
