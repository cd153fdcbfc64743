package harness

import (
	"syscall"
)

// ChildAttributes puts a child into a process group of its own and has the kernel kill it with this process, which the
// test framework's timeout ends without cleaning up.
func ChildAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
