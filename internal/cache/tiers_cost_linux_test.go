package cache_test

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// taxTier counts what reaches a tier.
type taxTier struct {
	tier.Tier
	name  string
	trips *atomic.Int64
}

func (t taxTier) Name() string { return t.name }

func (t taxTier) Read(ctx context.Context, l []tier.Lookup) ([]tier.Found, error) {
	t.trips.Add(1)
	return t.Tier.Read(ctx, l)
}

func (t taxTier) Write(ctx context.Context, w []tier.Write) error {
	t.trips.Add(1)
	return t.Tier.Write(ctx, w)
}

func (t taxTier) Bump(ctx context.Context, g []tier.Generation) error {
	t.trips.Add(1)
	return t.Tier.Bump(ctx, g)
}

func (t taxTier) Delete(ctx context.Context, k []tier.Key) error {
	t.trips.Add(1)
	return t.Tier.Delete(ctx, k)
}

// taxed is a stage before a server that says ttlMs 0, with a file and a shared tier behind memory, or without.
func taxed(tb testing.TB, tiers bool) (mcp.Caller, *atomic.Int64) {
	tb.Helper()
	store, err := cache.NewStore(cache.StoreOptions{
		Memory: memory.Options{Size: 1 << 20}, State: cache.MemoryState([]byte("0123456789abcdef")),
	})
	if err != nil {
		tb.Fatal(err)
	}
	trips := new(atomic.Int64)
	if tiers {
		store.Add(slow(taxTier{newRigTier("database", newRigDisk()), "database", trips}))
		store.Add(slow(taxTier{newRigTier("redis", newRigDisk()), "redis", trips}))
	}
	tb.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	server := mcp.CallerFunc(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		return rulesWhole(200, rulesAnswer(1, c, `"ttlMs":0,"cacheScope":"public"`)), nil
	})
	return store.Stage(cache.StageOptions{Name: "docs", Identity: "docs"}, server), trips
}

// taxAsk asks for the list n times.
func taxAsk(tb testing.TB, stage mcp.Caller, n int) {
	tb.Helper()
	for range n {
		res, err := stage.Call(tb.Context(), rulesModern("tools/list").call(tb))
		if err != nil || res.Status != 200 {
			tb.Fatal(res, err)
		}
		if err := res.Close(); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestNoTierTax: 2,000 lists of a server that says ttlMs 0 cost SQLite and Redis nothing after the first answer.
func TestNoTierTax(t *testing.T) {
	stage, trips := taxed(t, true)
	taxAsk(t, stage, 1)
	first := trips.Load()
	if first == 0 {
		t.Fatal("the tiers were not asked at all")
	}
	taxAsk(t, stage, 2000)
	if n := trips.Load() - first; n != 0 {
		t.Errorf("%d trips to the tiers for 2,000 answers that cannot be kept", n)
	}
}

// BenchmarkTierTax is such a list with tiers; on/off is its processor time by that of the same without them, in turns.
func BenchmarkTierTax(b *testing.B) {
	with, _ := taxed(b, true)
	without, _ := taxed(b, false)
	var on, off time.Duration
	taxAsk(b, with, 100)
	taxAsk(b, without, 100)
	for b.Loop() {
		off += processor(b, func() { taxAsk(b, without, 200) })
		on += processor(b, func() { taxAsk(b, with, 200) })
	}
	b.ReportMetric(float64(on)/float64(off), "on/off")
}

// processor is how much time of the processor f takes.
func processor(tb testing.TB, f func()) time.Duration {
	tb.Helper()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			tb.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}
