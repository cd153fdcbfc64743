package cache_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// probedBreaker opens at a failure, and closes only when a call that it lets through every two seconds works.
type probedBreaker struct {
	mu      sync.Mutex // guards the following
	open    bool
	probing bool
	tried   time.Time // the last failure
	most    []time.Duration
}

func (b *probedBreaker) Allow(most time.Duration) (func(error), bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open && (b.probing || time.Since(b.tried) < 2*time.Second) {
		return nil, false
	}
	b.probing = b.open
	b.most = append(b.most, most)
	return b.done, true
}

func (b *probedBreaker) done(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if !errors.Is(err, context.Canceled) {
		b.open, b.tried = err != nil, time.Now()
	}
}

func (b *probedBreaker) State() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return "closed"
	case time.Since(b.tried) < 2*time.Second:
		return "open"
	}
	return "half-open"
}

// tierEntries reads the metric of how many entries a tier holds.
func tierEntries(tb testing.TB, reg *prometheus.Registry, tier string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "fluentd_perf_cache_entries" && m.GetLabel()[0].GetValue() == tier {
				return m.GetGauge().GetValue()
			}
		}
	}
	tb.Fatalf("no fluentd_perf_cache_entries of %s", tier)
	return 0
}

// TestIdleTierIsTriedAgain: a tier that fails once and of which nobody wants anything after that is used again within five
// seconds of its return, whenever both are.
func TestIdleTierIsTriedAgain(t *testing.T) {
	for _, fate := range []rigFate{rigFails, rigHangs} {
		for _, fails := range []time.Duration{0, time.Second, 9 * time.Second, 14 * time.Second, 16 * time.Second} {
			for _, away := range []time.Duration{500 * time.Millisecond, 3 * time.Second, 20 * time.Second} {
				synctest.Test(t, func(t *testing.T) { testIdleTier(t, fate, fails, away) })
			}
		}
	}
}

func testIdleTier(t *testing.T, fate rigFate, fails, away time.Duration) {
	tier, breaker, reg := newRigTier("database", newRigDisk()), new(probedBreaker), prometheus.NewRegistry()
	one := worker.Options{Tier: tier, Timeout: 50 * time.Millisecond, Breaker: breaker, Private: true}
	r := newMendedRig(t, cache.StoreOptions{Metrics: cache.NewMetrics(reg)}, rulesAll(), one)
	defer r.close()
	r.initialize("", "{}", "{}")
	r.asks("kept", rulesLegacy("tools/list"))
	r.after(fails)
	tier.set(func() { tier.fate = always(fate, "read", "write", "bump") })
	r.asks("the tier fails, with nothing pending", rulesLegacy("prompts/list"))
	if breaker.State() == "closed" {
		t.Fatal("nobody has noticed")
	}
	r.after(away)
	reads := len(tier.did("read"))
	tier.set(func() { tier.fate = nil })
	r.after(5 * time.Second)
	if breaker.State() != "closed" || len(tier.did("read")) == reads {
		t.Fatalf("after %v, away for %v: five seconds after its return the tier is not used: %s", fails, away, breaker.State())
	}
	r.after(20 * time.Second)
	if n := tierEntries(t, reg, "database"); n != 1 {
		t.Errorf("the metrics say %v entries, want 1", n)
	}
	reads = len(tier.did("read"))
	r.after(10 * time.Minute)
	if n := len(tier.did("read")) - reads; n != 0 {
		t.Errorf("a tier that works was tried %d times", n)
	}
}

// TestWorkersTripsAreLong: the worker says how long its trips may take, and calls how long their reads may.
func TestWorkersTripsAreLong(t *testing.T) {
	tier, breaker := newRigTier("redis", newRigDisk()), new(probedBreaker)
	one := worker.Options{Tier: tier, Timeout: 50 * time.Millisecond, Breaker: breaker, Private: true}
	withRig(t, cache.StoreOptions{}, cache.StageOptions{}, []worker.Options{one}, func(r *rulesRig) {
		r.asks("kept", rulesModern("tools/list"))
		if got := fmt.Sprint(breaker.most); got != "[50ms 2s]" {
			t.Errorf("a read and a write asked for %s", got)
		}
		breaker.most = nil
		r.stream(toolsChanged, rulesModern("ping"))
		if got := fmt.Sprint(breaker.most); got != "[2s]" {
			t.Errorf("a bump asked for %s", got)
		}
	})
}

// TestPendingOfOneUpstream has more pending of one upstream than a tier notes one by one: that one's answers are stale, and those
// of the other are not.
func TestPendingOfOneUpstream(t *testing.T) {
	tier := newRigTier("redis", newRigDisk())
	one := slow(tier)
	breaker := one.Breaker.(*rigBreaker)
	withRig(t, cache.StoreOptions{}, cache.StageOptions{}, []worker.Options{one}, func(r *rulesRig) {
		up, caller := r.another("other", "https://other.example.com/mcp", cache.StageOptions{})
		other := r.through(caller)
		list, read, changed := rulesModern("tools/list"), rulesRead("file:///read"), rulesRead("file:///changed")
		r.says(`"ttlMs":600000`)
		r.asks("kept", list)
		keptList, keptRead := other.asks("kept", list), other.asks("kept", read)
		other.asks("kept", changed)
		breaker.hold(true)
		notifyUpdates(t, up, "file:///changed")
		many := make([]string, 20_001)
		for i := range many {
			many[i] = "file:///" + strconv.Itoa(i)
		}
		notifyUpdates(t, r.up, many...)
		breaker.hold(false)
		r.after(time.Second)
		told := 0
		for _, op := range tier.did("bump") {
			told += len(op.generations)
		}
		if told > 20 {
			t.Errorf("the tier was told of %d generations", told)
		}
		r.forget()
		other.hits("the other upstream's list", keptList.n, list)
		other.hits("the other upstream's resource", keptRead.n, read)
		other.asks("the other upstream's change", changed)
		r.asks("the list of the upstream with the many", list)
	})
}

// notifyUpdates has updates of resources pass on an agent's stream.
func notifyUpdates(t *testing.T, up *cache.Stage, uris ...string) {
	t.Helper()
	events := make([]mcp.Event, len(uris))
	for i, uri := range uris {
		events[i].Data = fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%q}}`, uri)
	}
	front := up.Through(mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) { return rigStream(events...), nil }))
	res, err := front.Call(context.Background(), rulesModern("subscriptions/listen").on(mcp.LaneListen).call(t))
	if err != nil {
		t.Fatal(err)
	}
	for range uris {
		if _, err := res.Events.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if err := res.Close(); err != nil {
		t.Error(err)
	}
}
