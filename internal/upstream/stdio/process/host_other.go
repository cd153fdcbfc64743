//go:build unix && !linux

package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// host starts processes in groups of their own, where there is no guard: what leaves its group is nobody's, and what ignores
// end of file outlives a daemon that was killed.
type host struct {
	guard *Guard
	all   sync.WaitGroup
	mu    sync.Mutex // guards the following
	last  bool       // Close waits for no ladder any more
	hurry chan struct{}
}

func (h *host) start(_ context.Context, p *Process, r resolved, ends pipes) error {
	cmd := &exec.Cmd{
		Path: r.path, Args: r.argv(), Dir: r.Dir, Env: r.Env, SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	// Copies, which the collector may close: the pipes are the caller's.
	for fd, file := range map[int]func(*os.File){
		ends.stdin:  func(f *os.File) { cmd.Stdin = f },
		ends.stdout: func(f *os.File) { cmd.Stdout = f },
		ends.stderr: func(f *os.File) { cmd.Stderr = f },
	} {
		theirs, err := duplicate(fd)
		if err != nil {
			return err
		}
		defer theirs.Close()
		file(theirs)
	}
	if err := cmd.Start(); err != nil {
		return commandError(r.Command[0], err)
	}
	p.pid = cmd.Process.Pid
	stop := make(chan struct{})
	p.end = func() { close(stop) }
	h.guard.follow(p)
	h.all.Go(func() { h.watch(p, cmd, stop) })
	return nil
}

func duplicate(fd int) (*os.File, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	other, err := syscall.Dup(fd)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(other)
	return os.NewFile(uintptr(other), "pipe"), nil
}

// watch goes down the ladder with a process when it is asked to, and with its group when the leader has ended.
func (h *host) watch(p *Process, cmd *exec.Cmd, stop <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		p.dead <- exitOf(cmd.ProcessState)
		close(ended)
	}()
	select {
	case <-ended:
	case <-stop:
		if !h.hurried() {
			h.pause(ended, h.guard.ladder.eof)
		}
	}
	h.endGroup(p.pid)
	<-ended
	close(p.empty)
}

// endGroup ends what is left of a group. Its number is nobody else's as long as it has members.
func (h *host) endGroup(pid int) {
	const look = 20 * time.Millisecond
	began := time.Now()
	for sig := syscall.SIGTERM; syscall.Kill(-pid, sig) == nil; sig = 0 {
		h.pause(nil, look)
		lasts := h.guard.ladder.term
		if h.hurried() {
			lasts = min(lasts, h.guard.ladder.last)
		}
		if time.Since(began) >= lasts {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
}

// pause waits until the process has ended or the daemon must.
func (h *host) pause(ended <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	hurry := h.hurrying()
	if h.hurried() {
		hurry = nil
	}
	select {
	case <-ended:
	case <-timer.C:
	case <-hurry:
	}
}

func (h *host) hurrying() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hurry == nil {
		h.hurry = make(chan struct{})
	}
	return h.hurry
}

func (h *host) hurried() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func exitOf(state *os.ProcessState) Exit {
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return Exit{Code: -1, Signal: status.Signal()}
	}
	return Exit{Code: state.ExitCode()}
}

// close ends what is left.
func (h *host) close() {
	hurry := h.hurrying()
	h.mu.Lock()
	if !h.last {
		h.last = true
		close(hurry)
	}
	h.mu.Unlock()
	h.all.Wait()
}

func closeDescriptor(fd int) {
	if fd >= 0 {
		_ = syscall.Close(fd)
	}
}

// cgroup is Linux's.
type cgroup struct{}

func newCgroup(_ string, _ uint64, memory int64, tasks int) (*cgroup, error) {
	if memory > 0 || tasks > 0 {
		return nil, errNoCgroups
	}
	return nil, nil
}

func (*cgroup) outOfMemory() bool { return false }
func (*cgroup) remove()           {}

// scopeWatch is Linux's, too.
type scopeWatch struct{}

type scope struct{}

func newScopeWatch() *scopeWatch               { return nil }
func (*scopeWatch) new() *scope                { return nil }
func (*scopeWatch) close()                     {}
func (*scope) follow(_ int, _ <-chan struct{}) {}
func (*scope) outOfMemory() bool               { return false }

// Usage returns nothing: it is not told on this system.
func (*Guard) Usage(bool) map[*Process]Usage { return nil }

// OwnCgroup returns an error: this system has no cgroups.
func OwnCgroup() (string, error) { return "", errNoCgroups }

var errNoCgroups = errors.New("this system has no cgroups")
