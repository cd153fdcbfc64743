package sqldb_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache/sqldb"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// openPostgres opens a tier that the test closes, and waits until it is in use. Its timeout is that of a busy machine.
func openPostgres(t testing.TB, s *pgServer, change func(*sqldb.PostgresOptions)) *sqldb.Postgres {
	t.Helper()
	opt := sqldb.PostgresOptions{URL: s.url(), Prefix: "0123abcd", Timeout: 5 * time.Second}
	if change != nil {
		change(&opt)
	}
	tier, err := sqldb.OpenPostgres(opt)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tier is in use", tier.Linked)
	return tier
}

func TestPostgresKeepsTheContract(t *testing.T) {
	s := commonPostgres(t)
	tiertest.Run(t, func(t *testing.T) tier.Tier { return openPostgres(t, s, nil) })
}

func TestPostgresKeepsTheSharedContract(t *testing.T) {
	s := commonPostgres(t)
	tiertest.RunShared(t, func(t *testing.T, l tier.Listener) tier.Tier {
		return openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Listener = l })
	})
}

func BenchmarkPostgres(b *testing.B) {
	s := commonPostgres(b)
	tiertest.Benchmark(b, func(b *testing.B) tier.Tier { return openPostgres(b, s, nil) })
}
