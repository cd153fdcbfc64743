//go:build !linux

package loadgen

import (
	"errors"
	"time"
)

// errNotLinux says why figures of processes are left out.
var errNotLinux = errors.New("processes are measured on Linux only")

// ProcessCPU returns an error: processes are measured on Linux only.
func ProcessCPU(int) (time.Duration, error) { return 0, errNotLinux }

// ProcessRSS returns an error: processes are measured on Linux only.
func ProcessRSS(int) (int64, error) { return 0, errNotLinux }

// Family returns an error: processes are measured on Linux only.
func Family(...int) (processes int, pss int64, err error) { return 0, 0, errNotLinux }
