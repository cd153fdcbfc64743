// A full disk costs the file's tier and nothing else, and the tier comes back.

package cache

import (
	"syscall"
	"testing"
	"time"
	"unsafe"

	"fluentd-perf/e2e/harness"
)

// TestSQLiteFullDisk lets the database's files grow no more, under load, and then grow again.
func TestSQLiteFullDisk(t *testing.T) {
	t.Parallel()
	m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true})
	at, c := harness.NewFolders(t), harness.Tiering{Database: sqliteFile}
	d := c.Run(t, m.URL, at)
	load := startLoad(t, d)
	harness.Within(t, 0, "the file in use", func() bool { return usedSince(d, harness.Metrics{}) })
	before := d.Scrape()
	limitFiles(t, d.Cmd.Process.Pid, 32<<10)
	harness.Within(t, 0, "the disk is full", func() bool { return writtenTo(d.Scrape().Minus(before), "database", "failed") > 0 })
	load.awaitMore(200)
	full := d.Scrape()
	limitFiles(t, d.Cmd.Process.Pid, unlimited)
	back := harness.Within(t, 5*time.Second, "in use again", func() bool { return usedSince(d, full) })
	grown := full.Minus(before)
	load.end()
	t.Logf("full: %d reads failed, %d skipped, %d entries not written, slowest answer %v; in use again after %v", grown.Asked("database", "error"),
		grown.Asked("database", "skipped"), writtenTo(grown, "database", "failed"), load.lap().Round(time.Millisecond), back.Round(time.Millisecond))
	keepsOver(t, c, m, at, d)
}

const unlimited = ^uint64(0)

// limitFiles sets how large a process may make a file (RLIMIT_FSIZE): a write beyond that fails, as on a full disk. A
// process of the same user may set it, and take it back.
func limitFiles(t *testing.T, pid int, bytes uint64) {
	t.Helper()
	limit := struct{ soft, hard uint64 }{bytes, unlimited}
	_, _, failed := syscall.Syscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if failed != 0 {
		t.Fatalf("prlimit: %v", failed)
	}
}
