package loadgen_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"

	"golang.org/x/sys/unix"
)

// TestProcessCPU compares with what the kernel says of this process in another way.
func TestProcessCPU(t *testing.T) {
	measure := func() time.Duration {
		t.Helper()
		cpu, err := loadgen.ProcessCPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return cpu
	}
	usage := func() time.Duration {
		t.Helper()
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := measure()
	for begun := usage(); usage()-begun < 50*time.Millisecond; { // uses CPU
		runtime.Gosched()
	}
	between := usage()
	after := measure()
	const inexact = 20 * time.Millisecond // of the kernel's sums of user and system time
	if after-before < 50*time.Millisecond-inexact || after < between-inexact || after > usage()+inexact {
		t.Errorf("from %v to %v, between them the other is %v", before, after, between)
	}
	if rss, err := loadgen.ProcessRSS(os.Getpid()); err != nil || rss < 1<<20 || rss > 64<<30 {
		t.Errorf("%d bytes resident, %v", rss, err)
	}
	const nobody = 1 << 23 // above the kernel's limit
	if _, err := loadgen.ProcessCPU(nobody); err == nil {
		t.Error("a process that there is not has a CPU time")
	}
	if _, err := loadgen.ProcessRSS(nobody); err == nil {
		t.Error("a process that there is not has memory")
	}
}

// TestFamily counts a process and its descendants, in and out of its group, and nothing of one that has ended.
func TestFamily(t *testing.T) {
	c := exec.Command("sh", "-c", "sleep 1000 & setsid sleep 1000 & echo started; wait")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.SysProcAttr = loadgen.EndsWithParent()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Wait() }()
	defer func() {
		for _, pid := range descendants(t, c.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	n, pss, err := loadgen.Family(c.Process.Pid)
	if err != nil || n != 3 || pss < 100_000 {
		t.Errorf("%d processes of %d bytes, %v", n, pss, err)
	}
	twice, both, err := loadgen.Family(c.Process.Pid, os.Getpid())
	if err != nil || twice < n+1 || both <= pss {
		t.Errorf("with another: %d processes of %d bytes, %v", twice, both, err)
	}
	if n, pss, err := loadgen.Family(1 << 29); n != 0 || pss != 0 || err != nil {
		t.Errorf("one that there is not: %d processes of %d bytes, %v", n, pss, err)
	}
}

// descendants returns a process and its children.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Error(err)
	}
	all := []int{pid}
	for _, field := range strings.Fields(string(text)) {
		child, _ := strconv.Atoi(field)
		all = append(all, child)
	}
	return all
}
