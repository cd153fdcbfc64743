package monitor

import (
	"os"
	"os/signal"
	"syscall"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"
)

// canSuspend reports whether a shell is there that would notice that this process stops, and can have it go on. Where none is, as in
// `ssh -t HOST fluentd-perf monitor`, the kernel ignores SIGTSTP (POSIX, "orphaned process group"), and Bubble Tea would wait for ever for
// the SIGCONT that follows it.
func canSuspend() bool {
	parent := os.Getppid()
	theirs, err := unix.Getsid(parent)
	if err != nil {
		return false
	}
	own, err := unix.Getsid(0)
	if err != nil || own != theirs {
		return false
	}
	group, err := unix.Getpgid(parent)
	return err == nil && group != unix.Getpgrp()
}

// redrawWhenResumed has all of the screen drawn, in the size that it has then, when the process goes on that was stopped by whatever:
// others have used the terminal meanwhile. stop ends that.
func redrawWhenResumed(p *tea.Program) (stop func()) {
	resumed, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(resumed, syscall.SIGCONT)
	go func() {
		defer close(ended)
		for range resumed {
			p.Send(tea.RequestWindowSize())
			p.Send(tea.ClearScreen())
		}
	}()
	return func() {
		signal.Stop(resumed)
		close(resumed)
		<-ended
	}
}

// hungUp reports whether a terminal has gone away. Not everybody is sent SIGHUP then (a wrapper may have kept it for itself), Bubble Tea takes
// the end of its keys for nothing, and a failed write, too.
func hungUp(terminal uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(terminal)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
}
