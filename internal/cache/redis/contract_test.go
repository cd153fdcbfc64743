package redis_test

import (
	"testing"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

func TestContract(t *testing.T) {
	s := newServer(t)
	tiertest.Run(t, func(t *testing.T) tier.Tier { return open(t, s.url()) })
}

func TestContractShared(t *testing.T) {
	s := newServer(t)
	tiertest.RunShared(t, func(t *testing.T, l tier.Listener) tier.Tier {
		tier := open(t, s.url(), func(o *redis.Options) { o.Listener = l })
		eventually(t, "the link stands", tier.Linked) // who reads before is told that something may have been missed
		return tier
	})
}

func BenchmarkTier(b *testing.B) {
	s := newServer(b)
	tiertest.Benchmark(b, func(b *testing.B) tier.Tier { return open(b, s.url()) })
}
