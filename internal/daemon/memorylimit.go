package daemon

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitShare is how much of the cgroup's memory Go's runtime may have before it collects more often than it would: the rest is for
// what it does not know of, the program's own pages, the embedded database and the kernel's buffers of sockets.
const limitShare = 0.9

// limitMemory sets Go's memory limit by the cgroup's, says so in the log, and returns what undoes that. GOMEMLIMIT in the environment is
// the operator's word and counts more. The ballast is added: Go counts it, and the cgroup, which it takes no room in, does not.
func limitMemory(log *slog.Logger, cgroup int64) (restore func()) {
	if own := os.Getenv("GOMEMLIMIT"); own != "" {
		log.Info("Go's memory limit is that of the environment", "GOMEMLIMIT", own)
		return func() {}
	}
	if cgroup <= 0 {
		return func() {}
	}
	limit := int64(limitShare * float64(cgroup))
	log.Info("Go's memory limit is set by the cgroup's", "limit", limit, "cgroup", cgroup)
	if os.Getenv("GOGC") == "" {
		limit += ballastSize
	}
	before := debug.SetMemoryLimit(limit)
	return func() { debug.SetMemoryLimit(before) }
}

// memoryLimit is Go's memory limit without the ballast, in bytes; 0: there is none.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1)
	switch {
	case limit == math.MaxInt64:
		return 0
	case os.Getenv("GOMEMLIMIT") == "" && os.Getenv("GOGC") == "":
		limit -= ballastSize
	}
	return limit
}

// cgroupLimit returns the least memory limit of a process's cgroup and those above it, in bytes, of version 2 (memory.max) or 1; 0 where
// there is none. membership is the process's /proc/PID/cgroup, root where the cgroups are. In a container the path may be of the host: then
// the container's own is at the root.
func cgroupLimit(membership, root string) int64 {
	text, err := os.ReadFile(membership)
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[0] == "0" && fields[1] == "":
			least = min(least, leastLimit(root, fields[2], "memory.max"))
		case strings.Contains(","+fields[1]+",", ",memory,"):
			least = min(least, leastLimit(filepath.Join(root, "memory"), fields[2], "memory.limit_in_bytes"))
		}
	}
	if least > 1<<60 { // version 1 writes "none" as nearly the largest number
		return 0
	}
	return least
}

// leastLimit reads a limit in a cgroup and all above it.
func leastLimit(root, path, file string) int64 {
	least := int64(math.MaxInt64)
	for path = filepath.Join("/", path); ; path = filepath.Dir(path) {
		text, err := os.ReadFile(filepath.Join(root, path, file))
		if n, perr := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && perr == nil { // "max" is no number
			least = min(least, n)
		}
		if path == "/" {
			return least
		}
	}
}
