package cache_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
)

// restartable opens a state directory and a daemon on it, over one file tier.
func restartable(t *testing.T, dir string, disk *rigDisk) (*rig, *rigTier, func(d time.Duration)) {
	t.Helper()
	state, err := cache.OpenState(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	tier := newRigTier("database", disk)
	r := newRig(t, rigOptions{state: state, tiers: []worker.Options{slow(rigFile{tier})}})
	synctest.Wait()
	return r, tier, func(d time.Duration) {
		r.close(d)
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseWritesWhatWaits(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := newRigDisk()
		r, tier, end := restartable(t, dir, disk)
		open := tier.gate("write")
		r.fills("first", 1)
		synctest.Wait()
		r.fills("many", 300)
		go func() { <-time.After(time.Second); open() }()
		if took := timed(func() { end(5 * time.Second) }); took != time.Second {
			t.Errorf("it took %v", took)
		}
		wantBatches(t, tier, 1, 128, 128, 44)
		if len(disk.keys()) != 301 || tier.closed != 1 {
			t.Errorf("%d entries, closed %d times", len(disk.keys()), tier.closed)
		}
	})
}

// TestCloseKeepsItsTime has a tier that hangs, or is too slow for what waits: Close ends in time all the same.
func TestCloseKeepsItsTime(t *testing.T) {
	for name, wait := range map[string]time.Duration{"hung": time.Hour, "slow": 900 * time.Millisecond} {
		for _, within := range []time.Duration{0, 500 * time.Millisecond, 3 * time.Second} {
			t.Run(name+" "+within.String(), func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					r, tier, end := restartable(t, dir, newRigDisk())
					tier.set(func() {
						tier.wait = func(ctx context.Context, op rigOp) {
							if op.name != "read" {
								select {
								case <-time.After(wait):
								case <-ctx.Done():
								}
							}
						}
					})
					r.fills("first", 1)
					synctest.Wait()
					r.fills("many", 2000)
					if took := timed(func() { end(within) }); took > within {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// TestUntoldAtCloseIsNewAtTheNextStart ends a daemon whose file does not take a bump: it is made new once, and then is good.
func TestUntoldAtCloseIsNewAtTheNextStart(t *testing.T) {
	for name, fate := range map[string]rigFate{"fails": rigFails, "hangs": rigHangs} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				disk := newRigDisk()
				r, tier, end := restartable(t, dir, disk)
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				r.want("a", "prompts/list", "v1", "fwd=miss stored")
				synctest.Wait()
				tier.set(func() { tier.fate = always(fate, "bump", "delete") })
				r.notify(rigTools, "")
				end(time.Second)

				r, tier, end = restartable(t, dir, disk)
				if n := len(tier.did("bumpall")); n != 1 {
					t.Errorf("made new %d times", n)
				}
				r.own.set(func() { r.own.says = "v2" })
				r.want("a", "tools/list", "v2", "fwd=miss stored")
				r.want("a", "prompts/list", "v2", "fwd=miss stored")
				end(time.Second)

				r, tier, end = restartable(t, dir, disk)
				r.want("a", "tools/list", "v2", "database")
				if n := len(tier.did("bumpall")); n != 0 {
					t.Errorf("made new %d times more", n)
				}
				end(time.Second)
			})
		})
	}
}

// TestWithdrawalUntoldAtClose ends a daemon whose tier is not told of a withdrawal: all is stale at the next start.
func TestWithdrawalUntoldAtClose(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := newRigDisk()
		r, tier, end := restartable(t, dir, disk)
		r.own.set(func() { r.own.scope, r.own.ttl = "public", time.Minute })
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		synctest.Wait()
		tier.set(func() { tier.fate = always(rigFails, "bump") })
		r.own.set(func() { r.own.scope, r.own.says = "private", "a's" })
		after(time.Minute)
		r.want("a", "tools/list", "a's", "fwd=miss stored")
		end(time.Second)

		r, _, end = restartable(t, dir, disk)
		r.own.set(func() { r.own.scope, r.own.says = "private", "now" })
		for _, who := range []string{"b", "a"} {
			r.want(who, "tools/list", "now", "fwd=miss stored")
		}
		end(time.Second)
	})
}

// TestUncleanEndMakesAllNew starts on the directory of a daemon that did not end: its file may hold what should have gone.
func TestUncleanEndMakesAllNew(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := newRigDisk()
		r, _, end := restartable(t, dir, disk)
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		end(time.Second)
		state, err := cache.OpenState(dir, nil) // and is killed
		if err != nil {
			t.Fatal(err)
		}
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}

		state, err = cache.OpenState(dir, nil)
		if err != nil || !state.Unclean() {
			t.Fatal("not unclean", err)
		}
		tier := newRigTier("database", disk)
		tier.set(func() { tier.fate = always(rigFails, "bumpall") })
		r = newRig(t, rigOptions{state: state, tiers: []worker.Options{slow(rigFile{tier})}})
		r.own.set(func() { r.own.says = "v2" })
		for i := range 10 {
			after(time.Second)
			r.want("a", fmt.Sprint("resources/read file:///", i), "v2", "fwd=miss stored")
		}
		if n := len(tier.did("read")) + len(tier.did("write")); n != 0 {
			t.Errorf("the tier was used %d times before it was new", n)
		}
		tier.set(func() { tier.fate = nil })
		after(3 * time.Second)
		tries := len(tier.did("bumpall"))
		r.want("a", "prompts/list", "v2", "fwd=miss stored")
		synctest.Wait()
		if n := len(tier.did("bumpall")); n != tries || len(tier.did("read")) != 1 || len(tier.did("write")) != 1 {
			t.Errorf("made new %d times more; %d reads, %d writes", n-tries, len(tier.did("read")), len(tier.did("write")))
		}
		r.close(time.Second)
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}

		r, tier, end = restartable(t, dir, disk)
		r.want("a", "prompts/list", "v2", "database")
		if len(tier.did("bumpall")) != 0 {
			t.Error("made new after a clean end")
		}
		end(time.Second)
	})
}
