package loadgen

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ProcessCPU returns the user and system time of a process so far, those of its threads that have ended included. It is exact to the
// nanosecond as far as the kernel is.
func ProcessCPU(pid int) (time.Duration, error) {
	// The clock of another process's CPU time: its inverted number, and 2 for what the scheduler counts (clock_getcpuclockid).
	clock := int32(^pid<<3) | 2
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// ProcessRSS returns the resident bytes of a process.
func ProcessRSS(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %q", pid, text)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// Family counts processes and all that descends from them, and the bytes that they take (PSS: of pages that several processes share,
// each has its part). A process whose parent has ended before descends from it no more.
func Family(pids ...int) (processes int, pss int64, err error) {
	children, err := childrenOfAll()
	if err != nil {
		return 0, 0, err
	}
	for rest := pids; len(rest) > 0; {
		pid := rest[0]
		rest = append(rest[1:len(rest):len(rest)], children[pid]...)
		size, err := proportionalSize(pid)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH): // it has ended meanwhile
		case err != nil:
			return 0, 0, err
		default:
			processes++
			pss += size
		}
	}
	return processes, pss, nil
}

// childrenOfAll returns the children of every process.
func childrenOfAll() (map[int][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, _ := os.ReadFile("/proc/" + entry.Name() + "/stat") // one that has ended has none
		// proc(5): the name in parentheses may have any signs in it; behind it are the state and the parent.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) > 1 {
			parent, _ := strconv.Atoi(string(fields[1])) // the kernel writes a number
			children[parent] = append(children[parent], pid)
		}
	}
	return children, nil
}

// proportionalSize returns a process's PSS in bytes. A process that has ended and was not waited for has none.
func proportionalSize(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == "Pss:" {
			kilobytes, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/smaps_rollup has no Pss", pid)
}
