package cache_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
)

func TestBumpReachesMemoryFirst(t *testing.T) {
	rigTest(t, func(r *rig, tier *rigTier, _ *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("a", "prompts/list", "v1", "fwd=miss stored")
		synctest.Wait()
		open := tier.gate("bump")
		r.own.set(func() { r.own.says = "v2" })
		r.hear(rigTools, "")
		synctest.Wait() // the worker is telling the tier
		reads := len(tier.did("read"))
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		r.want("a", "tools/list", "v2", "memory")
		if n := len(tier.did("read")) - reads; n != 0 {
			t.Errorf("%d reads of a family of which the tier was not told", n)
		}
		r.forget()
		r.want("a", "prompts/list", "v1", "redis") // another family is read
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		if s := r.tier("redis"); s.Owed != 2 || s.Skipped != 2 { // the change, and a withdrawal of what it could not be asked for
			t.Errorf("before the tier knows: %+v", s)
		}
		open()
		r.forget()
		r.want("a", "tools/list", "v2", "fwd=miss stored") // nothing of it was written
		synctest.Wait()
		r.forget()
		r.want("a", "tools/list", "v2", "redis")
		if s := r.tier("redis"); s.Owed != 0 {
			t.Errorf("at the end: %+v", s)
		}
	})
}

// TestBumpMeetsAReadOnItsWay has the tier answer a read that began before the bump, after it.
func TestBumpMeetsAReadOnItsWay(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprint("told ", told), func(t *testing.T) {
			rigTest(t, func(r *rig, tier *rigTier, _ *rigBreaker) {
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				r.forget()
				r.own.set(func() { r.own.says = "v2" })
				gate, read := make(chan struct{}), tier.disk.read
				tier.set(func() {
					tier.wait = func(_ context.Context, op rigOp) {
						if op.name == "bump" && !told {
							<-gate
						}
					}
					tier.mangle = func(found []cache.Found) []cache.Found { // read before, answered after
						tier.mu.Unlock()
						<-gate
						tier.mu.Lock()
						return found
					}
				})
				_ = read
				var got rigTold
				var group sync.WaitGroup
				group.Go(func() { got = r.ask("a", "tools/list") })
				synctest.Wait()
				r.hear(rigTools, "")
				synctest.Wait()
				close(gate)
				group.Wait()
				if got.says != "v2" {
					t.Errorf("told %+v", got)
				}
				tier.set(func() { tier.mangle = nil })
				r.want("a", "tools/list", "v2", "fwd=miss stored") // what was asked before is not kept
				synctest.Wait()
				bumps := tier.did("bump")
				bumps = slices.DeleteFunc(bumps, func(op rigOp) bool { return op.generations[0] != bumps[0].generations[0] })
				if n := len(bumps); n != 1 { // but for a withdrawal of what it could not be asked for
					t.Errorf("%d bumps", n)
				}
			})
		})
	}
}

// TestBumpIsOwedUntilTold has the tier refuse bumps in all ways: it is not read until one has worked, also if it had.
func TestBumpIsOwedUntilTold(t *testing.T) {
	for name, fate := range map[string]rigFate{"fails": rigFails, "hangs": rigHangs, "answer lost": rigMutes} {
		t.Run(name, func(t *testing.T) {
			rigTest(t, func(r *rig, tier *rigTier, b *rigBreaker) {
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				tier.set(func() { tier.fate = always(fate, "bump") })
				r.own.set(func() { r.own.says = "v2" })
				r.hear(rigTools, "")
				for range 20 {
					after(time.Second)
					r.forget()
					r.want("a", "tools/list", "v2", "fwd=miss stored")
				}
				// It owes the withdrawal of what it could not be asked for as well.
				if s := r.tier("redis"); s.Owed != 2 || s.Skipped != 20 || s.Written != 1 {
					t.Errorf("while it fails: %+v", s)
				}
				tier.set(func() { tier.fate = nil })
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

// TestBumpOwedAgain has a family change once more while the tier is being told of the first time.
func TestBumpOwedAgain(t *testing.T) {
	rigTest(t, func(r *rig, tier *rigTier, _ *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		synctest.Wait()
		open := tier.gate("bump")
		r.hear(rigTools, "")
		synctest.Wait()
		r.hear(rigTools, "")
		r.hear(rigTools, "")
		if s := r.tier("redis"); s.Owed != 1 {
			t.Errorf("%d owed", s.Owed)
		}
		open()
		if n := len(tier.did("bump")); n != 2 {
			t.Errorf("the tier was told %d times, want twice", n)
		}
	})
}

// TestBumpOneOfTwoURIs has only the entries of one resource go.
func TestBumpOneOfTwoURIs(t *testing.T) {
	rigTest(t, func(r *rig, tier *rigTier, _ *rigBreaker) {
		r.fills("x", 2)
		synctest.Wait()
		open := tier.gate("bump")
		r.own.set(func() { r.own.says = "v2" })
		r.hear(rigUpdated, "file:///x/1")
		r.forget()
		r.want("a", "resources/read file:///x/0", "v1", "redis")
		r.want("a", "resources/read file:///x/1", "v2", "fwd=miss stored")
		open()
	})
}

// TestManyDebtsBecomeFamilies owes the tier more than it notes one by one.
func TestManyDebtsBecomeFamilies(t *testing.T) {
	const most = 20_000
	rigTest(t, func(r *rig, tier *rigTier, b *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("a", "resources/read file:///0", "v1", "fwd=miss stored")
		synctest.Wait()
		b.hold(true)
		for i := range most {
			r.hear(rigUpdated, fmt.Sprint("file:///", i))
		}
		if s := r.tier("redis"); s.Owed != most {
			t.Fatalf("%d owed", s.Owed)
		}
		r.hear(rigUpdated, "file:///one more")
		families := r.tier("redis").Owed - 1
		if families < 5 || families > 10 {
			t.Fatalf("%d families owed", families)
		}
		r.hear(rigUpdated, "file:///and another")
		b.hold(false)
		r.own.set(func() { r.own.says = "v2" })
		r.forget()
		r.want("a", "tools/list", "v2", "fwd=miss stored") // not read: all is owed
		after(time.Second)
		bumps := tier.did("bump") // with the withdrawal of what it could not be asked for
		if len(bumps) != 1 || len(bumps[0].generations) != families+3 {
			t.Errorf("%d bumps, of %d generations", len(bumps), len(bumps[0].generations))
		}
		r.forget()
		r.want("a", "resources/read file:///0", "v2", "fwd=miss stored")
	})
}

// TestManyBumpsInTurn carries debts of more than one trip.
func TestManyBumpsInTurn(t *testing.T) {
	rigTest(t, func(r *rig, tier *rigTier, b *rigBreaker) {
		b.hold(true)
		for i := range 1000 {
			r.hear(rigUpdated, fmt.Sprint("file:///", i))
		}
		b.hold(false)
		after(time.Second)
		var told []cache.Generation
		for _, op := range tier.did("bump") {
			if len(op.generations) > 128 {
				t.Errorf("%d generations in one trip", len(op.generations))
			}
			told = append(told, op.generations...)
		}
		slices.SortFunc(told, func(a, b cache.Generation) int { return slices.Compare(a[:], b[:]) })
		if len(told) != 1000 || len(slices.Compact(told)) != 1000 {
			t.Errorf("%d generations were told, %d different ones", len(told), len(slices.Compact(told)))
		}
	})
}

func TestPurgeWaitsForTheTiers(t *testing.T) {
	rigTest(t, func(r *rig, tier *rigTier, b *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("a", "prompts/list", "v1", "fwd=miss stored")
		synctest.Wait()
		r.own.set(func() { r.own.says = "v2" })
		tier.set(func() {
			tier.wait = func(_ context.Context, op rigOp) {
				if op.name == "bump" {
					<-time.After(time.Second)
				}
			}
		})
		purge := func(upstream, method string) ([]cache.Purged, []string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			return r.store.Purge(ctx, upstream, method)
		}
		var purged []cache.Purged
		var pending []string
		var err error
		took := timed(func() { purged, pending, err = purge("docs", "tools/list") })
		if err != nil || len(pending) != 0 || len(purged) != 1 || !slices.Equal(purged[0].Methods, []string{"tools/list"}) {
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

// twoTiers runs f over a shared tier that hears others and a file of this daemon alone behind it.
func twoTiers(t *testing.T, f func(r *rig, shared, file *rigTier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shared, file := newRigTier("redis", newRigDisk()), newRigTier("database", newRigDisk())
		one, two := slow(shared), slow(rigFile{file})
		one.Shared = true
		r := newRig(t, rigOptions{tiers: []cache.SlowTier{one, two}})
		synctest.Wait()
		f(r, shared, file)
		r.close(time.Second)
	})
}

// TestHeardBumpReachesTheFile has another daemon bump: the tier that this daemon has for itself alone holds old entries as
// memory does.
func TestHeardBumpReachesTheFile(t *testing.T) {
	for name, hear := range map[string]func(l cache.Listener, g []cache.Generation){
		"bumped": func(l cache.Listener, g []cache.Generation) { l.Bumped("redis", unnamed(g)) },
		"lost":   func(l cache.Listener, _ []cache.Generation) { l.Lost() },
	} {
		t.Run(name, func(t *testing.T) {
			twoTiers(t, func(r *rig, shared, file *rigTier) {
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				generations := shared.did("read")[0].generations[:1]
				shared.disk.bump(generations) // the other daemon did
				open := file.gate("bump", "bumpall")
				hear(r.store.Listener(), generations)
				synctest.Wait()
				r.own.set(func() { r.own.says = "v2" })
				r.want("a", "tools/list", "v2", "fwd=miss stored") // nor while the file has not been told
				open()
				shared.disk.bump(generations)
				r.store.Listener().Bumped("redis", unnamed(generations))
				synctest.Wait()
				r.own.set(func() { r.own.says = "v3" })
				r.want("a", "tools/list", "v3", "fwd=miss stored")
			})
		})
	}
}

// TestFileIsNewBehindASharedTier has the file full of what other daemons may have bumped while this one was away.
func TestFileIsNewBehindASharedTier(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk, shared := newRigDisk(), newRigDisk()
		run := func(f func(r *rig, file *rigTier, open func())) {
			state, err := cache.OpenState(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			file := newRigTier("database", disk)
			open := file.gate("bumpall")
			one, two := slow(newRigTier("redis", shared)), slow(rigFile{file})
			one.Shared = true
			r := newRig(t, rigOptions{state: state, tiers: []cache.SlowTier{one, two}})
			f(r, file, open)
			r.close(time.Second)
			if err := state.Close(); err != nil {
				t.Fatal(err)
			}
		}
		run(func(r *rig, _ *rigTier, open func()) {
			open()
			r.want("a", "tools/list", "v1", "fwd=miss stored")
		})
		shared.bumpAll() // by another daemon
		run(func(r *rig, file *rigTier, open func()) {
			r.own.set(func() { r.own.says = "v2" })
			synctest.Wait()
			r.want("a", "tools/list", "v2", "fwd=miss stored")
			if n := len(file.did("read")); n != 0 {
				t.Errorf("%d reads before it was new", n)
			}
			open()
			r.want("a", "prompts/list", "v2", "fwd=miss stored")
			if n := len(file.did("read")); n != 1 || len(file.did("bumpall")) != 1 {
				t.Errorf("%d reads after it was new, %d times", n, len(file.did("bumpall")))
			}
		})
	})
}

// TestRenewedAgain has bumps be missed once more while the file is being made new.
func TestRenewedAgain(t *testing.T) {
	twoTiers(t, func(r *rig, _, file *rigTier) {
		before := len(file.did("bumpall"))
		open := file.gate("bumpall")
		r.store.Listener().Lost()
		synctest.Wait()
		r.store.Listener().Lost()
		r.store.Listener().Lost()
		open()
		if n := len(file.did("bumpall")) - before; n != 2 {
			t.Errorf("made new %d times, want twice", n)
		}
	})
}

// TestBumpGoesBeforeWrites has a bump come while entries wait: it does not wait for them.
func TestBumpGoesBeforeWrites(t *testing.T) {
	rigTest(t, func(r *rig, tier *rigTier, _ *rigBreaker) {
		open := tier.gate("write")
		r.fills("first", 1)
		synctest.Wait()
		r.fills("more", 200)
		r.hear(rigTools, "")
		open()
		if got := tier.order(); got != "write bump write write" {
			t.Errorf("the tier had %s", got)
		}
	})
}
