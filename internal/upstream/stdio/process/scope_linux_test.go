package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/upstream/stdio/guard"
)

// systemdRun is a made-up systemd-run, found by PATH, and what it was called with.
type systemdRun struct {
	t   *testing.T
	dir string
}

const (
	// becomes replaces it by the command, as the real one does, and gives that the variables of --setenv.
	becomes = `while [ "$1" != -- ]; do case "$1" in --setenv=*) export "${1#--setenv=}";; esac; shift; done; shift; exec "$@"`
	noBus   = "echo Failed to connect to bus >&2; exit 1"
	unknown = `case "$*" in *--expand-environment*) echo "unrecognized option '--expand-environment=no'" >&2; exit 1;; esac; `
)

// newSystemdRun makes one that notes its arguments and its environment, and runs a script then; "": there is none.
func newSystemdRun(t *testing.T, script string) *systemdRun {
	t.Helper()
	r := &systemdRun{t, t.TempDir()}
	t.Setenv("PATH", r.dir+":/bin:/usr/bin")
	if script == "" {
		t.Setenv("PATH", r.dir)
		return r
	}
	r.is(script)
	return r
}

// is makes it another one.
func (r *systemdRun) is(script string) {
	r.t.Helper()
	text := "#!/bin/sh\necho \"$XDG_RUNTIME_DIR $DBUS_SESSION_BUS_ADDRESS\" >>" + r.dir + "/env\necho \"$@\" >>" + r.dir + "/calls\n" + script + "\n"
	next := filepath.Join(r.dir, "next")
	if err := os.WriteFile(next, []byte(text), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(r.dir, guard.ScopeProgram)); err != nil {
		r.t.Fatal(err)
	}
}

// lines are what it has noted.
func (r *systemdRun) lines(file string) []string {
	text, _ := os.ReadFile(filepath.Join(r.dir, file))
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// scopedGuard is a guard that uses scopes, and its log, which is to be read after the end.
func scopedGuard(t *testing.T) (*Guard, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	g := newGuard(Options{Log: slog.New(slog.NewTextHandler(log, nil)), Scopes: true}, shortLadder)
	t.Cleanup(func() { g.Close(context.Background()) })
	return g, log
}

func withLimits(s Spec) Spec {
	s.Memory, s.Tasks = 1<<30, 64
	return s
}

// TestScope: where the daemon has no cgroup, a start with limits goes through systemd-run, once it was seen to work.
func TestScope(t *testing.T) {
	scope := strings.Join(append([]string{"--user --scope --quiet --collect"}, boundTo(ownUnit())...), " ")
	const limits = " --description=fluentd-perf: echo -p MemoryMax=1073741824 -p TasksMax=64 -- "
	for name, c := range map[string]struct {
		script string // of systemd-run; "": there is none
		want   string // its arguments, without the program's
		tries  int
		warns  bool
	}{
		"works":            {becomes, scope + " --expand-environment=no" + limits, 1, false},
		"before 254 works": {unknown + becomes, scope + limits, 2, false},
		"fails":            {noBus, "", 1, true},
		"before 254 fails": {unknown + noBus, "", 2, true},
		"none":             {"", "", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			run := newSystemdRun(t, c.script)
			g, log := scopedGuard(t)
			for range 2 {
				wantPID(t, g, withLimits(spec("echo", "$HOME", "${HOME}")))
			}
			wantPID(t, g, spec("echo")) // it has no limits
			g.Close(context.Background())
			want := c.want + strings.Join(childCommand("echo", "$HOME", "${HOME}"), " ")
			lines := run.lines("calls")
			if c.want != "" && (len(lines) != c.tries+2 || lines[c.tries] != want || lines[c.tries+1] != want) {
				t.Errorf("it was called with\n%s\nwant\n%s", strings.Join(lines, "\n"), want)
			}
			if c.want == "" && c.tries > 0 && len(lines) != c.tries {
				t.Errorf("it was called %d times, want %d", len(lines), c.tries)
			}
			if n := strings.Count(log.String(), "have no effect"); n > 1 || (n == 1) != c.warns {
				t.Errorf("the log has\n%s", log.String())
			}
		})
	}
}

// TestScopeEnvironment: systemd-run asks the daemon's systemd, whatever the server's environment is, which that has all the same.
func TestScopeEnvironment(t *testing.T) {
	run := newSystemdRun(t, becomes)
	t.Setenv("XDG_RUNTIME_DIR", "/the/daemon")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/of/the/daemon")
	g, _ := scopedGuard(t)
	for own, want := range map[string]string{"XDG_RUNTIME_DIR=/its/own": "/its/own", "XDG_RUNTIME_DIR=/the/daemon": "/the/daemon", "OTHER=x": ""} {
		text := output(t, g, withLimits(Spec{
			Name: "s", Command: []string{"/bin/sh", "-c", `echo "$XDG_RUNTIME_DIR$DBUS_SESSION_BUS_ADDRESS"`}, Dir: "/", Env: []string{own},
		}))
		if strings.TrimSpace(text) != want {
			t.Errorf("with %s the server has %q", own, text)
		}
	}
	if lines := run.lines("env"); len(lines) != 4 || slices.ContainsFunc(lines, func(line string) bool { return strings.TrimSpace(line) != "/the/daemon" }) {
		t.Errorf("systemd-run had %q", lines)
	}
	if _, err := FindScope(t.Context(), []string{"PATH=" + os.Getenv("PATH"), "XDG_RUNTIME_DIR=/of/check"}); err != nil {
		t.Error(err)
	}
	if lines := run.lines("env"); strings.TrimSpace(lines[4]) != "/of/check" {
		t.Errorf("systemd-run had %q, want what FindScope was given", lines)
	}
	lacking := t.TempDir()
	if err := os.Symlink("/bin/true", filepath.Join(lacking, "true")); err != nil {
		t.Fatal(err)
	}
	if _, err := FindScope(t.Context(), []string{"PATH=" + lacking}); err == nil {
		t.Error("systemd-run was found, which is not in the PATH that FindScope was given")
	}
}

// output starts a server and returns all that it writes to stdout.
func output(t *testing.T, g *Guard, s Spec) string {
	t.Helper()
	p, err := g.Start(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	text, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Error(err)
	}
	await(t, "Gone", p.Gone())
	return string(text)
}

// TestScopeAgain: systemd is tried again a minute after a try that failed, and at once where it has failed later. An end of systemd-run
// is no end of the server's.
func TestScopeAgain(t *testing.T) {
	run := newSystemdRun(t, noBus)
	g, log := scopedGuard(t)
	calls := func(want int, what string) {
		t.Helper()
		if lines := run.lines("calls"); len(lines) != want {
			t.Errorf("%s: %d calls, want %d: %q", what, len(lines), want, lines)
		}
	}
	due := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if left := time.Until(g.try.again); left < scopeAgain/2 || left > scopeAgain {
			t.Errorf("the next try may be in %v", left)
		}
		g.try.again = time.Now()
	}
	for range 2 {
		wantPID(t, g, withLimits(spec("echo")))
	}
	calls(1, "it fails")
	due()
	wantPID(t, g, withLimits(spec("echo")))
	calls(2, "it fails a minute later")
	due()
	run.is(becomes)
	for range 2 {
		wantPID(t, g, withLimits(spec("echo")))
	}
	calls(5, "it works, and two servers use it")
	fails := withLimits(Spec{Name: "s", Command: []string{"/bin/sh", "-c", "exit 1"}, Dir: "/"})
	if exit := exitOf(t, g, fails); exit.NotRun || exit.String() != "exit status 1" {
		t.Errorf("the server has failed: %v", exit)
	}
	run.is(noBus)
	if exit := exitOf(t, g, fails); !exit.NotRun || !strings.Contains(exit.String(), "systemd-run") {
		t.Errorf("systemd-run has failed: %v", exit)
	}
	wantPID(t, g, withLimits(spec("echo")))
	calls(8, "it has failed, and is tried again")
	g.Close(context.Background())
	if n := strings.Count(log.String(), "have no effect"); n != 2 {
		t.Errorf("the log has\n%s", log.String())
	}
}

// TestNotScoped: what is called systemd-run has an end of its own where the daemon did not start it for limits.
func TestNotScoped(t *testing.T) {
	run := newSystemdRun(t, noBus)
	g, _ := scopedGuard(t)
	if exit := exitOf(t, g, Spec{Name: "s", Command: []string{filepath.Join(run.dir, guard.ScopeProgram)}, Dir: "/"}); exit.NotRun {
		t.Error(exit)
	}
}

func exitOf(t *testing.T, g *Guard, s Spec) Exit {
	t.Helper()
	p, err := g.Start(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	await(t, "Done", p.Done())
	return p.Exit()
}

// TestScopeHangs: a systemd that does not answer holds back starts with limits, as long as they may wait, and no others; nor does it hold
// the end of the daemon.
func TestScopeHangs(t *testing.T) {
	run := newSystemdRun(t, "exec sleep 1000")
	g, _ := scopedGuard(t)
	g.scopeTimeout = 2 * waitTimeout
	starts := NewStarts(g, 1)
	ctx, cancel := context.WithCancel(context.Background())
	waits := make(chan error, 1)
	go func() {
		_, _, err := starts.Start(ctx, "limited", withLimits(spec("echo")))
		waits <- err
	}()
	eventually(t, "a try", func() bool { return len(run.lines("calls")[0]) > 0 })
	p, release, err := starts.Start(t.Context(), "free", spec("echo"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	release()
	select {
	case err := <-waits:
		t.Fatalf("it has not waited: %v", err)
	default:
	}
	cancel()
	select {
	case err := <-waits:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(waitTimeout):
		t.Error("it waits longer than it may")
	}
	closed := make(chan struct{})
	go func() {
		g.Close(context.Background())
		close(closed)
	}()
	await(t, "the end", closed)
	if _, _, err := starts.Start(context.Background(), "limited", withLimits(spec("echo"))); err != ErrClosed {
		t.Error(err)
	}
}

// TestScopeScript: a text without a #! line is refused with limits as it is without them.
func TestScopeScript(t *testing.T) {
	newSystemdRun(t, becomes)
	g, _ := scopedGuard(t)
	dir := t.TempDir()
	for text, refused := range map[string]bool{"": true, "echo hello\n": true, "#!/bin/sh\necho hello\n": false} {
		path := filepath.Join(dir, "script")
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, s := range []Spec{{Name: "s", Command: []string{path}, Dir: "/"}, withLimits(Spec{Name: "s", Command: []string{path}, Dir: "/"})} {
			p, err := g.Start(context.Background(), s)
			if err == nil {
				await(t, "Gone", p.Gone())
				p.Stdout().Close()
			}
			var fault *CommandError
			if got := errors.As(err, &fault) && errors.Is(err, syscall.ENOEXEC) && fault.Command == path; got != refused || !refused && err != nil {
				t.Errorf("%q with %d tasks: %v", text, s.Tasks, err)
			}
		}
	}
}

// TestUnitOf finds the daemon's unit of the user's systemd, to which scopes are bound.
func TestUnitOf(t *testing.T) {
	for membership, want := range map[string]string{
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/fluentd-perf.service\n":                        "fluentd-perf.service",
		"3:pids:/x\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.slice/app-a\\x2db.scope\n":    `app-a\x2db.scope`,
		"0::/user.slice/user-1000.slice/user@1000.service/user.slice/pod.scope/container/system.slice/x.service\n": "pod.scope",
		"0::/user.slice/user-1000.slice/user@1000.service/_cgroup.service\n":                                       "cgroup.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice\n":                                             "",
		"0::/user.slice/user-1000.slice/session-3.scope\n":                                                         "",
		"0::/user.slice/user-1001.slice/user@1001.service/app.slice/a.service\n":                                   "",
		"0::/system.slice/fluentd-perf.service\n":                                                                  "",
		"3:name=systemd:/user.slice/user-1000.slice/user@1000.service/a.service\n0::/\n":                           "",
	} {
		if got := unitOf(membership, 1000); got != want {
			t.Errorf("%q: %q, want %q", membership, got, want)
		}
	}
	want := []string{"-p", `BindsTo=a\\x2db.scope`, "-p", `Before=a\\x2db.scope`, "-p", "TimeoutStopSec=2"}
	if got := boundTo(`a\x2db.scope`); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := boundTo(""); len(got) > 0 {
		t.Errorf("%q of no unit", got)
	}
}

// wantPID starts a server and checks that what runs is what the guard knows.
func wantPID(t *testing.T, g *Guard, s Spec) {
	t.Helper()
	p, err := g.Start(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stdout().Close() })
	if pids := readPIDs(t, bufio.NewReader(p.Stdout()), 1); pids[0].pid != p.PID() {
		t.Errorf("process %d, and the guard knows %d", pids[0].pid, p.PID())
	}
}

// watchedScope is a process in a scope of a made-up service manager's, whose cgroup is a directory.
type watchedScope struct {
	*server
	cgroup string
}

// runInScope starts a server in such a scope.
func runInScope(t *testing.T) watchedScope {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "proc/self/cgroup"), "0::/daemon.service\n", 0o600)
	write(t, filepath.Join(dir, "systemd-run"), `#!/bin/sh
while [ "$1" != -- ]; do shift; done; shift
mkdir -p `+dir+`/proc/$$ `+dir+`/cgroups/app.slice/$$.scope
echo oom_kill 0 >`+dir+`/cgroups/app.slice/$$.scope/memory.events
echo 0::/app.slice/$$.scope >`+dir+`/proc/$$/cgroup
exec "$@"
`, 0o700)
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	g := newGuard(Options{Scopes: true}, shortLadder)
	g.watch.processes, g.watch.cgroups = filepath.Join(dir, "proc"), filepath.Join(dir, "cgroups")
	t.Cleanup(func() { g.Close(context.Background()) })
	one := spec("deaf")
	one.Memory = 1 << 30
	p, err := g.Start(context.Background(), one)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stdout().Close() })
	s := watchedScope{&server{Process: p}, filepath.Join(dir, "cgroups/app.slice", strconv.Itoa(p.PID())+".scope")}
	s.pids = readPIDs(t, bufio.NewReader(p.Stdout()), 1)
	return s
}

// counts has the kernel count that many processes that were killed in the scope.
func (s watchedScope) counts(t *testing.T, killed int) {
	t.Helper()
	write(t, filepath.Join(s.cgroup, "memory.events"), fmt.Sprintf("max 3\noom 1\noom_kill %d\noom_group_kill 0\n", killed), 0o600)
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}

// TestOutOfMemoryInScope: the error of a server that was killed for the limit of memory in a scope says so, also where the scope's cgroup
// has gone when its end is seen; who kills it otherwise is not taken for that.
func TestOutOfMemoryInScope(t *testing.T) {
	const outOfMemory = "killed: more memory than 1073741824 bytes"
	kill := func(s watchedScope) string {
		t.Helper()
		if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "Gone", s.Gone())
		return s.Exit().String()
	}
	followed := func(s watchedScope) {
		t.Helper()
		eventually(t, "the scope's cgroup", func() bool { return s.scope.dir.Load() != nil })
	}

	s := runInScope(t)
	eventually(t, "the limit to be noted", func() bool {
		s.counts(t, 1)
		return s.scope.killed.Load()
	})
	if err := os.RemoveAll(s.cgroup); err != nil {
		t.Fatal(err)
	}
	if got := kill(s); got != outOfMemory {
		t.Errorf("noted before its end: %q", got)
	}

	s = runInScope(t)
	followed(s)
	s.counts(t, 1)
	if got := kill(s); got != outOfMemory {
		t.Errorf("at its end: %q", got)
	}

	s = runInScope(t)
	followed(s)
	if got := kill(s); got != "killed by signal: killed" {
		t.Errorf("killed by somebody: %q", got)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(waitTimeout); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}
