package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqlite"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// openSQLite opens a tier that the test closes. Its timeout is that of a busy machine.
func open(t testing.TB, change func(*sqlite.Options)) *sqlite.Tier {
	t.Helper()
	opt := sqlite.Options{Path: filepath.Join(t.TempDir(), "cache.db"), Prefix: "0123abcd", MaxBytes: 64 << 20, Timeout: 5 * time.Second}
	if change != nil {
		change(&opt)
	}
	tier, err := sqlite.OpenTier(opt)
	if err != nil {
		t.Fatal(err)
	}
	return tier
}

func TestKeepsTheContract(t *testing.T) {
	tiertest.Run(t, func(t *testing.T) tier.Tier { return open(t, nil) })
}

func BenchmarkTier(b *testing.B) {
	tiertest.Benchmark(b, func(b *testing.B) tier.Tier { return open(b, nil) })
}
