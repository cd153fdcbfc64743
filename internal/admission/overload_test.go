package admission_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/mcp"
)

// tally is what became of one agent's calls.
type tally struct {
	offered, served int
	longest         time.Duration // that a served one waited
}

// TestOverload: a server of 50 slots of 100 ms is offered ten times what it can do for 30 s. It does nearly all it can, the
// one that asks little gets all of it and soon, those that ask too much share what is left, and it is over when they stop.
func TestOverload(t *testing.T) {
	const slots, queue, lasts, takes = 50, 250, 30 * time.Second, 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		a := admission.New(admission.Options{
			Upstream: "files", MaxInFlight: slots, Queue: queue, QueueWait: 2 * time.Second, Total: admission.NewTotal(4096),
		})
		var mu sync.Mutex // guards the following
		var flood, pushy, slow tally
		var most int
		one := func(agent string, k *tally) {
			start := time.Now()
			slot, _, f := a.Enter(t.Context(), request(agent))
			if f != nil {
				if f.Code != mcp.CodeOverloaded || f.RetryAfter < 100*time.Millisecond || f.RetryAfter > 2*time.Second {
					t.Errorf("refused by %+v", f)
				}
				return
			}
			inFlight, queued := a.Stats()
			if inFlight > slots || queued > queue {
				t.Errorf("%d in flight, %d queued", inFlight, queued)
			}
			mu.Lock()
			most = max(most, queued)
			k.served++
			k.longest = max(k.longest, time.Since(start))
			mu.Unlock()
			pass(takes)
			slot()
		}
		for tick := range int(lasts / time.Millisecond) {
			offer := func(agent string, k *tally, every, n int) {
				if tick%every == 0 {
					for range n {
						k.offered++
						go one(agent, k)
					}
				}
			}
			offer("flood", &flood, 1, 4) // 4,000/s
			offer("pushy", &pushy, 1, 1) // 1,000/s
			offer("slow", &slow, 100, 1) // 10/s
			pass(time.Millisecond)
		}
		pass(time.Second)
		if _, queued := a.Stats(); queued != 0 {
			t.Errorf("%d wait a second after", queued)
		}
		pass(takes)
		g := &gate{Admission: a, tb: t}
		g.stats(0, 0)

		could := int(lasts/takes) * slots
		served := flood.served + pushy.served + slow.served
		if served*10 < could*9 {
			t.Errorf("%d served of the %d that it could", served, could)
		}
		if slow.served != slow.offered {
			t.Errorf("%d of the slow agent's %d served", slow.served, slow.offered)
		}
		if slow.longest > takes {
			t.Errorf("the slow agent waited up to %v", slow.longest)
		}
		if d := flood.served - pushy.served; max(d, -d) > flood.served/20 {
			t.Errorf("the flood got %d and the other %d", flood.served, pushy.served)
		}
		t.Logf("served %d of %d; flood %+v, pushy %+v, slow %+v; queue up to %d", served, could, flood, pushy, slow, most)
	})
}

// TestNoLostSlots: whatever callers do at the same time, no more calls are under way than may be, and in the end all slots
// and all places are free.
func TestNoLostSlots(t *testing.T) {
	const workers, calls = 48, 400
	total := admission.NewTotal(6)
	var gates []*admission.Admission
	var under [2]atomic.Int64
	for _, name := range []string{"a", "b"} {
		gates = append(gates, admission.New(admission.Options{
			Upstream: name, MaxInFlight: 4, Queue: 16, QueueWait: time.Millisecond, Total: total,
		}))
	}
	var wg sync.WaitGroup
	reasons := []mcp.Reason{mcp.ReasonQueueFull, mcp.ReasonQueueWait, mcp.ReasonInFlight, mcp.ReasonCanceled}
	var admitted atomic.Int64
	var counts [4]atomic.Int64
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for i := range calls {
				g := r.IntN(2)
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(3) == 0 {
					go cancel()
				}
				slot, _, f := gates[g].Enter(ctx, request(string(rune('a'+w%5))))
				if f != nil {
					counts[slices.Index(reasons, f.Reason)].Add(1) // panics at any other
				} else {
					admitted.Add(1)
					if n := under[g].Add(1); n > 4 {
						t.Errorf("%d under way", n)
					}
					if n := total.InFlight(); n > 6 {
						t.Errorf("%d under way in all", n)
					}
					for range i % 50 {
						gates[g].Stats()
					}
					under[g].Add(-1)
					if r.IntN(2) == 0 {
						wg.Go(slot)
					} else {
						slot()
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for _, g := range gates {
		if i, q := g.Stats(); i != 0 || q != 0 {
			t.Errorf("%d in flight and %d queued at the end", i, q)
		}
	}
	if n := total.InFlight(); n != 0 {
		t.Errorf("%d in flight in all at the end", n)
	}
	if admitted.Load() == 0 {
		t.Error("nobody came in")
	}
	t.Logf("admitted %d", admitted.Load())
	for i, reason := range reasons {
		t.Logf("%s %d", reason, counts[i].Load())
	}
}

// BenchmarkAdmission is one call that enters and leaves: alone, one that is refused because too many wait already, and one
// among others that go through as fast as they can.
func BenchmarkAdmission(b *testing.B) {
	make := func(slots, queue int) *admission.Admission {
		return admission.New(admission.Options{
			Upstream: "files", MaxInFlight: slots, Queue: queue, QueueWait: time.Minute, Total: admission.NewTotal(4096),
		})
	}
	b.Run("free", func(b *testing.B) {
		a, c := make(512, 1024), request("x")
		b.ReportAllocs()
		for b.Loop() {
			slot, _, _ := a.Enter(b.Context(), c)
			slot()
		}
	})
	b.Run("refused", func(b *testing.B) {
		a, c := make(1, 0), request("x")
		slot, _, _ := a.Enter(b.Context(), c)
		b.ReportAllocs()
		for b.Loop() {
			a.Enter(b.Context(), c)
		}
		slot()
	})
	for _, o := range []struct{ callers, slots, agents int }{{64, 64, 8}, {64, 8, 8}, {10_000, 8, 10_000}} {
		b.Run(fmt.Sprintf("%d callers for %d slots", o.callers, o.slots), func(b *testing.B) {
			a := make(o.slots, o.callers)
			b.SetParallelism(o.callers / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			var n atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				c := request(fmt.Sprint(int(n.Add(1)) % o.agents))
				for pb.Next() {
					slot, _, _ := a.Enter(b.Context(), c)
					slot()
				}
			})
		})
	}
}
