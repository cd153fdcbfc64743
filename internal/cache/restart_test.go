package cache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
)

// runs are one daemon after the other, on one state directory and one disk.
type runs struct {
	t    *testing.T
	dir  string
	disk *rigDisk
	own  *rigServer

	upstream cache.StageOptions
	shared   bool // the tier is others' as well
}

// run is one run of the daemon, to its clean end.
func (w *runs) run(f func(r *rig, tier *rigTier)) {
	w.t.Helper()
	state, err := cache.OpenState(w.dir, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	tier := newRigTier("database", w.disk)
	one := slow(rigFile{tier})
	if one.Shared = w.shared; w.shared {
		one = slow(tier)
		one.Shared = true
	}
	r := newRig(w.t, rigOptions{state: state, tiers: []worker.Options{one}, server: w.own, upstream: w.upstream})
	synctest.Wait()
	f(r, tier)
	r.close(time.Second)
	if err := state.Close(); err != nil {
		w.t.Error(err)
	}
}

// kill leaves the state directory as a daemon does that is killed.
func (w *runs) kill() {
	w.t.Helper()
	state, err := cache.OpenState(w.dir, nil)
	if err == nil {
		err = state.Close()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// restarts runs f on false time, with a server that keeps its answers for so long.
func restarts(t *testing.T, ttl time.Duration, scope string, f func(w *runs)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f(&runs{t: t, dir: dir, disk: newRigDisk(), own: &rigServer{ttl: ttl, scope: scope, says: "v1"}})
	})
}

// TestWarmRestart stops and starts the daemon: its first request is answered by the tier, with the time that is left.
func TestWarmRestart(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		for _, shared := range []bool{false, true} {
			t.Run(scope+map[bool]string{true: " shared"}[shared], func(t *testing.T) {
				restarts(t, 9*time.Second, scope, func(w *runs) {
					w.shared = shared
					questions := []string{"tools/list", "resources/read file:///x", "server/discover"}
					w.run(func(r *rig, _ *rigTier) {
						for _, what := range questions {
							r.want("a", what, "v1", "fwd=miss stored")
						}
					})
					after(3 * time.Second)
					w.run(func(r *rig, _ *rigTier) {
						for _, what := range questions {
							if told := r.want("a", what, "v1", "database"); told.ttl != 6000 {
								t.Errorf("%s: ttlMs %d, want 6000", what, told.ttl)
							}
							r.want("a", what, "v1", "memory")
						}
						if n := w.own.calls(); n != len(questions) {
							t.Errorf("the server was asked %d times", n)
						}
						r.own.set(func() { r.own.says = "v2" })
						r.want("b", "tools/list", "v2", "fwd=miss stored") // a credential that it does not know
					})
					after(6 * time.Second)
					w.run(func(r *rig, _ *rigTier) { r.want("a", "server/discover", "v2", "fwd=miss stored") })
				})
			})
		}
	}
}

// TestOverlappingRestart starts a daemon while the one before it drains: from memory until that one has ended, then it knows
// what that one knew, and what changed in the meantime is not served.
func TestOverlappingRestart(t *testing.T) {
	restarts(t, time.Hour, "public", func(w *runs) {
		var next *rig
		var state *cache.State
		var tier *rigTier
		w.run(func(old *rig, _ *rigTier) {
			for _, what := range []string{"tools/list", "prompts/list"} {
				old.want("a", what, "v1", "fwd=miss stored")
			}
			var err error
			if state, err = cache.OpenState(w.dir, nil); err != nil {
				w.t.Fatal(err)
			}
			tier = newRigTier("database", w.disk)
			tier.set(func() { tier.fate = always(rigFails, "read", "write", "bump", "bumpall", "delete") }) // its file is the other's
			next = newRig(w.t, rigOptions{state: state, tiers: []worker.Options{slow(rigFile{tier})}, server: w.own})
			w.own.set(func() { w.own.says = "v2" })
			next.want("b", "prompts/list", "v2", "fwd=miss stored")
			next.want("b", "prompts/list", "v2", "memory")
			soon, cancel := context.WithTimeout(w.t.Context(), time.Second)
			defer cancel()
			if _, pending, err := next.store.Purge(soon, "", "prompts/list"); err != nil || len(pending) != 1 {
				w.t.Fatalf("the tier is told: %v, %v", pending, err)
			}
			if done, err := next.store.Join(); done || err == nil {
				w.t.Fatal(done, err)
			}
		})
		if done, err := next.store.Join(); !done || err != nil {
			w.t.Fatal(done, err)
		}
		tier.set(func() { tier.fate = nil })
		after(10 * time.Second)
		next.want("a", "tools/list", "v1", "database")
		next.want("a", "prompts/list", "v2", "fwd=miss stored")
		next.close(time.Second)
		if err := state.Close(); err != nil {
			w.t.Error(err)
		}
		w.run(func(r *rig, _ *rigTier) { r.want("b", "prompts/list", "v2", "database") })
	})
}

// TestStaleOverARestart has the server be gone when the daemon starts.
func TestStaleOverARestart(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			restarts(t, 9*time.Second, scope, func(w *runs) {
				w.upstream = staleHour
				w.run(func(r *rig, _ *rigTier) { r.want("a", "tools/list", "v1", "fwd=miss stored") })
				after(20 * time.Second)
				w.run(func(r *rig, _ *rigTier) {
					r.breaks(badGateway)
					r.want("a", "tools/list", "v1", "stale-error")
				})
			})
		})
	}
}

// TestCredentialsOverARestart has a credential be known for ten minutes from its last answer, however often the daemon is
// stopped and started.
func TestCredentialsOverARestart(t *testing.T) {
	restarts(t, 23*time.Hour, "public", func(w *runs) {
		w.run(func(r *rig, _ *rigTier) {
			r.want("a", "tools/list", "v1", "fwd=miss stored")
			after(5 * time.Minute)
			r.want("b", "prompts/list", "v1", "fwd=miss stored")
		})
		for range 4 {
			after(time.Minute)
			w.run(func(r *rig, _ *rigTier) {
				r.want("a", "tools/list", "v1", "database")
				r.want("b", "tools/list", "v1", "memory")
			})
		}
		after(time.Minute)
		w.run(func(r *rig, _ *rigTier) {
			r.own.set(func() { r.own.says = "v2" })
			r.want("b", "tools/list", "v1", "database")
			r.want("a", "tools/list", "v2", "fwd=miss stored")
		})
	})
}

// TestRefusalOverARestart has the server refuse a credential: what was public is not for it in the next run either.
func TestRefusalOverARestart(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			restarts(t, time.Hour, scope, func(w *runs) {
				w.run(func(r *rig, _ *rigTier) {
					r.want("a", "tools/list", "v1", "fwd=miss stored")
					r.breaks(unauthorized)
					if told := r.ask("a", "prompts/list"); told.status != 401 {
						t.Errorf("told %+v", told)
					}
				})
				w.run(func(r *rig, _ *rigTier) {
					r.mends("v2")
					r.want("a", "tools/list", "v2", "fwd=miss stored")
				})
			})
		})
	}
}

// TestKilled starts after a run without an end: a file of this daemon alone is begun anew, since a change may have been
// lost; of a tier that others share private answers are still good, and public ones wait for the server to take the
// credential.
func TestKilled(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		for _, shared := range []bool{false, true} {
			t.Run(scope+map[bool]string{true: " shared"}[shared], func(t *testing.T) {
				restarts(t, time.Hour, scope, func(w *runs) {
					w.shared = shared
					w.run(func(r *rig, _ *rigTier) {
						r.want("a", "tools/list", "v1", "fwd=miss stored")
						r.want("a", "prompts/list", "v1", "fwd=miss stored")
					})
					w.kill()
					w.own.set(func() { w.own.says = "v2" })
					w.run(func(r *rig, _ *rigTier) {
						says, from := "v2", "fwd=miss stored"
						if shared && scope == "private" {
							says, from = "v1", "database"
						}
						r.want("a", "tools/list", says, from)
						if shared {
							r.want("a", "prompts/list", "v1", "database") // by then it is known
						}
					})
				})
			})
		}
	}
}

// TestAnotherKey starts with another partition key on the same disk: nothing there opens.
func TestAnotherKey(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			other := t.TempDir()
			restarts(t, time.Hour, scope, func(w *runs) {
				w.run(func(r *rig, _ *rigTier) { r.want("a", "tools/list", "v1", "fwd=miss stored") })
				w.dir = other
				w.shared = true // nothing is begun anew
				w.run(func(r *rig, _ *rigTier) {
					r.own.set(func() { r.own.says = "v2" })
					r.want("a", "prompts/list", "v2", "fwd=miss stored")
					r.want("a", "tools/list", "v2", "fwd=miss stored")
				})
			})
		})
	}
}

// TestShorterLifeOverARestart has the operator shorten lives between two runs: it holds for what was kept before as well.
func TestShorterLifeOverARestart(t *testing.T) {
	restarts(t, 9*time.Second, "private", func(w *runs) {
		w.upstream = staleHour
		w.run(func(r *rig, _ *rigTier) { r.want("a", "tools/list", "v1", "fwd=miss stored") })
		after(3 * time.Second)
		w.upstream.MaxTTL = 4 * time.Second
		w.run(func(r *rig, _ *rigTier) {
			r.want("a", "tools/list", "v1", "database")
			after(time.Second)
			r.breaks(badGateway)
			r.want("a", "tools/list", "v1", "stale-error")
		})
		w.upstream.StaleIfError = 0
		w.run(func(r *rig, _ *rigTier) {
			r.breaks(badGateway)
			if told := r.ask("a", "tools/list"); told.err == nil {
				t.Errorf("told %+v", told)
			}
		})
	})
}

// TestTierThatWasAway has a run without the tier, in which something became old: the file is begun anew when it is back.
func TestTierThatWasAway(t *testing.T) {
	restarts(t, time.Hour, "private", func(w *runs) {
		w.run(func(r *rig, _ *rigTier) { r.want("a", "tools/list", "v1", "fwd=miss stored") })
		state, err := cache.OpenState(w.dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := newRig(t, rigOptions{state: state, server: w.own})
		r.notify(rigTools, "")
		r.close(time.Second)
		if err := state.Close(); err != nil {
			t.Fatal(err)
		}
		w.own.set(func() { w.own.says = "v2" })
		w.run(func(r *rig, tier *rigTier) {
			r.want("a", "tools/list", "v2", "fwd=miss stored")
			if n := len(tier.did("bumpall")); n != 1 {
				t.Errorf("begun anew %d times", n)
			}
		})
		w.run(func(r *rig, tier *rigTier) { r.want("a", "tools/list", "v2", "database") })
	})
}
