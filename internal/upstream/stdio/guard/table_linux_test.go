package guard

import (
	"bytes"
	"os"
	"slices"
	"syscall"
	"testing"
)

// TestProcessTable holds that the table has every process once, in order, and that reading it again leaves little garbage.
func TestProcessTable(t *testing.T) {
	table, err := ProcessTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(table, func(a, b Entry) int { return a.PID - b.PID }) {
		t.Error("it is not in the order of the pids")
	}
	i := slices.IndexFunc(table, func(e Entry) bool { return e.PID == os.Getpid() })
	if i < 0 {
		t.Fatal("this process is missing")
	}
	own := &table[i]
	if own.Parent != os.Getppid() || own.Group != syscall.Getpgrp() || own.Pages <= 0 || own.Began == 0 || own.threads < 2 || own.size <= 0 || own.Zombie() {
		t.Errorf("this process is %+v", *own)
	}
	if parent := parentOf(table, own); parent == nil || parent.PID != os.Getppid() {
		t.Errorf("its parent is %+v", parent)
	}
	garbage := testing.AllocsPerRun(10, func() {
		table, _ = ProcessTable(table)
		Owners{Mark: "none", Root: os.Getppid()}.Assign(table)
	})
	if most := float64(10 + 2*len(table)); garbage > most { // one for each under the race detector, else none
		t.Errorf("%.0f allocations for %d processes, want at most %.0f", garbage, len(table), most)
	}
}

// TestParseStat holds what a line of the process table says, whatever the process is called.
func TestParseStat(t *testing.T) {
	const rest = " S 7 8 -9 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 5 0 600 7000 80 18446744073709551615 1"
	for _, name := range []string{"sh", "a b", "a) S (b", ") R 1 1", ""} {
		e, ok := parseStat(42, []byte("42 ("+name+")"+rest))
		want := Entry{PID: 42, Parent: 7, Group: 8, Session: -9, State: 'S', threads: 5, size: 7000, Ticks: 100, Began: 600, Pages: 80}
		if !ok || e != want {
			t.Errorf("%q: got %+v, %v", name, e, ok)
		}
	}
	whole := "42 (sh)" + rest
	for n := range len(whole) - len(" 18446744073709551615 1") {
		if e, ok := parseStat(42, []byte(whole[:n])); ok {
			t.Fatalf("%q is taken for a whole line: %+v", whole[:n], e)
		}
	}
}

// TestPages holds which mappings are given back: those of files that nobody can have written to.
func TestPages(t *testing.T) {
	for line, want := range map[string]mapping{
		"00400000-0151a000 r-xp 00000000 fe:00 10027293   /usr/bin/fluentd-perf": {0x400000, 0x151a000},
		"0151a000-026b0000 r--p 0111a000 fe:00 10027293   /usr/bin/with blank":   {0x151a000, 0x26b0000},
		"026b0000-02764000 rw-p 022b0000 fe:00 10027293   /usr/bin/fluentd-perf": {},
		"7fcfcb100000-7fcfcb126000 r-xp 00000000 00:00 0  [vdso]":                {},
		"4f27000000-4f27800000 r--p 00000000 00:00 0 ":                           {},
	} {
		if m, ok := readHeader([]byte(line)); !ok || m != want {
			t.Errorf("%s: got %+v, %v", line, m, ok)
		}
	}
	for _, line := range []string{"Rss:                 540 kB", "VmFlags: rd ex mr mw me dw", "THPeligible:    0", ""} {
		if _, ok := readHeader([]byte(line)); ok {
			t.Errorf("%q is taken for a mapping", line)
		}
	}
	const header = "00400000-0151a000 r--p 00000000 fe:00 10027293   /usr/lib/libc.so\nRss: 4 kB\n"
	for lines, want := range map[string]int{
		"Anonymous:  0 kB\nSwap:  0 kB\nSwapPss:  0 kB\n": 1,
		"Anonymous:  4 kB\nSwap:  0 kB\nSwapPss:  0 kB\n": 0,
		"Anonymous:  0 kB\nSwap:  4 kB\nSwapPss:  0 kB\n": 0, // what a loader wrote, swapped out whole
	} {
		if got := unwrittenOf([]byte(header + lines)); len(got) != want {
			t.Errorf("%q: %d mappings, want %d", lines, len(got), want)
		}
	}
	if len(unwritten()) == 0 {
		t.Error("this program has no pages to give back")
	}
}

// TestGiveBackFiles: most of the program's file that was touched is in memory no longer.
func TestGiveBackFiles(t *testing.T) {
	resident := func() (sum int) {
		text, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		isFile := false
		for line := range bytes.Lines(text) {
			if m, ok := readHeader(line); ok {
				isFile = m.end != 0
			} else if isFile && bytes.HasPrefix(line, []byte("Rss:")) {
				sum += int(numberOf(line))
			}
		}
		return sum
	}
	before := resident()
	GiveBackFiles()
	if after := resident(); after > before/2 {
		t.Errorf("%d of %d KiB are left", after, before)
	}
}
