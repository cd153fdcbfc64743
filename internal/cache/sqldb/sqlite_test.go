package sqldb_test

import (
	"path/filepath"
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqldb"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// openSQLite opens a tier that the test closes. Its timeout is that of a busy machine.
func openSQLite(t testing.TB, change func(*sqldb.SQLiteOptions)) *sqldb.SQLite {
	t.Helper()
	opt := sqldb.SQLiteOptions{Path: filepath.Join(t.TempDir(), "cache.db"), Prefix: "0123abcd", MaxBytes: 64 << 20, Timeout: 5 * time.Second}
	if change != nil {
		change(&opt)
	}
	tier, err := sqldb.OpenSQLite(opt)
	if err != nil {
		t.Fatal(err)
	}
	return tier
}

func TestSQLiteKeepsTheContract(t *testing.T) {
	tiertest.Run(t, func(t *testing.T) tier.Tier { return openSQLite(t, nil) })
}

func BenchmarkSQLite(b *testing.B) {
	tiertest.Benchmark(b, func(b *testing.B) tier.Tier { return openSQLite(b, nil) })
}
