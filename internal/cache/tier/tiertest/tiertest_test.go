package tiertest_test

import (
	"context"
	"sync"
	"testing"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// server is a Map that several daemons share.
type server struct {
	tiertest.Map
	mu        sync.Mutex // guards the following
	listeners []tier.Listener
}

// view is one daemon's tier on a server.
type view struct {
	*server
	number int // of its listener
}

func (v view) Bump(ctx context.Context, generations []tier.Generation) error {
	_ = v.Map.Bump(ctx, generations) // never fails
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, l := range v.listeners {
		if i != v.number {
			l.Bumped(generations)
		}
	}
	return nil
}

func TestASimpleTierPasses(t *testing.T) {
	tiertest.Run(t, func(*testing.T) tier.Tier { return new(tiertest.Map) })
}

func TestASimpleSharedTierPasses(t *testing.T) {
	s := new(server)
	tiertest.RunShared(t, func(_ *testing.T, l tier.Listener) tier.Tier {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.listeners = append(s.listeners, l)
		return view{s, len(s.listeners) - 1}
	})
}

func BenchmarkSimple(b *testing.B) {
	tiertest.Benchmark(b, func(*testing.B) tier.Tier { return new(tiertest.Map) })
}
