package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/safefile"
	"fluentd-perf/internal/upstream/stdio/process"
)

// resolvingName is a variable by which start files can see why the shell runs.
const resolvingName = "FLUENTD_PERF_RESOLVING"

// managerNames are variables by which a service manager knows the daemon. A shell and what it starts have no business with it.
var managerNames = []string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// run is one run of the shell. It is to be ended.
type run struct {
	shell   invocation
	dir     string // of the run's own
	guard   *process.Guard
	process *process.Process // nil where none was started
	drained chan struct{}    // closed: nobody writes to the shell's stdout any more
}

// start runs the shell with an environment. ctx bounds the start alone.
func start(ctx context.Context, shell string, interactive bool, environ []string) (*run, error) {
	dir, err := privateDirectory(environ)
	if err != nil {
		return nil, err
	}
	r := &run{dir: dir, guard: process.NewGuard(process.Options{}), drained: make(chan struct{})}
	program, err := os.Executable()
	if err == nil {
		err = os.Symlink(program, r.program()) // which has a path of plain letters, wherever the binary is
	}
	if err == nil {
		r.shell = invoke(shell, interactive, strings.Join([]string{r.program(), printVerb, r.file()}, " "))
		r.process, err = r.guard.Start(ctx, process.Spec{
			Name: "login shell", Command: r.shell.command, Arg0: r.shell.arg0, Dir: directoryOf(environ), Env: shellEnvironment(environ, shell),
		})
	}
	if err != nil {
		close(r.drained)
		r.end()
		return nil, err
	}
	r.process.Stdin().Close()
	go func() {
		_, _ = io.Copy(io.Discard, r.process.Stdout())
		close(r.drained)
	}()
	return r, nil
}

func (r *run) program() string { return filepath.Join(r.dir, "fluentd-perf") }
func (r *run) file() string    { return filepath.Join(r.dir, "environment") }

// shellEnvironment is what the shell starts with.
func shellEnvironment(environ []string, shell string) []string {
	for _, name := range managerNames {
		environ = withVariable(environ, name, "")
	}
	for name, value := range map[string]string{"SHELL": shell, "TERM": "dumb", resolvingName: "1"} {
		environ = withVariable(environ, name, value)
	}
	return environ
}

// directoryOf is where the shell starts: at home.
func directoryOf(environ []string) string {
	home := process.Lookup(environ, "HOME")
	if info, err := os.Stat(home); err == nil && info.IsDir() && filepath.IsAbs(home) {
		return home
	}
	return string(filepath.Separator)
}

// environment waits for the shell's end, as long as ctx lasts, and returns what it has said by then. limit is what ctx has.
func (r *run) environment(ctx context.Context, limit time.Duration) ([]string, error) {
	ended := true
	select {
	case <-r.process.Done():
	case <-ctx.Done():
		ended = false
	}
	text, _, err := safefile.Read(r.file(), maxEnvironment)
	switch {
	case err == nil:
		return decode(text), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%v: %w", r.shell, err)
	case !ended:
		return nil, fmt.Errorf("%w%s", silent(r.shell, limit), r.stderr())
	}
	return nil, fmt.Errorf("%v has ended without saying its environment (%v)%s", r.shell, r.process.Exit(), r.stderr())
}

// silent is the error of a shell that was given so long.
func silent(shell invocation, limit time.Duration) error {
	return fmt.Errorf("%v has not said its environment within %v", shell, limit)
}

// stderr is the last line of the shell's, for an error.
func (r *run) stderr() string {
	lines := slices.DeleteFunc(r.process.Stderr(), func(line string) bool {
		return strings.Contains(line, "job control") || strings.Contains(line, "terminal process group") // which it always says
	})
	if len(lines) == 0 {
		return ""
	}
	return ", its stderr ends with: " + lines[len(lines)-1]
}

// end ends what is left of the shell and all that it has started, with SIGKILL after half a second, and removes the directory.
func (r *run) end() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	r.guard.Close(now)
	if r.process != nil {
		_ = r.process.Stdout().Close()
	}
	<-r.drained
	_ = os.RemoveAll(r.dir)
}

// plainPath are paths that no shell reads as anything else.
var plainPath = regexp.MustCompile(`^/[a-zA-Z0-9_./-]*$`)

// privateDirectory makes a directory that is the user's alone, in memory where there is such a place: an environment has secrets.
func privateDirectory(environ []string) (dir string, err error) {
	err = errors.New("no directory for temporary files has a plain path")
	for _, parent := range []string{process.Lookup(environ, "XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if !plainPath.MatchString(parent) {
			continue
		}
		if dir, err = os.MkdirTemp(parent, "fluentd-perf-environment-"); err == nil { // 0700
			return dir, nil
		}
	}
	return "", err
}
