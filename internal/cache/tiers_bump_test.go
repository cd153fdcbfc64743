package cache_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
)

func TestBumpReachesMemoryFirst(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("a", "prompts/list", "v1", "fwd=miss stored")
		synctest.Wait()
		open := held.gate("bump")
		r.own.set(func() { r.own.says = "v2" })
		r.notify(rigTools, "")
		synctest.Wait() // the worker is telling the tier
		reads := len(held.did("read"))
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		r.want("a", "tools/list", "v2", "memory")
		if n := len(held.did("read")) - reads; n != 0 {
			t.Errorf("%d reads of a family of which the tier was not told", n)
		}
		r.forget()
		r.want("a", "prompts/list", "v1", "redis") // another family is read
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		if s := r.tier("redis"); s.Pending != 1 || s.Skipped != 2 {
			t.Errorf("before the tier knows: %+v", s)
		}
		open()
		r.forget()
		r.want("a", "tools/list", "v2", "fwd=miss stored") // nothing of it was written
		synctest.Wait()
		r.forget()
		r.want("a", "tools/list", "v2", "redis")
		if s := r.tier("redis"); s.Pending != 0 {
			t.Errorf("at the end: %+v", s)
		}
	})
}

// TestBumpMeetsAReadOnItsWay has the tier answer a read that began before the bump, after it.
func TestBumpMeetsAReadOnItsWay(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprint("told ", told), func(t *testing.T) {
			rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				r.forget()
				r.own.set(func() { r.own.says = "v2" })
				gate, read := make(chan struct{}), held.disk.read
				held.set(func() {
					held.wait = func(_ context.Context, op rigOp) {
						if op.name == "bump" && !told {
							<-gate
						}
					}
					held.mangle = func(found []tier.Found) []tier.Found { // read before, answered after
						held.mu.Unlock()
						<-gate
						held.mu.Lock()
						return found
					}
				})
				_ = read
				var got rigTold
				var group sync.WaitGroup
				group.Go(func() { got = r.ask("a", "tools/list") })
				synctest.Wait()
				r.notify(rigTools, "")
				synctest.Wait()
				close(gate)
				group.Wait()
				if got.says != "v2" {
					t.Errorf("told %+v", got)
				}
				held.set(func() { held.mangle = nil })
				r.want("a", "tools/list", "v2", "fwd=miss stored") // what was asked before is not kept
				synctest.Wait()
				// Of the change once. A withdrawal may come after it, and again, since the tier may not have been asked what it has.
				ops, told := held.did("bump"), make(map[tier.Generation]int)
				for _, op := range ops {
					for _, g := range op.generations {
						told[g]++
					}
				}
				for _, first := range ops[:min(1, len(ops))] {
					for _, g := range first.generations {
						if told[g] != 1 {
							t.Errorf("the tier was told %d times of a change", told[g])
						}
					}
				}
				if len(told) == 0 {
					t.Error("the tier was not told")
				}
			})
		})
	}
}

// TestMovedTierIsToldAgain has a shared tier be at another server than before: whatever was invalidated while no link stood is
// told there as well, before the tier is read again.
func TestMovedTierIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := newRigTier("redis", newRigDisk())
		one := slow(held)
		one.Shared = true
		r := newRig(t, rigOptions{tiers: []worker.Options{one}})
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		synctest.Wait()
		r.own.set(func() { r.own.says = "v2" })
		r.store.Listener().Moved()
		r.forget()
		r.want("a", "tools/list", "v2", "fwd=miss stored") // the tier is not read, or what it has is stale
		synctest.Wait()
		if n := len(held.did("bump")); n == 0 {
			t.Error("the tier was told nothing")
		}
		r.close(10 * time.Second)
	})
}

// TestBumpIsPendingUntilTold has the tier refuse bumps in all ways: it is not read until one has worked, also if it had.
func TestBumpIsPendingUntilTold(t *testing.T) {
	for name, fate := range map[string]rigFate{"fails": rigFails, "hangs": rigHangs, "answer lost": rigMutes} {
		t.Run(name, func(t *testing.T) {
			rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				held.set(func() { held.fate = always(fate, "bump") })
				r.own.set(func() { r.own.says = "v2" })
				r.notify(rigTools, "")
				for range 20 {
					after(time.Second)
					r.forget()
					r.want("a", "tools/list", "v2", "fwd=miss stored")
				}
				if s := r.tier("redis"); s.Pending != 1 || s.Skipped != 20 || s.Written != 1 {
					t.Errorf("while it fails: %+v", s)
				}
				held.set(func() { held.fate = nil })
				after(3 * time.Second)
				r.forget()
				r.want("a", "tools/list", "v2", "fwd=miss stored")
				synctest.Wait()
				r.forget()
				r.want("a", "tools/list", "v2", "redis")
			})
		})
	}
}

// TestBumpPendingAgain has a family change once more while the tier is being told of the first time.
func TestBumpPendingAgain(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		synctest.Wait()
		open := held.gate("bump")
		r.notify(rigTools, "")
		synctest.Wait()
		r.notify(rigTools, "")
		r.notify(rigTools, "")
		if s := r.tier("redis"); s.Pending != 1 {
			t.Errorf("%d pending", s.Pending)
		}
		open()
		if n := len(held.did("bump")); n != 2 {
			t.Errorf("the tier was told %d times, want twice", n)
		}
	})
}

// TestBumpOneOfTwoURIs has only the entries of one resource go.
func TestBumpOneOfTwoURIs(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		r.fills("x", 2)
		synctest.Wait()
		open := held.gate("bump")
		r.own.set(func() { r.own.says = "v2" })
		r.notify(rigUpdated, "file:///x/1")
		r.forget()
		r.want("a", "resources/read file:///x/0", "v1", "redis")
		r.want("a", "resources/read file:///x/1", "v2", "fwd=miss stored")
		open()
	})
}

// TestManyPendingBecomeFamilies has more invalidations pending at the tier than it notes one by one.
func TestManyPendingBecomeFamilies(t *testing.T) {
	const most = 20_000
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("a", "resources/read file:///0", "v1", "fwd=miss stored")
		synctest.Wait()
		b.hold(true)
		for i := range most {
			r.notify(rigUpdated, fmt.Sprint("file:///", i))
		}
		if s := r.tier("redis"); s.Pending != most {
			t.Fatalf("%d pending", s.Pending)
		}
		r.notify(rigUpdated, "file:///one more")
		families := r.tier("redis").Pending - 1
		if families < 5 || families > 10 {
			t.Fatalf("%d families pending", families)
		}
		r.notify(rigUpdated, "file:///and another")
		b.hold(false)
		r.own.set(func() { r.own.says = "v2" })
		r.forget()
		r.want("a", "tools/list", "v2", "fwd=miss stored") // not read: all of it is pending
		after(time.Second)
		bumps := held.did("bump")
		if len(bumps) != 1 || len(bumps[0].generations) != families+2 {
			t.Errorf("%d bumps, of %d generations", len(bumps), len(bumps[0].generations))
		}
		r.forget()
		r.want("a", "resources/read file:///0", "v2", "fwd=miss stored")
	})
}

// TestManyBumpsInTurn has pending invalidations that take more than one trip.
func TestManyBumpsInTurn(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		b.hold(true)
		for i := range 1000 {
			r.notify(rigUpdated, fmt.Sprint("file:///", i))
		}
		b.hold(false)
		after(time.Second)
		var told []tier.Generation
		for _, op := range held.did("bump") {
			if len(op.generations) > 128 {
				t.Errorf("%d generations in one trip", len(op.generations))
			}
			told = append(told, op.generations...)
		}
		slices.SortFunc(told, func(a, b tier.Generation) int { return slices.Compare(a[:], b[:]) })
		if len(told) != 1000 || len(slices.Compact(told)) != 1000 {
			t.Errorf("%d generations were told, %d different ones", len(told), len(slices.Compact(told)))
		}
	})
}

func TestPurgeWaitsForTheTiers(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("a", "prompts/list", "v1", "fwd=miss stored")
		synctest.Wait()
		r.own.set(func() { r.own.says = "v2" })
		held.set(func() {
			held.wait = func(_ context.Context, op rigOp) {
				if op.name == "bump" {
					<-time.After(time.Second)
				}
			}
		})
		purge := func(upstream, method string) (map[string][]string, []string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			return r.store.Purge(ctx, upstream, method)
		}
		var purged map[string][]string
		var pending []string
		var err error
		took := timed(func() { purged, pending, err = purge("docs", "tools/list") })
		if err != nil || len(pending) != 0 || len(purged) != 1 || !slices.Equal(purged["docs"], []string{"tools/list"}) {
			t.Errorf("purged %v, pending %v, %v", purged, pending, err)
		}
		if took < time.Second || took > 1010*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		r.forget()
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		r.want("a", "prompts/list", "v1", "redis")
		b.hold(true)
		took = timed(func() { purged, pending, err = purge("", "") })
		if err != nil || !slices.Equal(pending, []string{"redis"}) || len(purged) != 1 || took != 2*time.Second {
			t.Errorf("purged %v, pending %v, %v in %v", purged, pending, err, took)
		}
		b.hold(false)
		r.want("a", "prompts/list", "v2", "fwd=miss stored")
		after(3 * time.Second)
		r.forget()
		r.want("a", "prompts/list", "v2", "fwd=miss stored")
		for _, bad := range [][2]string{{"nobody", ""}, {"docs", "initialize"}, {"", "prompts/get"}, {"", "rubbish"}} {
			if _, _, err := purge(bad[0], bad[1]); err == nil {
				t.Errorf("purge of %v is no error", bad)
			}
		}
	})
}

// TestBumpGoesBeforeWrites has a bump come while entries wait: it does not wait for them.
func TestBumpGoesBeforeWrites(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		open := held.gate("write")
		r.fills("first", 1)
		synctest.Wait()
		r.fills("more", 200)
		r.notify(rigTools, "")
		open()
		if got := held.order(); got != "write bump write write" {
			t.Errorf("the tier had %s", got)
		}
	})
}

// TestOneTellsBoth has two daemons share two tiers: the one that makes a change tells both, and the other, which is told by
// either of them or by both, tells nobody and asks the server once more.
func TestOneTellsBoth(t *testing.T) {
	for _, subscribed := range []int{1, 2} {
		t.Run(fmt.Sprint("subscribed ", subscribed, " times"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &rigServer{ttl: time.Hour, scope: "private", says: "v1"}
				disks := []*rigDisk{newRigDisk(), newRigDisk()}
				var daemons [2]*rig
				var tiers [2][2]*rigTier
				for i := range daemons {
					var slows []worker.Options
					for j, name := range []string{"redis", "database"} {
						tiers[i][j] = newRigTier(name, disks[j])
						one := slow(tiers[i][j])
						one.Shared = true
						slows = append(slows, one)
					}
					daemons[i] = newRig(t, rigOptions{server: server, tiers: slows})
					defer daemons[i].close(time.Second)
				}
				first, second := daemons[0], daemons[1]
				first.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				second.want("a", "tools/list", "v1", "redis")
				for j := range tiers[0] {
					if j < subscribed {
						tiers[0][j].bumped = second.store.Listener().Bumped
					}
				}
				server.set(func() { server.says = "v2" })
				first.notify(rigTools, "")
				synctest.Wait()
				for j := range tiers[0] {
					if n, m := len(tiers[0][j].did("bump")), len(tiers[1][j].did("bump")); n != 1 || m != 0 {
						t.Errorf("tier %d was told %d times by the daemon that made the change, %d by the other", j, n, m)
					}
				}
				second.want("a", "tools/list", "v2", "fwd=miss stored")
				synctest.Wait()
				after(time.Minute)
				first.want("a", "tools/list", "v2", "redis")
				if n := len(tiers[1][0].did("bump")) + len(tiers[1][1].did("bump")); n != 0 {
					t.Errorf("%d bumps of the daemon that was notified", n)
				}
			})
		})
	}
}
