package e2e

import (
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// TestSQLiteFullDisk lets the database's files grow no more, under load, and then grow again.
func TestSQLiteFullDisk(t *testing.T) {
	t.Parallel()
	m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true})
	at, c := newPlaces(t), tiering{database: sqliteFile}
	d := c.run(t, m.url, at)
	crowd := startCrowd(t, d)
	within(t, 0, "the file in use", func() bool { return usedSince(d, metrics{}) })
	before := d.scrape()
	limitFiles(t, d.cmd.Process.Pid, 32<<10)
	within(t, 0, "the disk is full", func() bool { return d.scrape().minus(before).written("database", "failed") > 0 })
	crowd.awaitMore(200)
	full := d.scrape()
	limitFiles(t, d.cmd.Process.Pid, unlimited)
	back := within(t, 5*time.Second, "in use again", func() bool { return usedSince(d, full) })
	grown := full.minus(before)
	crowd.end()
	t.Logf("full: %d reads failed, %d skipped, %d entries not written, slowest answer %v; in use again after %v", grown.asked("database", "error"),
		grown.asked("database", "skipped"), grown.written("database", "failed"), crowd.lap().Round(time.Millisecond), back.Round(time.Millisecond))
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
