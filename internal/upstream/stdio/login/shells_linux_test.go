package login

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/upstream/stdio/process"
)

// long is a limit that no shell meets which works.
const long = time.Minute

// node is the directory of a node that a version manager has put into the home directory.
const node = "/.nvm/versions/node/v22.3.0/bin"

// shell is what people have for a login shell, and how its start files say things.
type shell struct {
	files     map[string]string // by name, with LINES for what they do
	set       string            // sets PATH and a variable
	ask       string
	alone     string         // does what follows in an interactive shell alone
	also      string         // a variable that another of the files sets
	otherwise map[string]int // by what start files do: how many runs fail, where that is not as usual
}

var shells = map[string]shell{
	"bash": {
		files: map[string]string{".bash_profile": `. "$HOME/.bashrc"`, ".bashrc": "LINES"},
		set:   `export PATH="$HOME` + node + `:/usr/bin:/bin" BY_START_FILES="a b=c"`,
		ask:   "read answer", alone: "[[ $- != *i* ]] || ",
	},
	"zsh": {
		files: map[string]string{".zprofile": "LINES", ".zshrc": "export BY_RC=1"},
		set:   `export PATH="$HOME` + node + `:/usr/bin:/bin" BY_START_FILES="a b=c"`,
		ask:   "read answer", alone: "[[ ! -o interactive ]] || ", also: "BY_RC",
	},
	"fish": {
		files: map[string]string{".config/fish/config.fish": "LINES"},
		set:   "set -gx PATH $HOME" + node + " /usr/bin /bin\nset -gx BY_START_FILES 'a b=c'",
		ask:   "read answer", alone: "status is-interactive; and ",
		otherwise: map[string]int{"fail": 0}, // exit ends the file
	},
	"tcsh": {
		files: map[string]string{".tcshrc": "LINES", ".login": "setenv BY_LOGIN 1"},
		set:   `setenv PATH "${HOME}` + node + `:/usr/bin:/bin"` + "\nsetenv BY_START_FILES 'a b=c'",
		ask:   "set answer = $<", alone: "if ($?prompt) ", also: "BY_LOGIN",
		otherwise: map[string]int{"fail": 0, "become another shell": 0}, // with -c there is no prompt
	},
}

// home are the files of a home directory in which start files do something.
func (s shell) home(lines string) map[string]string {
	lines = strings.NewReplacer("ASK", s.ask, "ALONE ", s.alone).Replace(s.set + "\n" + lines + "\n")
	files := map[string]string{}
	for name, text := range s.files {
		files[name] = strings.ReplaceAll(text, "LINES", lines) + "\n"
	}
	return files
}

// startFiles are what people's start files do, and how many runs of the shell fail with it.
var startFiles = map[string]struct {
	lines    string
	limit    time.Duration
	failures int
	says     string // in the failures
}{
	"print":                 {`echo hello; sh "$HOME/noise"`, long, 0, ""},
	"ask":                   {"ASK", long, 0, ""},
	"have a job":            {"sleep 1000 &", long, 0, ""},
	"start tmux":            {`sh "$HOME/tmux" new-session -d`, long, 0, ""},
	"become another shell":  {"ALONE exec sh", long, 1, "has ended without saying its environment (exit status 0)"},
	"always become another": {"exec sh", long, 2, "has ended without saying its environment (exit status 0)"},
	"fail":                  {"sh -c 'echo no luck today >&2'; exit 1", long, 2, "(exit status 1), its stderr ends with: no luck today"},
	"hang":                  {"sleep 1000", 300 * time.Millisecond, 2, "has not said its environment within 300ms"},
}

// homeFiles are in every home directory: a program that writes more than a pipe holds, a tmux that leaves its session and ends on
// SIGKILL only, and a node that a version manager has put there.
var homeFiles = map[string]string{
	"noise":                             "i=0; while [ $i -lt 2000 ]; do echo a line of sixty-four bytes which is a long line to be skipped; i=$((i+1)); done; echo >&2 noise",
	"tmux":                              "trap '' HUP TERM INT\nsetsid sh -c 'trap \"\" HUP TERM INT; while :; do sleep 1000; done' >/dev/null 2>&1 &\n",
	".nvm/versions/node/v9.1.0/bin/x":   "",
	".nvm/versions/node/v22.20.0/bin/x": "",
	".nvm/versions/node/v22.3.0/bin/x":  "",
	".local/bin/x":                      "",
}

// newHome makes a home directory, and returns the environment of a daemon that has it.
func newHome(t *testing.T, files map[string]string) (home string, environ []string) {
	t.Helper()
	home = t.TempDir()
	for _, all := range []map[string]string{homeFiles, files} {
		for name, text := range all {
			path := filepath.Join(home, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	environ = []string{
		"HOME=" + home, "TMPDIR=" + home, "PATH=/usr/bin:/bin", "TERM=xterm-of-the-daemon", "FROM_THE_DAEMON=1",
		"NOTIFY_SOCKET=/run/none", "XDG_RUNTIME_DIR=" + t.TempDir(),
	}
	return home, environ
}

// lookShell finds a shell.
func lookShell(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("these tests need %s, as from the Debian package of that name (make setup): %v", name, err)
	}
	return path
}

// TestShells runs each shell with each kind of start files. Where the shell gets that far, what they set is found, and of what they
// started nothing is left.
func TestShells(t *testing.T) {
	for name, kind := range shells {
		for does, c := range startFiles {
			t.Run(name+"/"+does, func(t *testing.T) {
				t.Parallel()
				path := lookShell(t, name)
				home, environ := newHome(t, kind.home(c.lines))
				env := resolveWith(t, Options{Environ: append(environ, "SHELL="+path), Limit: c.limit})
				checkNothingLeft(t, home, environ)
				failures, differs := kind.otherwise[does]
				if !differs {
					failures = c.failures
				}
				if len(env.Failures) != failures || failures > 0 && !strings.Contains(env.reasons(), c.says) {
					t.Errorf("failures %v, want %d with %q", env.Failures, failures, c.says)
				}
				if failures == 2 {
					checkOwn(t, env, home)
				} else {
					checkMade(t, env, home, path)
				}
				if failures == 0 && kind.also != "" && process.Lookup(env.Words, kind.also) != "1" {
					t.Errorf("without %s: %q", kind.also, env.Words)
				}
			})
		}
	}
}

// resolveWith finds an environment, and returns when nothing of the runs is left.
func resolveWith(t *testing.T, o Options) Environment {
	t.Helper()
	r := New(o)
	env, err := r.Environment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	return env
}

// checkMade checks an environment that a shell has made.
func checkMade(t *testing.T, env Environment, home, path string) {
	t.Helper()
	for name, want := range map[string]string{
		"PATH": home + node + ":/usr/bin:/bin", "BY_START_FILES": "a b=c", "HOME": home, "SHELL": path,
		"TERM": "xterm-of-the-daemon", "FROM_THE_DAEMON": "1", "NOTIFY_SOCKET": "", resolvingName: "", "PWD": "", "SHLVL": "",
	} {
		if got := process.Lookup(env.Words, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if env.Shell != path || !strings.HasPrefix(env.Source(), "PATH of the login shell "+path) {
		t.Errorf("made by %q: %s", env.Shell, env.Source())
	}
}

// checkOwn checks an environment that no shell has made.
func checkOwn(t *testing.T, env Environment, home string) {
	t.Helper()
	got := process.Lookup(env.Words, "PATH")
	want := "/usr/bin:/bin:" + home + "/.local/bin:" + home + "/.nvm/versions/node/v22.20.0/bin"
	if !strings.HasPrefix(got, want) || env.Shell != "" || process.Lookup(env.Words, "FROM_THE_DAEMON") != "1" {
		t.Errorf("PATH is %s, want %s...; made by %q: %q", got, want, env.Shell, env.Words)
	}
	if !strings.HasPrefix(env.Source(), "the daemon's PATH and the usual directories, since ") {
		t.Error(env.Source())
	}
}

// checkNothingLeft looks for processes that have the home directory in their environment, and for what was in the runtime directory.
func checkNothingLeft(t *testing.T, home string, environ []string) {
	t.Helper()
	for _, pid := range processesOf(t, home) {
		command, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		t.Errorf("process %d is left: %q", pid, command)
	}
	left, err := os.ReadDir(process.Lookup(environ, "XDG_RUNTIME_DIR"))
	for _, entry := range left {
		if strings.HasPrefix(entry.Name(), "fluentd-perf-") { // fish has files of its own there
			err = fmt.Errorf("%s is left", entry.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// processesOf returns the processes with that home directory. Zombies have no environment any more.
func processesOf(t *testing.T, home string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(append([]byte{0}, text...), []byte("\x00HOME="+home+"\x00")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		pids = append(pids, pid)
	}
	return pids
}
