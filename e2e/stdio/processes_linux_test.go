package stdio

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// child is a process of another one.
type child struct {
	pid   int
	name  string
	state string // Z: a zombie
}

// childrenOf returns the children of a process.
func childrenOf(parent int) (all []child) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		begin, end := strings.Index(string(text), " ("), strings.LastIndex(string(text), ") ")
		if begin < 0 || end < 0 {
			continue // it has ended
		}
		c, itsParent := child{name: string(text[begin+2 : end])}, 0
		_, _ = fmt.Sscan(string(text[:begin]), &c.pid)
		_, _ = fmt.Sscan(string(text[end+2:]), &c.state, &itsParent)
		if itsParent == parent {
			all = append(all, c)
		}
	}
	return all
}

// stateOf returns the state of a process; "" where there is none, Z for a zombie.
func stateOf(pid int) (state string) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if end := strings.LastIndex(string(text), ") "); end >= 0 {
		_, _ = fmt.Sscan(string(text[end+2:]), &state)
	}
	return state
}

// cpuOf returns the processor's time that a process has used, in steps of 10 ms.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndex(string(text), ") ")+2:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil { // proc_pid_stat(5), 14 and 15
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// guardOf returns the guard of a daemon that has one.
func guardOf(t *testing.T, d *harness.Daemon) int {
	t.Helper()
	for _, c := range childrenOf(d.Cmd.Process.Pid) {
		if c.name == "fluentd-guard" && c.state != "Z" {
			return c.pid
		}
	}
	t.Fatal("the daemon has no guard")
	return 0
}

// statusField returns a field of /proc/<pid>/status that is a number: VmRSS and VmHWM in KiB.
func statusField(t *testing.T, pid int, name string) (value int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if text, ok := strings.CutPrefix(line, name+":"); ok {
			_, _ = fmt.Sscan(text, &value)
		}
	}
	return value
}

// descriptorsOf returns what the descriptors of a process are.
func descriptorsOf(t *testing.T, pid int) (all []string) {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	open, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		name, err := os.Readlink(filepath.Join(folder, fd.Name()))
		if err == nil { // else it was closed meanwhile
			all = append(all, name)
		}
	}
	return all
}

// descriptors returns how many descriptors a process has.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	return len(descriptorsOf(t, pid))
}
