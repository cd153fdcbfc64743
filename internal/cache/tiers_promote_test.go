package cache_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
)

// stacked runs f over two tiers, redis before database.
func stacked(t *testing.T, scope string, f func(r *rig, one, two *rigTier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		one, two := newRigTier("redis", newRigDisk()), newRigTier("database", newRigDisk())
		r := newRig(t, rigOptions{
			tiers:    []worker.Options{slow(one), slow(two)},
			server:   &rigServer{ttl: 8 * time.Second, scope: scope, says: "v1"},
			upstream: cache.StageOptions{StaleIfError: time.Hour},
		})
		synctest.Wait()
		f(r, one, two)
		r.close(time.Second)
	})
}

// TestPromotion has only the second tier keep an answer: it goes into memory with the same times, and not into the first,
// which may have been told of a change of which the second has not.
func TestPromotion(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			stacked(t, scope, func(r *rig, one, two *rigTier) {
				one.set(func() { one.fate = always(rigLoses, "write") })
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				one.set(func() { one.fate = nil })
				after(3 * time.Second)
				r.forget()
				if told := r.want("a", "tools/list", "v1", "database"); told.ttl != 5000 {
					t.Errorf("ttlMs %d, want 5000", told.ttl)
				}
				synctest.Wait()
				if n := len(one.disk.keys()); n != 0 {
					t.Errorf("the first tier holds %d entries", n)
				}
				after(4999 * time.Millisecond)
				if told := r.want("a", "tools/list", "v1", "memory"); told.ttl != 1 {
					t.Errorf("ttlMs %d, want 1", told.ttl)
				}
				after(time.Millisecond)
				r.own.set(func() { r.own.says = "v2" })
				r.want("a", "tools/list", "v2", "fwd=miss stored")
			})
		})
	}
}

// TestPromotionMeetsABump has the answer of a slow tier come after a bump: it goes nowhere.
func TestPromotionMeetsABump(t *testing.T) {
	stacked(t, "private", func(r *rig, one, two *rigTier) {
		one.set(func() { one.fate = always(rigLoses, "write") })
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		synctest.Wait()
		one.set(func() { one.fate = nil })
		r.forget()
		two.set(func() {
			two.mangle = func(found []tier.Found) []tier.Found {
				r.notify(rigTools, "")
				return found
			}
		})
		r.own.set(func() { r.own.says = "v2" })
		r.want("a", "tools/list", "v2", "fwd=miss") // it is given, since it was asked after that, and not kept
		two.set(func() { two.mangle = nil })
		synctest.Wait()
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		synctest.Wait()
		r.forget()
		r.want("a", "tools/list", "v2", "redis")
	})
}

// shareds runs f over a shared tier whose link can be cut.
func shareds(t *testing.T, f func(r *rig, tier *rigTier, up *atomic.Bool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tier, up := newRigTier("redis", newRigDisk()), new(atomic.Bool)
		up.Store(true)
		one := slow(rigLinked{tier, up})
		one.Shared = true
		r := newRig(t, rigOptions{tiers: []worker.Options{one}})
		synctest.Wait()
		f(r, tier, up)
		r.close(time.Second)
	})
}

// TestCopiesOfASharedTierAreChecked cuts the link to the other daemons: what came from the tier is asked for again, what
// the server told this daemon is not.
func TestCopiesOfASharedTierAreChecked(t *testing.T) {
	shareds(t, func(r *rig, tier *rigTier, up *atomic.Bool) {
		r.want("a", "prompts/list", "v1", "fwd=miss stored")
		synctest.Wait()
		r.forget()
		r.want("a", "prompts/list", "v1", "redis")
		r.want("a", "prompts/list", "v1", "memory")
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		up.Store(false)
		r.want("a", "tools/list", "v1", "memory")  // its own
		r.want("a", "prompts/list", "v1", "redis") // a copy
		r.want("a", "prompts/list", "v1", "redis")
		r.own.set(func() { r.own.says = "v2" })
		tier.disk.bumpAll()                                  // by another daemon; not received
		r.want("a", "prompts/list", "v2", "fwd=miss stored") // its own from now on
		r.want("a", "prompts/list", "v2", "memory")
		synctest.Wait()
		r.forget()
		r.want("a", "prompts/list", "v2", "redis")
		tier.set(func() { tier.fate = always(rigFails, "read") })
		r.own.set(func() { r.own.says = "v3" })
		r.want("a", "prompts/list", "v3", "fwd=miss stored") // a copy that cannot be checked
		tier.set(func() { tier.fate = nil })
		up.Store(true)
		r.want("a", "prompts/list", "v3", "memory")
	})
}

// TestLostBumpsMemoryAlone has the link come back: memory is stale, the shared tier is not.
func TestLostBumpsMemoryAlone(t *testing.T) {
	shareds(t, func(r *rig, tier *rigTier, _ *atomic.Bool) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		synctest.Wait()
		r.store.Listener().Lost()
		synctest.Wait()
		r.want("a", "tools/list", "v1", "redis")
		if tier.order() != "write" {
			t.Errorf("the tier had %s", tier.order())
		}
	})
}

// TestReceivedBumpIsMemorysAlone has another daemon bump: the shared tier knows, and is not told again.
func TestReceivedBumpIsMemorysAlone(t *testing.T) {
	shareds(t, func(r *rig, tier *rigTier, _ *atomic.Bool) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("a", "prompts/list", "v1", "fwd=miss stored")
		synctest.Wait()
		family := tier.did("read")[0].generations[:1]
		tier.disk.bump(family)
		r.store.Listener().Bumped(family)
		r.own.set(func() { r.own.says = "v2" })
		r.want("a", "prompts/list", "v1", "memory")
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		synctest.Wait()
		if tier.order() != "write write write" && tier.order() != "write write" {
			t.Errorf("the tier had %s", tier.order())
		}
	})
}

// TestEntriesOfAnotherClock reads what a daemon wrote whose clock differs: a little does no harm, more makes a miss.
func TestEntriesOfAnotherClock(t *testing.T) {
	for name, test := range map[string]struct {
		ahead time.Duration // the writer's clock before the reader's
		from  string
		ttl   int64
	}{
		"the same time":   {0, "redis", 60_000},
		"a second ahead":  {time.Second, "redis", 60_000},
		"three ahead":     {3 * time.Second, "fwd=miss stored", 60_000},
		"an hour ahead":   {time.Hour, "fwd=miss stored", 60_000},
		"a second behind": {-time.Second, "redis", 59_000},
		"an hour behind":  {-time.Hour, "fwd=miss stored", 60_000},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newRigDisk()
			run := func(late time.Duration, from string) (told rigTold) {
				synctest.Test(t, func(t *testing.T) { // each at the same moment of false time
					<-time.After(late)
					r := newRig(t, rigOptions{tiers: []worker.Options{slow(newRigTier("redis", disk))}})
					told = r.want("a", "tools/list", "v1", from)
					r.close(time.Second)
				})
				return told
			}
			run(max(0, test.ahead), "fwd=miss stored")
			if told := run(max(0, -test.ahead), test.from); told.ttl != test.ttl {
				t.Errorf("ttlMs %d, want %d", told.ttl, test.ttl)
			}
		})
	}
}

// TestSharedTierSaysThatNothingIsReceived cuts the link alone: calls work, and what is wrong is said until the link stands again.
func TestSharedTierSaysThatNothingIsReceived(t *testing.T) {
	shareds(t, func(r *rig, _ *rigTier, up *atomic.Bool) {
		for _, stands := range []bool{true, false, true} {
			up.Store(stands)
			if got := r.tier("redis").Error; (got == "") != stands || !stands && !strings.Contains(got, "not received") {
				t.Errorf("the link stands: %t, and what is wrong is %q", stands, got)
			}
		}
	})
}
