//go:build unix

package process

import (
	"os"
	"syscall"
)

// newPipe returns an end with deadlines for the daemon and one that blocks for the child, as programs expect: the flag belongs
// to an end, not to a descriptor, so os.Pipe would make the child's what the daemon's is.
func newPipe(reads bool) (ours *os.File, theirs int, err error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	if err = syscall.Pipe(fds[:]); err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, -1, os.NewSyscallError("pipe", err)
	}
	mine, theirs := fds[0], fds[1]
	if !reads {
		mine, theirs = theirs, mine
	}
	if err = syscall.SetNonblock(mine, true); err != nil {
		syscall.Close(mine)
		syscall.Close(theirs)
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(mine), "pipe"), theirs, nil
}
