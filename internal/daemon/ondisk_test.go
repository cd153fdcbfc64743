package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestStampsOf: each file that an argument names is looked at, where the program would find it, and no data.
func TestStampsOf(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"server.js", "hook.mjs", "data.db", "build/index.js", "module.py", "package/__main__.py", "project/server.py", "project/other.py",
		"site/index.js", "site/__main__.py", "both.py", "both/__main__.py", "package/part.py", "package/log.py", "notes.json", "notes.md",
		"notes.csv", "notes.TXT", "notes.yaml",
	} {
		writeScript(t, filepath.Join(dir, name))
	}
	for command, want := range map[string]string{
		"node server.js":                                  "server.js",
		"node --import ./hook.mjs server.js":              "hook.mjs server.js",
		"node --import=./hook.mjs -r=hook.mjs server.js":  "hook.mjs server.js",
		"node --require " + dir + "/hook.mjs server":      "hook.mjs server.js",
		"node --import=file://" + dir + "/hook.mjs build": "hook.mjs build/index.js",
		"python -m module":                                "module.py",
		"python -m package":                               "package/__main__.py",
		"uv --directory project run server.py":            "project/server.py",
		"uv --directory=project run server.py":            "project/server.py",
		"uv --project " + dir + "/project other.py":       "project/other.py",
		"node server.js --db data.db --log missing.log":   "server.js",
		"make run -x --y= nothing":                        "",
		"uv --directory":                                  "",

		// Endings are the script's only.
		"server-filesystem site":                         "",
		"mcp-server-git --repository site":               "",
		"npx -y @modelcontextprotocol/server-files site": "",
		"node server.js site":                            "server.js",
		"node server site":                               "server.js",
		"node missing site":                              "",
		"/usr/bin/python3.12 -u -W error -X dev build":   "build/index.js",
		"python -m server_git --repository site":         "",
		"python -m package site":                         "package/__main__.py",
		"python -c code site":                            "",
		"bun run build site":                             "build/index.js",
		"bun x server-filesystem site":                   "",
		"bun --cwd site run other build":                 "",
		"deno run -A npm:server-filesystem site":         "",
		"node --env-file notes.md --conditions x build":  "notes.md build/index.js",
		"uv run python package site":                     "package/__main__.py",
		"uv run --directory project python server site":  "server.js project/server.py",
		"tool --require server --import=build site":      "server.js build/index.js",

		// A module of Python.
		"python -m package.part":              "package/part.py",
		"python -m package.log":               "package/log.py",
		"python -m both":                      "both/__main__.py",
		"uv --directory project run -m other": "project/other.py",

		// Files that agents write.
		"server notes.json notes.md notes.csv notes.TXT notes.yaml": "",
		"server --out notes.json --out=notes.yaml":                  "",
		"server --config notes.json notes.md":                       "notes.json",
		"server --config=notes.yaml notes.md":                       "notes.yaml",
		"server -c notes.json --mcp-settings notes.md":              "notes.json notes.md",
		"uv run --with-requirements notes.TXT server.js":            "notes.TXT server.js",
		"server --config data.db":                                   "",
	} {
		var got []string
		for _, one := range stampsOf(strings.Fields(command), dir) {
			path, err := filepath.Rel(dir, strings.Fields(one)[0])
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, path)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
}

// TestStampsChange: the stamps are others once any of the files is.
func TestStampsChange(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"hook.mjs", "server.js", "project/server.py"} {
		writeScript(t, filepath.Join(dir, name))
	}
	for name, command := range map[string]string{
		"server.js":         "node --import ./hook.mjs server.js",
		"hook.mjs":          "node --import=./hook.mjs server.js",
		"project/server.py": "uv --directory project run server.py",
	} {
		before := stampsOf(strings.Fields(command), dir)
		writeScript(t, filepath.Join(dir, name))
		if slices.Equal(before, stampsOf(strings.Fields(command), dir)) {
			t.Errorf("%s: a changed %s was not noticed", command, name)
		}
	}
}

// TestStampsBound: of a command with many files so many are looked at.
func TestStampsBound(t *testing.T) {
	dir := t.TempDir()
	command := []string{"server"}
	for n := range 2 * maxStamps {
		command = append(command, strconv.Itoa(n))
		writeScript(t, filepath.Join(dir, command[n+1]))
	}
	if n := len(stampsOf(command, dir)); n != maxStamps {
		t.Errorf("%d files, want %d", n, maxStamps)
	}
	if n := len(stampsOf(append(make([]string, 1+maxArguments), command...), dir)); n != 0 {
		t.Errorf("%d files behind many arguments", n)
	}
}

// writeScript writes a file that is another one than the one of that name before: it is longer.
func writeScript(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path) // there may be none
	if err := os.WriteFile(path, append(before, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}
