package e2e

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tierServer is a real server under a slow tier of the cache: a child of the test on 127.0.0.1, on the same port for as
// long as the test lasts, to be killed, hung and started again. Its methods are called from the test's goroutine.
type tierServer struct {
	t       testing.TB
	port    string
	command func() *exec.Cmd // a new process that listens on port
	answers func() bool      // a question to the server itself, not only to its socket
	orderly syscall.Signal   // at which it ends and leaves nothing behind
	repair  func()           // before a start after a crash; may be nil
	p       *process
}

// launch starts the server for the first time. Somebody may take a port between its choice and its use: then the server
// ends at once and gets another one.
func (s *tierServer) launch() {
	s.t.Helper()
	for range 5 {
		s.port = freePort(s.t)
		if s.begin() {
			return
		}
		s.t.Logf("%v ended: %v\n%s", s.p.cmd.Args, s.p.err, s.p.out)
	}
	s.t.Fatal("no start on five ports")
}

// begin starts a process and waits until it answers. It returns false if the process ended before.
func (s *tierServer) begin() bool {
	s.t.Helper()
	s.p = startCommand(s.t, s.command())
	s.t.Cleanup(s.end) // before the process is ended by force
	deadline := time.After(patience)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !s.answers() {
		select {
		case <-s.p.done:
			return false
		case <-again.C:
		case <-deadline:
			s.t.Fatalf("%s has not answered within %v\n%s", s.p.name, patience, s.p.out)
		}
	}
	return true
}

func (s *tierServer) addr() string { return "127.0.0.1:" + s.port }

// kill ends the server as a crash does, a hung one too: SIGKILL to all its processes.
func (s *tierServer) kill() {
	s.t.Helper()
	if s.ended() {
		return
	}
	s.hang() // so that it makes no new processes meanwhile
	s.signal(syscall.SIGKILL)
	<-s.p.done
}

// hang stops all processes of the server (SIGSTOP): its sockets still take connections and data, and nobody answers.
func (s *tierServer) hang() {
	s.t.Helper()
	_ = s.p.cmd.Process.Signal(syscall.SIGSTOP) // the first one at once, so that it makes no others
	s.signal(syscall.SIGSTOP)
}

// resume ends a hang.
func (s *tierServer) resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

// restart starts a server that was killed or has ended, on the same port, and waits until it answers.
func (s *tierServer) restart() {
	s.t.Helper()
	if !s.ended() {
		s.t.Fatalf("%s is still there", s.p.name)
	}
	// What is left of a killed server may hold its port or its memory for a moment.
	deadline := time.Now().Add(patience)
	for first := true; first || time.Now().Before(deadline); first = false {
		if s.repair != nil {
			s.repair()
		}
		if s.begin() {
			return
		}
	}
	s.t.Fatalf("no restart within %v: %v\n%s", patience, s.p.err, s.p.out)
}

// end ends the server in good order, and by force where it does not.
func (s *tierServer) end() {
	if s.ended() {
		return
	}
	s.resume()
	_ = s.p.cmd.Process.Signal(s.orderly)
	select {
	case <-s.p.done:
	case <-time.After(patience):
		s.t.Errorf("%s did not end within %v of %v", s.p.name, patience, s.orderly)
		s.kill()
	}
}

func (s *tierServer) ended() bool {
	select {
	case <-s.p.done:
		return true
	default:
		return false
	}
}

// signal sends a signal to every process of the server. One that has ended by itself meanwhile is no fault.
func (s *tierServer) signal(signal syscall.Signal) {
	s.t.Helper()
	first := s.p.cmd.Process.Pid
	for _, pid := range append([]int{first}, childrenOf(s.t, first)...) {
		_ = syscall.Kill(pid, signal)
	}
}

// childrenOf returns the ids of the processes that pid has started. They may be in process groups of their own.
func childrenOf(t testing.TB, pid int) (children []int) {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if exit, none := errors.AsType[*exec.ExitError](err); none && exit.ExitCode() == 1 {
		return nil
	}
	if err != nil {
		t.Errorf("the tests need pgrep (the package procps): %v", err)
		return nil
	}
	for field := range strings.FieldsSeq(string(out)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			t.Errorf("pgrep printed %q", out)
			continue
		}
		children = append(children, child)
	}
	return children
}
