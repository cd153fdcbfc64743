package process

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/internal/upstream/stdio/guard"
)

func getsid() (int, error) { return unix.Getsid(0) }

// startLimit is the descriptor limit that this process was started with: the one its children get.
func startLimit() (limit syscall.Rlimit) {
	out, err := exec.Command("sh", "-c", "ulimit -Sn").Output()
	if err == nil {
		_, _ = fmt.Sscan(string(out), &limit.Cur)
	}
	return limit
}

// shortLadder is for tests that go down all of it.
var shortLadder = ladder{eof: 100 * time.Millisecond, term: 100 * time.Millisecond, last: 500 * time.Millisecond}

// waitTimeout bounds what has no bound of its own in a test.
const waitTimeout = 20 * time.Second

func testGuard(t testing.TB, l ladder) *Guard {
	t.Helper()
	g := newGuard(Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, l)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		g.Close(ctx)
	})
	return g
}

// server is a process and what it has written of pids.
type server struct {
	*Process
	lines *bufio.Reader
	pids  []*watched
}

// watched is a process that is no child of this one.
type watched struct{ pid, fd int }

func watch(t testing.TB, pid int) *watched {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	w := &watched{pid, fd}
	t.Cleanup(w.close)
	return w
}

// close ends the process too, where a test has failed.
func (w *watched) close() {
	if w.fd >= 0 {
		_ = unix.PidfdSendSignal(w.fd, unix.SIGKILL, nil, 0)
		_ = unix.Close(w.fd)
		w.fd = -1
	}
}

// ended waits until the process has ended, at most that long.
func (w *watched) ended(within time.Duration) bool {
	for end := time.Now().Add(within); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, max(0, int(time.Until(end).Milliseconds())))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func spec(mode string, args ...string) Spec {
	return Spec{Name: mode, Command: childCommand(mode, args...), Dir: "/", Env: os.Environ()}
}

// run starts a server and reads the pids of its processes, as many as it has.
func run(t *testing.T, g *Guard, mode string, processes int) *server {
	t.Helper()
	p, err := g.Start(context.Background(), spec(mode))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stdout().Close() })
	s := &server{Process: p, lines: bufio.NewReader(p.Stdout())}
	s.pids = readPIDs(t, s.lines, processes)
	return s
}

func readPIDs(t *testing.T, r *bufio.Reader, n int) (all []*watched) {
	t.Helper()
	for range n {
		line, err := r.ReadString('\n')
		var pid int
		if _, scanErr := fmt.Sscanf(line, "pid %d", &pid); err != nil || scanErr != nil {
			t.Fatalf("read %q, %v", line, errors.Join(err, scanErr))
		}
		all = append(all, watch(t, pid))
	}
	return all
}

func await(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(waitTimeout):
		t.Fatalf("%s does not come", what)
	}
}

// wantGone checks that a server has gone and left nothing, no zombie either.
func wantGone(t *testing.T, s *server) {
	t.Helper()
	await(t, "Gone", s.Gone())
	for _, w := range s.pids {
		if !w.ended(0) {
			t.Errorf("process %d is left", w.pid)
		}
		if err := syscall.Kill(w.pid, 0); err != syscall.ESRCH {
			t.Errorf("process %d is a zombie: %v", w.pid, err)
		}
	}
	select {
	case <-s.Done():
	default:
		t.Error("Gone is closed before Done")
	}
}

// TestEcho holds what both ends of a good server see.
func TestEcho(t *testing.T) {
	slowLadder := ladder{eof: waitTimeout, term: usualLadder.term, last: usualLadder.last}
	g := testGuard(t, slowLadder)
	s := run(t, g, "echo", 1)
	if s.PID() != s.pids[0].pid {
		t.Errorf("PID %d, it says %d", s.PID(), s.pids[0].pid)
	}
	if _, err := s.Stdin().WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := s.lines.ReadString('\n'); line != "hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if u := g.Usage(true)[s.Process]; u.Processes != 1 || u.RSS < 1<<20 || u.PSS < 1<<19 || u.PSS > u.RSS {
		t.Errorf("usage %+v", u)
	}
	asked := time.Now()
	s.Stop()
	wantGone(t, s)
	if e := s.Exit(); e.Code != 0 || e.Signal != 0 || e.Life <= 0 {
		t.Errorf("exit %+v", e)
	}
	if took := time.Since(asked); took > slowLadder.eof {
		t.Errorf("end of file took %v", took)
	}
	if left := g.Processes(); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
}

// TestDeadlines holds that neither pipe can hold its user for ever.
func TestDeadlines(t *testing.T) {
	s := run(t, testGuard(t, shortLadder), "deaf", 1)
	_ = s.Stdin().SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := s.Stdin().Write(make([]byte, 1<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing to who does not read: %v", err)
	}
	_ = s.Stdout().SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := s.Stdout().Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading from who does not write: %v", err)
	}
}

// TestLadder stops servers that do not want to end.
func TestLadder(t *testing.T) {
	for _, c := range []struct {
		mode      string
		processes int
		signal    syscall.Signal
	}{
		{"deaf", 1, syscall.SIGKILL},
		{"forks", 1, syscall.SIGKILL},
		{"spin", 1, syscall.SIGKILL},
		{"parent", 3, 0},
		{"daemonizes", 2, 0},
		{"wraps", 2, 0},
	} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			g := testGuard(t, shortLadder)
			s := run(t, g, c.mode, c.processes)
			s.Stop()
			wantGone(t, s)
			if c.mode == "forks" {
				for _, w := range moreForks(t, s) {
					if err := syscall.Kill(w, 0); err != syscall.ESRCH {
						t.Errorf("process %d, which SIGTERM made, is left: %v", w, err)
					}
				}
			}
			if e := s.Exit(); c.mode != "wraps" && e.Signal != c.signal {
				t.Errorf("exit %v, want %v", e, c.signal)
			}
			noChildren(t, g)
		})
	}
}

// moreForks returns the pids that a server that is gone wrote after the first.
func moreForks(t *testing.T, s *server) (pids []int) {
	t.Helper()
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return pids
		}
		var pid int
		_, _ = fmt.Sscanf(line, "pid %d", &pid)
		pids = append(pids, pid)
	}
}

// noChildren checks that a guard has neither children nor zombies.
func noChildren(t *testing.T, g *Guard) {
	t.Helper()
	table, err := guard.ProcessTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range table {
		if e.Parent == g.host.pid() {
			t.Errorf("the guard has the child %d, state %c", e.PID, e.State)
		}
	}
}

// TestRestOfDeadLeader holds that what a leader leaves is ended without anybody's asking.
func TestRestOfDeadLeader(t *testing.T) {
	s := run(t, testGuard(t, shortLadder), "leaves", 2)
	await(t, "Done", s.Done())
	wantGone(t, s)
	if e := s.Exit(); e.Code != 0 || e.Signal != 0 {
		t.Errorf("exit %v", e)
	}
}

// TestStray ends a process that nothing leads to when no server is left, and not before.
func TestStray(t *testing.T) {
	g := testGuard(t, shortLadder)
	other := run(t, g, "echo", 1)
	s := run(t, g, "vanishes", 2)
	stray := s.pids[0]
	if stray.pid == s.PID() {
		stray = s.pids[1]
	}
	s.Stop()
	await(t, "Gone", s.Gone())
	if stray.ended(0) {
		t.Error("it ends while another server runs, whose it could be")
	}
	other.Stop()
	await(t, "Gone", other.Gone())
	if !stray.ended(waitTimeout) {
		t.Error("it does not end")
	}
}

// roundTrip is how long a line takes to an "echo" and back.
func (s *server) roundTrip(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	if _, err := s.Stdin().WriteString("trip\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := s.lines.ReadString('\n'); line != "trip\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	return time.Since(begun)
}

// TestKilled holds that a dead child is seen at once, and how it died.
func TestKilled(t *testing.T) {
	g := testGuard(t, usualLadder)
	other := run(t, g, "echo", 1)
	var s *server
	least := waitTimeout
	for try := 0; try < 10 && least > 100*time.Millisecond; try++ { // more than one where the machine is busy
		s = run(t, g, "deaf", 1)
		trip := other.roundTrip(t) // to another process and back, as the news of the end goes
		killed := time.Now()
		if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, "Done", s.Done())
		least = min(least, time.Since(killed)-trip)
	}
	if least > 100*time.Millisecond {
		t.Errorf("seen after %v at best", least)
	}
	if e := s.Exit(); e.Signal != syscall.SIGKILL || e.Code != -1 || e.String() != "killed by signal: killed" {
		t.Errorf("exit %+v: %v", e, e)
	}
	wantGone(t, s)
}

// TestFails holds that the last lines of who ends at once are there, without what is secret.
func TestFails(t *testing.T) {
	g := testGuard(t, usualLadder)
	s := spec("fails", "secret-4711")
	s.Secrets = []string{"secret-4711"}
	p, err := g.Start(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	await(t, "Done", p.Done())
	if got := strings.Join(p.Stderr(), "|"); got != "cannot find the configuration|token is [masked]" {
		t.Errorf("stderr %q", got)
	}
	if e := p.Exit(); e.Code != 3 || e.String() != "exit status 3" {
		t.Errorf("exit %v", e)
	}
	await(t, "Gone", p.Gone())
}

// TestFlood holds that a full stderr stops nobody and costs little.
func TestFlood(t *testing.T) {
	s := run(t, testGuard(t, shortLadder), "floods", 1)
	s.Stop() // it ends by SIGTERM
	wantGone(t, s)
	if e := s.Exit(); e.Signal != syscall.SIGTERM {
		t.Errorf("exit %v", e)
	}
	if lines := s.Stderr(); len(lines) != 1 || len(lines[0]) > tailLine {
		t.Errorf("%d lines", len(lines))
	}
}

// TestClosedStdout holds that who closes stdout only is seen there, and can be stopped.
func TestClosedStdout(t *testing.T) {
	s := run(t, testGuard(t, shortLadder), "closes", 1)
	if _, err := s.lines.ReadByte(); err != io.EOF {
		t.Errorf("reading stdout: %v", err)
	}
	select {
	case <-s.Done():
		t.Error("the process has ended")
	default:
	}
	s.Stop()
	wantGone(t, s)
}

// TestCommandErrors holds that what cannot run is refused at once, and for good.
func TestCommandErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	g := testGuard(t, usualLadder)
	other := run(t, g, "echo", 1) // what follows is the price of an error, not of a guard
	for name, c := range map[string]struct {
		command, dir, want string
		is                 error
	}{
		"missing":        {"no-such-server", "/", `command "no-such-server": not found in ` + dir + `, /nowhere`, fs.ErrNotExist},
		"missing path":   {dir + "/nothing", "/", "no such file", fs.ErrNotExist},
		"not executable": {file("plain", "#!/bin/sh\n", 0o644), "/", "permission denied", fs.ErrPermission},
		"the same bare":  {"plain", "/", "permission denied", fs.ErrPermission},
		"no interpreter": {file("odd", "#!/nowhere/sh -e\n", 0o755), "/", `the interpreter "/nowhere/sh" of its #! line is not there: no such file`, fs.ErrNotExist},
		"CR LF":          {file("crlf", "#! /bin/sh\r\nexit\r\n", 0o755), "/", `"/bin/sh\r" of its #! line is not there, the lines end with CR LF`, fs.ErrNotExist},
		"no loader":      {file("elf", withoutLoader(t), 0o755), "/", "made for another system", fs.ErrNotExist},
		"no program":     {file("text", "hello\n", 0o755), "/", "without a #! line", syscall.ENOEXEC},
		"a directory":    {dir, "/", "is a directory", syscall.EISDIR},
		"no directory":   {"/bin/true", dir + "/nowhere", "working directory", fs.ErrNotExist},
		"nothing":        {"", "/", "is empty", nil},
		"a NUL":          {"a\x00b", "/", "NUL", nil},
	} {
		t.Run(name, func(t *testing.T) {
			least := waitTimeout
			for try := 0; try < 10 && least > 100*time.Millisecond; try++ { // more than one where the machine is busy
				trip := other.roundTrip(t) // to another process and back, as the error comes
				before := time.Now()
				_, err := g.Start(context.Background(), Spec{
					Name: "x", Command: []string{c.command}, Dir: c.dir, Env: []string{"PATH=" + dir + ":/nowhere:" + dir},
				})
				least = min(least, time.Since(before)-trip)
				var fault *CommandError
				if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
					t.Fatalf("got %T %v, want %q", err, err, c.want)
				}
			}
			if least > 100*time.Millisecond {
				t.Errorf("it took %v at least", least)
			}
		})
	}
}

// withoutLoader returns a program whose loader is not there, as one for another C library.
func withoutLoader(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	program, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range program.Progs {
		if part.Type == elf.PT_INTERP {
			copy(text[part.Off:], "/nowhere/ld\x00")
			return string(text)
		}
	}
	t.Fatal("/bin/true has no loader")
	return ""
}

// TestInherits holds what a server begins with.
func TestInherits(t *testing.T) {
	leak, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	if _, err := unix.FcntlInt(leak.Fd(), unix.F_SETFD, 0); err != nil { // as a careless parent of the daemon leaves one
		t.Fatal(err)
	}
	g := testGuard(t, usualLadder)
	p, err := g.Start(context.Background(), spec("shows"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	text, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	own, _ := os.ReadFile("/proc/self/oom_score_adj")
	var score int
	_, _ = fmt.Sscan(string(own), &score)
	for _, want := range []string{
		"core 0 0\n", fmt.Sprintf("files %d\n", startLimit().Cur), fmt.Sprintf("oom %d\n", min(score+guard.ServerOOMScore, 1000)),
		"SigBlk:\t0000000000000000\n", "SigIgn:\t0000000000000000\n", "session true group true\n", "fd 0 pipe:", "fd 1 pipe:", "fd 2 pipe:",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "/dev/zero") || strings.Contains(string(text), "socket:") {
		t.Errorf("descriptors of others:\n%s", text)
	}
	await(t, "Gone", p.Gone())
}

// TestInheritsDefaults holds that what the daemon itself was given for a life in the background is not the servers'.
func TestInheritsDefaults(t *testing.T) {
	argv := append([]string{"-c", `trap "" HUP INT PIPE TSTP TTOU; ulimit -Sn 256; exec "$0" "$@"`}, childCommand("daemon", "shows", "1h", "1h")...)
	cmd := exec.Command("sh", argv...)
	blocked := exec.Command("env", "--block-signal=TERM", "true")
	if blocked.Run() == nil { // coreutils since 8.31
		cmd = exec.Command("env", append([]string{"--block-signal=TERM", "sh"}, argv...)...)
	}
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "end"; {
		text.WriteString(lines.Text() + "\n")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, want := range []string{"SigIgn:\t0000000000000000\n", "SigBlk:\t0000000000000000\n", "files 256\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

// TestCancelledStart holds that who gives up a start leaves nothing.
func TestCancelledStart(t *testing.T) {
	g := testGuard(t, shortLadder)
	run(t, g, "echo", 1)
	if err := syscall.Kill(g.host.pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := g.Start(ctx, spec("deaf")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := syscall.Kill(g.host.pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p, err := g.Start(context.Background(), spec("echo")) // the guard has done the other before
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	for _, one := range g.Processes() {
		if one.Name() == "deaf" {
			await(t, "Gone", one.Gone())
		}
	}
}

// TestCloseAfterCancelledStart holds that Close waits for a start that nobody waits for, and for its end.
func TestCloseAfterCancelledStart(t *testing.T) {
	g := testGuard(t, shortLadder)
	s := run(t, g, "echo", 1)
	s.Stop()
	wantGone(t, s)
	guard := g.host.pid()
	if err := syscall.Kill(guard, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error)
	go func() {
		_, err := g.Start(ctx, spec("deaf"))
		left <- err
	}()
	awaitAsked(t, g)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	closed := make(chan struct{})
	go func() {
		g.Close(context.Background())
		close(closed)
	}()
	began := make(chan struct{})
	go func() { // what Close waits for first
		g.all.Wait()
		close(began)
	}()
	select {
	case <-began:
		t.Error("it does not wait for the start")
	case <-time.After(50 * time.Millisecond):
	}
	if err := syscall.Kill(guard, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, "the end", closed)
	await(t, "the end of the start", began)
	if left := g.Processes(); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
}

// TestClose holds that nothing runs after it, and starts are refused.
func TestClose(t *testing.T) {
	g := testGuard(t, usualLadder)
	servers := []*server{run(t, g, "echo", 1), run(t, g, "deaf", 1), run(t, g, "daemonizes", 2)}
	parent := watch(t, g.host.pid())
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	before := time.Now()
	g.Close(ctx)
	if took := time.Since(before); took > time.Second+100*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	for _, s := range servers {
		wantGone(t, s)
	}
	if !parent.ended(0) {
		t.Error("the guard is left")
	}
	if _, err := g.Start(context.Background(), spec("echo")); err != ErrClosed {
		t.Errorf("a start after it: %v", err)
	}
}
