package daemon

import (
	"bufio"
	"os"
	"reflect"
	"strconv"
	"strings"

	"fluentd-perf/internal/upstream/stdio/guard"
)

// arenaSpace is how far from any of its addresses Go's heap is looked for: it grows from a random one on, and everything else is much
// further away (runtime/malloc.go, mallocinit).
const arenaSpace = 64 << 30

// residentMemory reads what is in memory of each mapping of this process. False: it cannot be read.
func residentMemory() (r resident, ok bool) {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return r, false
	}
	defer file.Close()
	var part *int64
	own := uint64(reflect.ValueOf(new([1 << 10]byte)).Pointer()) // an object of the heap, or on a stack, which is there too
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "Rss:":
			r.rss += kibibytes(fields[1])
			*part += kibibytes(fields[1])
		default:
			if begin, _, found := strings.Cut(fields[0], "-"); found {
				part = r.partOf(begin, own, fields)
			}
		}
	}
	return r, lines.Err() == nil && r.rss > 0
}

// partOf returns the sum to which a mapping belongs: of a file it has a path, and an inode that is not 0.
func (r *resident) partOf(begin string, own uint64, fields []string) *int64 {
	at, err := strconv.ParseUint(begin, 16, 64)
	switch {
	case err == nil && at > own-min(own, arenaSpace) && at < own+arenaSpace:
		return &r.heap
	case len(fields) > 5 && fields[4] != "0":
		return &r.files
	}
	return &r.anonymous
}

func kibibytes(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // the kernel writes numbers
	return n << 10
}

// giveBackFiles gives back what of the program's file was read and is not needed: its start alone touches half of it.
func giveBackFiles() { guard.GiveBackFiles() }

// ownCgroupLimit is the memory limit of this process's cgroup, in bytes; 0: there is none.
func ownCgroupLimit() int64 { return cgroupLimit("/proc/self/cgroup", "/sys/fs/cgroup") }
