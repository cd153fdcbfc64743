package cache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
)

// storeRun is one run of a daemon on a state directory.
type storeRun struct {
	*rig
	t     *testing.T
	state *cache.State
}

// startRun starts a daemon on the directory over these tiers.
func startRun(t *testing.T, dir string, tiers ...worker.Options) storeRun {
	t.Helper()
	state, err := cache.OpenState(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := storeRun{newRig(t, rigOptions{state: state, tiers: tiers}), t, state}
	synctest.Wait()
	return r
}

// end ends the daemon.
func (r storeRun) end() {
	r.t.Helper()
	r.close(time.Second)
	if err := r.state.Close(); err != nil {
		r.t.Error(err)
	}
}

// fileOf is a file of this daemon alone, under that name of the operator's, and sharedOf one that others use.
func fileOf(disk *rigDisk, id string) (worker.Options, *rigTier) {
	tier := newRigTier("database", disk)
	one := slow(rigFile{tier})
	one.ID = id
	return one, tier
}

func sharedOf(disk *rigDisk, id string) (worker.Options, *rigTier) {
	tier := newRigTier("redis", disk)
	one := slow(tier)
	one.ID, one.Shared = id, true
	return one, tier
}

// TestTierOfAnotherRun: a file that the last run did not use missed what became old in it. It is made new before it is
// used; one that was used is not.
func TestTierOfAnotherRun(t *testing.T) {
	for name, between := range map[string]string{"none": "", "another file": "b"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				disk := newRigDisk()
				one, _ := fileOf(disk, "a")
				r := startRun(t, dir, one)
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				r.end()

				one, tier := fileOf(disk, "a") // as it was
				r = startRun(t, dir, one)
				r.want("a", "tools/list", "v1", "database")
				if n := len(tier.did("bumpall")); n != 0 {
					t.Errorf("a file that was in use is made new %d times", n)
				}
				r.end()

				var others []worker.Options
				if between != "" {
					other, _ := fileOf(newRigDisk(), between)
					others = append(others, other)
				}
				r = startRun(t, dir, others...)
				r.notify(rigTools, "") // the file is not told
				r.end()

				one, tier = fileOf(disk, "a")
				r = startRun(t, dir, one)
				if n := len(tier.did("bumpall")); n != 1 {
					t.Errorf("a file that was not in use is made new %d times", n)
				}
				r.own.set(func() { r.own.says = "v2" })
				r.want("a", "tools/list", "v2", "fwd=miss stored")
				r.end()

				one, tier = fileOf(disk, "a")
				r = startRun(t, dir, one)
				r.want("a", "tools/list", "v2", "database")
				if n := len(tier.did("bumpall")); n != 0 {
					t.Errorf("and once more made new %d times", n)
				}
				r.end()
			})
		})
	}
}

// TestTierOfTheFirstRun: a file that is older than the state directory is made new, and not read before that.
func TestTierOfTheFirstRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		one, tier := fileOf(newRigDisk(), "a")
		tier.set(func() { tier.fate = always(rigFails, "bumpall") })
		r := startRun(t, dir, one)
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		if n := len(tier.did("read")) + len(tier.did("write")); n != 0 {
			t.Errorf("it is used %d times before it is new", n)
		}
		r.end()
		one, tier = fileOf(newRigDisk(), "a") // it was in use, and could not be made new: all is pending
		r = startRun(t, dir, one)
		if len(tier.did("bump"))+len(tier.did("bumpall")) == 0 {
			t.Error("what could not be made new is forgotten")
		}
		r.end()
	})
}

// TestUntoldTierThatIsAway: a tier that others share and that was not told everything is told of all families of the daemon's
// upstreams when it is there again, before it is read, however many runs that takes; and not again after that.
func TestUntoldTierThatIsAway(t *testing.T) {
	for runs := range 4 {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			disk := newRigDisk()
			one, tier := sharedOf(disk, "redis one")
			r := startRun(t, dir, one)
			r.want("a", "tools/list", "v1", "fwd=miss stored")
			r.want("a", "prompts/list", "v1", "fwd=miss stored")
			synctest.Wait()
			tier.set(func() { tier.fate = always(rigFails, "bump") })
			r.notify(rigTools, "")
			r.end()
			for i := range runs {
				var others []worker.Options
				if i%2 == 1 {
					other, _ := sharedOf(newRigDisk(), "redis two")
					others = append(others, other)
				}
				startRun(t, dir, others...).end()
			}
			one, tier = sharedOf(disk, "redis one")
			r = startRun(t, dir, one)
			if ops := tier.did("bump"); len(ops) != 1 || len(ops[0].generations) != 7 || tier.did("read") != nil {
				t.Errorf("%d runs later it was told %v", runs, ops)
			}
			r.own.set(func() { r.own.says = "v2" })
			r.want("a", "tools/list", "v2", "fwd=miss stored")
			r.want("a", "prompts/list", "v2", "fwd=miss stored")
			r.end()

			one, tier = sharedOf(disk, "redis one")
			r = startRun(t, dir, one)
			if n := len(tier.did("bump")); n != 0 {
				t.Errorf("it is told again, %d times", n)
			}
			r.want("a", "tools/list", "v2", "redis")
			r.end()
		})
	}
}

// TestNothingIsRemembered: a daemon without a state directory makes its file new at every start.
func TestNothingIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newRigDisk()
		for i := range 3 {
			one, tier := fileOf(disk, "a")
			r := newRig(t, rigOptions{tiers: []worker.Options{one}})
			synctest.Wait()
			if n := len(tier.did("bumpall")); n != 1 {
				t.Errorf("run %d: made new %d times", i, n)
			}
			r.want("a", "tools/list", "v1", "fwd=miss stored")
			r.close(time.Second)
		}
	})
}

// TestCloseTwice: a store that is closed once more does nothing, and what is written stays.
func TestCloseTwice(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := newRigDisk()
		one, tier := fileOf(disk, "a")
		r := startRun(t, dir, one)
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		for range 3 {
			r.close(time.Second)
		}
		if tier.closed != 1 {
			t.Errorf("the tier was closed %d times", tier.closed)
		}
		r.end() // and once more
		one, tier = fileOf(disk, "a")
		r = startRun(t, dir, one)
		r.want("a", "tools/list", "v1", "database")
		if r.state.Unclean() || len(tier.did("bumpall")) != 0 {
			t.Error("the end was not clean")
		}
		r.end()
	})
}

// unclosable is a tier that cannot be closed.
type unclosable struct{ rigFile }

var errUnclosable = errors.New("what was written may be lost")

func (t unclosable) Close() error { return errors.Join(t.rigFile.Close(), errUnclosable) }

// TestTierThatDoesNotClose: after a tier that could not be closed the next start takes nothing of it for granted.
func TestTierThatDoesNotClose(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		disk := newRigDisk()
		bad := newRigTier("database", disk)
		one := slow(unclosable{rigFile{bad}})
		one.ID = "a"
		other, _ := sharedOf(newRigDisk(), "redis")
		r := startRun(t, dir, one, other)
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.store.Close(ctx); !errors.Is(err, errUnclosable) {
			t.Errorf("Close: %v", err)
		}
		if other.Tier.(*rigTier).closed != 1 || bad.closed != 1 {
			t.Error("not every tier was closed")
		}
		if err := r.state.Close(); err != nil {
			t.Error(err)
		}

		one, tier := fileOf(disk, "a")
		r = startRun(t, dir, one)
		if !r.state.Unclean() || len(tier.did("bumpall")) != 1 {
			t.Errorf("unclean: %v; made new %d times", r.state.Unclean(), len(tier.did("bumpall")))
		}
		r.own.set(func() { r.own.says = "v2" })
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		r.end()
	})
}
