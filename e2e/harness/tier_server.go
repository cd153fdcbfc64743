package harness

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TierServer is a real server under a slow tier of the cache: a child of the test on 127.0.0.1, on the same port for as
// long as the test lasts, to be killed, hung and started again. Its methods are called from the test's goroutine.
type TierServer struct {
	T       testing.TB
	Port    string
	Command func() *exec.Cmd // a new process that listens on port
	Answers func() bool      // a question to the server itself, not only to its socket
	Orderly syscall.Signal   // at which it ends and leaves nothing behind
	repair  func()           // before a start after a crash; may be nil
	p       *Process
}

// Launch starts the server for the first time. Somebody may take a port between its choice and its use: then the server
// ends at once and gets another one.
func (s *TierServer) Launch() {
	s.T.Helper()
	for range 5 {
		s.Port = FreePort(s.T)
		if s.begin() {
			return
		}
		s.T.Logf("%v ended: %v\n%s", s.p.Cmd.Args, s.p.err, s.p.Out)
	}
	s.T.Fatal("no start on five ports")
}

// begin starts a process and waits until it answers. It returns false if the process ended before.
func (s *TierServer) begin() bool {
	s.T.Helper()
	s.p = StartCommand(s.T, s.Command())
	s.T.Cleanup(s.End) // before the process is ended by force
	deadline := time.After(MaxWait)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !s.Answers() {
		select {
		case <-s.p.Done:
			return false
		case <-again.C:
		case <-deadline:
			s.T.Fatalf("%s has not answered within %v\n%s", s.p.name, MaxWait, s.p.Out)
		}
	}
	return true
}

// Addr is where the server listens, as host:port.
func (s *TierServer) Addr() string { return "127.0.0.1:" + s.Port }

// Kill ends the server as a crash does, a hung one too: SIGKILL to all its processes.
func (s *TierServer) Kill() {
	s.T.Helper()
	if s.ended() {
		return
	}
	s.Hang() // so that it makes no new processes meanwhile
	s.signal(syscall.SIGKILL)
	<-s.p.Done
}

// Hang stops all processes of the server (SIGSTOP): its sockets still take connections and data, and nobody answers.
func (s *TierServer) Hang() {
	s.T.Helper()
	_ = s.p.Cmd.Process.Signal(syscall.SIGSTOP) // the first one at once, so that it makes no others
	s.signal(syscall.SIGSTOP)
}

// Resume ends a hang.
func (s *TierServer) Resume() {
	s.T.Helper()
	s.signal(syscall.SIGCONT)
}

// Restart starts a server that was killed or has ended, on the same port, and waits until it answers.
func (s *TierServer) Restart() {
	s.T.Helper()
	if !s.ended() {
		s.T.Fatalf("%s is still there", s.p.name)
	}
	// What is left of a killed server may hold its port or its memory for a moment.
	deadline := time.Now().Add(MaxWait)
	for first := true; first || time.Now().Before(deadline); first = false {
		if s.repair != nil {
			s.repair()
		}
		if s.begin() {
			return
		}
	}
	s.T.Fatalf("no restart within %v: %v\n%s", MaxWait, s.p.err, s.p.Out)
}

// End ends the server in good order, and by force where it does not.
func (s *TierServer) End() {
	if s.ended() {
		return
	}
	s.Resume()
	_ = s.p.Cmd.Process.Signal(s.Orderly)
	select {
	case <-s.p.Done:
	case <-time.After(MaxWait):
		s.T.Errorf("%s did not end within %v of %v", s.p.name, MaxWait, s.Orderly)
		s.Kill()
	}
}

func (s *TierServer) ended() bool {
	select {
	case <-s.p.Done:
		return true
	default:
		return false
	}
}

// signal sends a signal to every process of the server. One that has ended by itself meanwhile is no fault.
func (s *TierServer) signal(signal syscall.Signal) {
	s.T.Helper()
	first := s.p.Cmd.Process.Pid
	for _, pid := range append([]int{first}, childrenOf(s.T, first)...) {
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
