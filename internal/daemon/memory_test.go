package daemon

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// TestLimitMemory holds that Go's memory limit follows the cgroup's, that the operator's word counts more, and that the log says which.
func TestLimitMemory(t *testing.T) {
	for _, c := range []struct {
		env, gogc string
		cgroup    int64
		limit     int64 // of Go's runtime while a daemon runs
		shown     int64
		says      string
	}{
		{"", "", 0, math.MaxInt64, 0, ""},
		{"", "", 1 << 30, 1<<30*9/10 + ballastSize, 1 << 30 * 9 / 10, "set by the cgroup's"},
		{"", "50", 1 << 30, 1 << 30 * 9 / 10, 1 << 30 * 9 / 10, "limit=966367641 cgroup=1073741824"},
		{"1GiB", "", 1 << 20, math.MaxInt64, 0, "GOMEMLIMIT=1GiB"}, // the runtime has read it when the process began
	} {
		t.Setenv("GOMEMLIMIT", c.env)
		t.Setenv("GOGC", c.gogc)
		var log bytes.Buffer
		restore := limitMemory(slog.New(slog.NewTextHandler(&log, nil)), c.cgroup)
		limit, shown := debug.SetMemoryLimit(-1), memoryLimit()
		restore()
		if limit != c.limit || shown != c.shown || !strings.Contains(log.String(), c.says) || (c.says == "") != (log.Len() == 0) {
			t.Errorf("%+v: %d, shown as %d\n%s", c, limit, shown, &log)
		}
		if after := debug.SetMemoryLimit(-1); after != math.MaxInt64 {
			t.Errorf("%+v: afterwards %d", c, after)
		}
	}
}

// TestCgroupLimit reads the limits of both versions of cgroups, the least of the cgroup and those above it.
func TestCgroupLimit(t *testing.T) {
	root := t.TempDir()
	for file, text := range map[string]string{
		"user/own/memory.max": "max\n", "user/memory.max": "2000\n", "memory.max": "5000\n",
		"memory/box/a/memory.limit_in_bytes": "9223372036854771712\n", "memory/box/memory.limit_in_bytes": "700\n", "memory/memory.limit_in_bytes": "9223372036854771712\n",
	} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		membership string
		want       int64
	}{
		{"0::/user/own\n", 2000},
		{"0::/\n", 5000},
		{"0::/of/the/host/alone\n", 5000}, // in a container
		{"4:memory:/box/a\n1:cpu:/x\n", 700},
		{"4:cpu,memory:/box\n0::/user/own\n", 700},
		{"4:memory:/elsewhere\n", 0},
		{"1:cpu:/user/own\n", 0},
		{"", 0},
		{"garbage\n:::\n0:\n", 0},
		{"0::../../etc\n", 5000},
	} {
		file := filepath.Join(root, "membership")
		if err := os.WriteFile(file, []byte(c.membership), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := cgroupLimit(file, root); got != c.want {
			t.Errorf("%q: %d, want %d", c.membership, got, c.want)
		}
	}
	if got := cgroupLimit(filepath.Join(root, "none"), root); got != 0 {
		t.Errorf("%d without a file", got)
	}
}
