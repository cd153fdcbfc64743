package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqlite"
)

func TestOptions(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "cache.db")
	for name, opt := range map[string]sqlite.Options{
		"no path":               {},
		"too small":             {Path: good, MaxBytes: 1 << 20},
		"a negative size":       {Path: good, MaxBytes: -1},
		"a negative time":       {Path: good, Timeout: -1},
		"a negative sweep":      {Path: good, Sweep: -1},
		"a large entry":         {Path: good, MaxBytes: 4 << 20, MaxValue: 2 << 20},
		"a huge entry":          {Path: good, MaxBytes: 1 << 40, MaxValue: 1 << 30},
		"a negative entry":      {Path: good, MaxValue: -1},
		"a huge timeout":        {Path: good, Timeout: time.Hour},
		"no directory":          {Path: filepath.Join(dir, "none", "cache.db")},
		"a directory":           {Path: dir},
		"a link to who knows":   {Path: link(t, dir)},
		"something that is not": {Path: pipe(t, dir)},
	} {
		opt.Prefix = "p"
		tier, err := sqlite.OpenTier(opt)
		if err == nil {
			closeTier(t, tier)
			t.Errorf("%s: no error", name)
		}
	}
	for _, prefix := range []string{"", "a b", strings.Repeat("x", 49)} {
		if tier, err := sqlite.OpenTier(sqlite.Options{Path: good, Prefix: prefix}); err == nil {
			closeTier(t, tier)
			t.Errorf("prefix %q: opened", prefix)
		}
	}
	both := sqlite.Options{MaxBytes: 1, Timeout: -1}.Validate()
	for _, fault := range []string{"path", "size", "timeout"} {
		if both == nil || !strings.Contains(both.Error(), fault) {
			t.Errorf("three faults: %v", both)
		}
	}
	if left, err := filepath.Glob(good + "*"); err != nil || len(left) > 0 {
		t.Errorf("refused options left %v, %v", left, err)
	}
}

func link(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "link")
	if err := os.Symlink("/nowhere/at/all", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func pipe(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
