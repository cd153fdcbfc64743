package process

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/internal/upstream/stdio/guard"
)

// states are where a start can be when its daemon or its guard is killed: a server, with how many processes, and whether it was
// asked to stop with which ladder. "0s" ends a stage at once, "1h" never.
var states = []struct {
	name, mode string
	processes  int
	stop       bool
	eof, term  string
}{
	{"running", "echo", 1, false, "1h", "1h"},
	{"deaf", "deaf", 1, false, "1h", "1h"},
	{"spinning", "spin", 1, false, "1h", "1h"},
	{"with grandchildren", "parent", 3, false, "1h", "1h"},
	{"with what left", "daemonizes", 2, false, "1h", "1h"},
	{"with what vanished", "vanishes", 2, false, "1h", "1h"},
	{"without its leader", "leaves", 2, false, "1h", "1h"},
	{"at end of file", "deaf", 1, true, "1h", "1h"},
	{"at SIGTERM", "forks", 1, true, "0s", "1h"},
}

// TestDaemonKilled kills the daemon in each state. Within a second nothing is left, the guard neither.
func TestDaemonKilled(t *testing.T) {
	for _, c := range states {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			argv := childCommand("daemon", c.mode, c.eof, c.term)
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Stderr = t.Output()
			in, _ := cmd.StdinPipe()
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			pids := readPIDs(t, lines, c.processes+1) // and the guard's
			if c.stop {
				if _, err := io.WriteString(in, "stop\n"); err != nil {
					t.Fatal(err)
				}
				if c.mode == "forks" {
					pids = append(pids, readPIDs(t, lines, 1)...)
				}
			}
			_ = cmd.Process.Kill()
			wantEnd(t, pids)
			_ = cmd.Wait()
		})
	}
}

// wantEnd wants processes to end within a second, and bears a slow machine.
func wantEnd(t *testing.T, pids []*watched) {
	t.Helper()
	const slack = 3 * time.Second // which is less than a ladder takes
	end := time.Now().Add(time.Second + slack)
	for _, w := range pids {
		if !w.ended(time.Until(end)) {
			stat, _ := os.ReadFile("/proc/" + strconv.Itoa(w.pid) + "/stat")
			t.Errorf("process %d is left: %s", w.pid, stat)
		}
	}
}

// TestGuardKilled kills the guard in each state. Within a second nothing is left, the daemon knows, and the next start works.
func TestGuardKilled(t *testing.T) {
	for _, c := range states {
		if c.mode == "vanishes" { // without a guard nothing leads to it
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := usualLadder
			l.eof, _ = time.ParseDuration(c.eof)
			l.term, _ = time.ParseDuration(c.term)
			g := testGuard(t, l)
			s := run(t, g, c.mode, c.processes)
			if c.stop {
				s.Stop()
				if c.mode == "forks" {
					s.pids = append(s.pids, readPIDs(t, s.lines, 1)...)
				}
			}
			guard := g.host.pid()
			if err := syscall.Kill(guard, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wantEnd(t, s.pids)
			await(t, "Done", s.Done())
			await(t, "Gone", s.Gone())
			if !s.Exit().Lost && c.mode != "leaves" {
				t.Errorf("exit %v", s.Exit())
			}
			next := run(t, g, "echo", 1)
			if g.host.pid() == guard {
				t.Error("it is the same guard")
			}
			next.Stop()
			wantGone(t, next)
		})
	}
}

// TestGuardOfFirstProcessKilled kills the guard of a daemon that orphans become children of, as those of a container's first process do:
// none stays a zombie.
func TestGuardOfFirstProcessKilled(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	for mode, processes := range map[string]int{"echo": 1, "parent": 3, "daemonizes": 2, "leaves": 2} {
		t.Run(mode, func(t *testing.T) {
			g := testGuard(t, shortLadder)
			s := run(t, g, mode, processes)
			if err := syscall.Kill(g.host.pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wantGone(t, s)
		})
	}
}

// TestOrphansOfUser holds that what a lost guard has left is looked for among the user's own processes only.
func TestOrphansOfUser(t *testing.T) {
	g := testGuard(t, shortLadder)
	s := run(t, g, "parent", 3)
	_ = syscall.Kill(g.host.pid(), syscall.SIGSTOP) // it is as good as lost
	defer func() { _ = syscall.Kill(g.host.pid(), syscall.SIGCONT) }()
	l, err := g.host.current()
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]int{os.Geteuid(): 2, os.Geteuid() + 1: 0} { // the leader is killed at once
		found := 0
		for _, e := range l.orphans(uid)() {
			if slices.ContainsFunc(s.pids, func(w *watched) bool { return w.pid == e.PID && w.pid != s.PID() }) {
				found++
			}
		}
		if found != want {
			t.Errorf("of user %d: %d processes, want %d", uid, found, want)
		}
	}
}

// TestDaemonKilledInStart kills the daemon when the guard has been asked for a start and has not begun. It ends when it has no
// descendant, so its end says that nothing is left.
func TestDaemonKilledInStart(t *testing.T) {
	argv := childCommand("daemon", "deaf", "1h", "1h", "again")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = t.Output()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	pids := readPIDs(t, lines, 2)
	if line, err := lines.ReadString('\n'); line != "asked context deadline exceeded\n" {
		t.Errorf("got %q, %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, w := range pids {
		_ = syscall.Kill(w.pid, syscall.SIGCONT) // the guard
	}
	wantEnd(t, pids)
}

// awaitAsked waits until a guard was sent a start that it has not answered.
func awaitAsked(t *testing.T, g *Guard) {
	t.Helper()
	l, _ := g.host.current()
	eventually(t, "a start that is asked for", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.waiting) > 0
	})
}

// TestGuardKilledInStart kills a guard that was asked and has not answered: another answers.
func TestGuardKilledInStart(t *testing.T) {
	g := testGuard(t, shortLadder)
	run(t, g, "echo", 1)
	guard := g.host.pid()
	_ = syscall.Kill(guard, syscall.SIGSTOP)
	started := make(chan error, 1)
	go func() {
		p, err := g.Start(context.Background(), spec("echo"))
		if err == nil {
			p.Stdout().Close()
		}
		started <- err
	}()
	awaitAsked(t, g)
	_ = syscall.Kill(guard, syscall.SIGKILL)
	select {
	case err := <-started:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(waitTimeout):
		t.Error("the start hangs")
	}
}

// TestSignalsOfTheTerminal holds that what a terminal sends does not end a guard.
func TestSignalsOfTheTerminal(t *testing.T) {
	g := testGuard(t, usualLadder)
	s := run(t, g, "echo", 1)
	pid := g.host.pid()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGTSTP} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	next := run(t, g, "echo", 1)
	if g.host.pid() != pid {
		t.Error("the guard ended")
	}
	if e, ok := guard.ReadEntry(pid); !ok || e.Session != pid || e.Group != pid {
		t.Errorf("the guard is %+v", e)
	}
	next.Stop()
	s.Stop()
	wantGone(t, s)
	wantGone(t, next)
}

// TestDescriptors holds that all come back, here and in the guard, and that no pipe is in the guard.
func TestDescriptors(t *testing.T) {
	g := testGuard(t, shortLadder)
	warm := run(t, g, "echo", 1)
	here, there := descriptors(t, os.Getpid()), descriptors(t, g.host.pid())
	for range 5 {
		s := run(t, g, "parent", 3)
		for _, target := range descriptors(t, g.host.pid()) {
			if strings.HasPrefix(target, "pipe:") && !slices.Contains(there, target) {
				t.Errorf("the guard holds %s", target)
			}
		}
		s.Stop()
		wantGone(t, s)
		s.Stdout().Close()
		for _, w := range s.pids {
			w.close()
		}
	}
	if now := descriptors(t, os.Getpid()); len(now) > len(here) {
		t.Errorf("%d descriptors, before %d: %v", len(now), len(here), now)
	}
	if now := descriptors(t, g.host.pid()); len(now) > len(there) {
		t.Errorf("the guard has %d descriptors, before %d: %v", len(now), len(there), now)
	}
	warm.Stop()
	wantGone(t, warm)
}

func descriptors(t *testing.T, pid int) (targets []string) {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if target, err := os.Readlink(filepath.Join(dir, name.Name())); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}

// TestBothKilled kills daemon and guard at once, as who ends them by name does: then the leaders still end.
func TestBothKilled(t *testing.T) {
	for _, mode := range []string{"echo", "deaf", "spin"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			argv := childCommand("daemon", mode, "1h", "1h")
			cmd := exec.Command(argv[0], argv[1:]...)
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pids := readPIDs(t, bufio.NewReader(out), 2)
			pid := 0
			for _, w := range pids {
				if e, ok := guard.ReadEntry(w.pid); ok && e.Parent == cmd.Process.Pid {
					pid = w.pid
				}
			}
			_ = syscall.Kill(pid, syscall.SIGSTOP) // so that it does nothing meanwhile
			_ = cmd.Process.Kill()
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_ = cmd.Wait()
			wantEnd(t, pids)
		})
	}
}
