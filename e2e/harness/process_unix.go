//go:build unix && !linux

package harness

import "syscall"

// ChildAttributes puts a child into a process group of its own.
func ChildAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
