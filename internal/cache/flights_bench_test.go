package cache_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// BenchmarkLeader is a call that nobody shares: what the flight itself costs. The two allocations of the fake stage are
// among those reported.
func BenchmarkLeader(b *testing.B) {
	for _, size := range []int{200, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := newFlights(fixed(size))
			c := list("7")
			b.ReportAllocs()
			for b.Loop() {
				res, err := g.Call(context.Background(), c)
				if err != nil {
					b.Fatal(err)
				}
				_ = res.Close()
			}
		})
	}
}

// BenchmarkAlone is the same call without a key.
func BenchmarkAlone(b *testing.B) {
	g := newFlights(fixed(200))
	c := list("7")
	setKey(c, flightKey{})
	b.ReportAllocs()
	for b.Loop() {
		res, err := g.Call(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		_ = res.Close()
	}
}

// BenchmarkFollower is one caller more in a flight, with the leader's id and with its own. One operation is one follower,
// the start of its goroutine included.
func BenchmarkFollower(b *testing.B) {
	for _, size := range []int{200, 10_000} {
		for _, id := range []string{"7", "8"} {
			b.Run(fmt.Sprintf("%d/%s", size, map[string]string{"7": "sameID", "8": "otherID"}[id]), func(b *testing.B) {
				benchmarkFollower(b, size, id)
			})
		}
	}
}

func benchmarkFollower(b *testing.B, size int, id string) {
	const concurrent = 1000
	answer := fixed(size)
	var entered, open chan struct{}
	var calls atomic.Int64
	g := newFlights(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if n := calls.Add(1); n == 1 {
			close(entered)
			<-open
		} // else a goroutine was too late to join its flight
		return answer(ctx, c)
	})
	leader, follower := list("7"), list(id)
	call := func(c *mcp.Call) {
		res, err := g.Call(context.Background(), c)
		if err != nil {
			b.Error(err)
			return
		}
		_ = res.Close()
	}
	b.ReportAllocs()
	b.ResetTimer()
	late := int64(0)
	for done := 0; done < b.N; done += concurrent {
		calls.Store(0)
		entered, open = make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { call(leader) })
		<-entered
		for range min(concurrent, b.N-done) {
			wg.Go(func() { call(follower) })
		}
		runtime.Gosched()
		close(open)
		wg.Wait()
		late += calls.Load() - 1
	}
	b.ReportMetric(float64(late)/float64(b.N), "late/op")
}

// BenchmarkKeys is flights of different keys from all processors at once: what the locks cost.
func BenchmarkKeys(b *testing.B) {
	g := newFlights(fixed(200))
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		c := list("7")
		for n := 0; pb.Next(); n++ {
			setKey(c, sha256.Sum256([]byte{byte(n), byte(n >> 8)}))
			res, err := g.Call(context.Background(), c)
			if err != nil {
				b.Error(err)
				return
			}
			_ = res.Close()
		}
	})
}

func newFlights(next mcp.CallerFunc) *cache.Flights {
	return cache.NewFlights(cache.FlightsOptions{Next: next, Buffers: new(mcp.BufferPool), Metrics: cache.NewMetrics(nil)})
}

// fixed answers with a body of about that size. Its id is not the call's, which Flights does not look at.
func fixed(size int) mcp.CallerFunc {
	pattern := *shareable(list("1"), strings.Repeat("x", size-80))
	return func(context.Context, *mcp.Call) (*mcp.Result, error) {
		res := pattern
		res.Header = header.List{{Name: "Content-Type", Value: pattern.Header.Get("Content-Type")}}
		return &res, nil
	}
}
