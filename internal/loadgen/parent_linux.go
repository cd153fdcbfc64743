package loadgen

import "syscall"

// EndsWithParent has the kernel kill a process when this program has ended.
func EndsWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
