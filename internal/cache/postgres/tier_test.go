package postgres_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// openPostgres opens a tier that the test closes, and waits until it is in use. Its timeout is that of a busy machine.
func open(t testing.TB, s *pgServer, change func(*postgres.Options)) *postgres.Tier {
	t.Helper()
	opt := postgres.Options{URL: s.url(), Prefix: "0123abcd", Timeout: 5 * time.Second}
	if change != nil {
		change(&opt)
	}
	tier, err := postgres.OpenTier(opt)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tier is in use", tier.Linked)
	return tier
}

func TestKeepsTheContract(t *testing.T) {
	s := commonPostgres(t)
	tiertest.Run(t, func(t *testing.T) tier.Tier { return open(t, s, nil) })
}

func TestKeepsTheSharedContract(t *testing.T) {
	s := commonPostgres(t)
	tiertest.RunShared(t, func(t *testing.T, l tier.Listener) tier.Tier {
		return open(t, s, func(o *postgres.Options) { o.Listener = l })
	})
}

func BenchmarkTier(b *testing.B) {
	s := commonPostgres(b)
	tiertest.Benchmark(b, func(b *testing.B) tier.Tier { return open(b, s, nil) })
}

func TestTrustsNoValue(t *testing.T) {
	s := commonPostgres(t)
	held := open(t, s, nil)
	tiertest.RunPlanted(t, held, func(value []byte) { s.exec("UPDATE fluentd_perf_entries SET value = $1", value) })
}
