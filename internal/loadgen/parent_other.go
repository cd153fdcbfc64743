//go:build !linux

package loadgen

import "syscall"

// EndsWithParent keeps what a terminal sends to this program from its processes, which it ends itself.
func EndsWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
