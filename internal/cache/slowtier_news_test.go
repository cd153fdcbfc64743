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

// newsDaemon is a daemon over two tiers that all daemons of a newsWorld share.
type newsDaemon struct {
	*rig
	tiers map[string]*newsTier
}

// newsTier is a daemon's way to one of them. Its bumps come back to all that hear.
type newsTier struct {
	*rigTier
	world *newsWorld
	store *cache.Store // whose it is

	deaf  bool          // the world's mutex guards it
	delay time.Duration // of what it hears; likewise
}

func (t *newsTier) Tell(ctx context.Context, news []cache.News) error {
	return t.enter(ctx, rigOp{name: "bump", generations: cache.GenerationsOf(news)}, func() {
		t.disk.bump(cache.GenerationsOf(news))
		t.world.publish(t.name, slices.Clone(news))
	})
}

type newsWorld struct {
	mu       sync.Mutex // guards the following
	daemons  []*newsDaemon
	about    cache.Generation // what the following count
	messages int
	passed   int // of those
}

var newsTiers = []string{"redis", "database"}

// newsTest runs f on false time with so many daemons before one server.
func newsTest(t *testing.T, n int, f func(w *newsWorld, server *rigServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, server := new(newsWorld), &rigServer{ttl: time.Hour, scope: "private", says: "v1"}
		disks := map[string]*rigDisk{"redis": newRigDisk(), "database": newRigDisk()}
		for range n {
			d := &newsDaemon{tiers: make(map[string]*newsTier)}
			d.rig = newRig(t, rigOptions{server: server, late: func(s *cache.Store) (tiers []cache.SlowTier) {
				for _, name := range newsTiers {
					d.tiers[name] = &newsTier{rigTier: newRigTier(name, disks[name]), world: w, store: s}
					one := slow(d.tiers[name])
					one.Shared = true
					tiers = append(tiers, one)
				}
				return tiers
			}})
			w.daemons = append(w.daemons, d)
		}
		synctest.Wait()
		w.daemons[0].ask("nobody", "tools/list")
		w.about = w.daemons[0].tiers["redis"].did("read")[0].generations[0]
		synctest.Wait()
		f(w, server)
		for _, d := range w.daemons {
			d.close(10 * time.Second)
		}
	})
}

// publish brings news to all that hear it.
func (w *newsWorld) publish(tier string, news []cache.News) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(cache.GenerationsOf(news), w.about) {
		w.messages++
	}
	if slices.ContainsFunc(news, func(n cache.News) bool { return n.Passed && n.Generation == w.about }) {
		w.passed++
	}
	for _, d := range w.daemons {
		to := d.tiers[tier]
		if to.deaf {
			continue
		}
		time.AfterFunc(to.delay+time.Millisecond, func() { to.store.Listener().Bumped(tier, news) })
	}
}

// count returns how many messages there were since the last time, and how many of them passed on what was heard.
func (w *newsWorld) count() (messages, passed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	messages, passed = w.messages, w.passed
	w.messages, w.passed = 0, 0
	return messages, passed
}

func (w *newsWorld) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// fails makes a daemon unable to tell a tier anything, which it hears from and reads.
func (d *newsDaemon) cannotTell(tier string, cannot bool) {
	d.tiers[tier].set(func() {
		d.tiers[tier].fate = nil
		if cannot {
			d.tiers[tier].fate = always(rigFails, "bump")
		}
	})
}

// TestHeardIsHeldAgainstTheOtherTier has one daemon be able to tell one of two tiers what has changed: no other one serves what
// is old from the other tier, and one of them tells it.
func TestHeardIsHeldAgainstTheOtherTier(t *testing.T) {
	for _, away := range newsTiers {
		for _, n := range []int{2, 3, 5} {
			t.Run(fmt.Sprint(away, " of ", n), func(t *testing.T) {
				newsTest(t, n, func(w *newsWorld, server *rigServer) { testHeld(t, w, server, away) })
			})
		}
	}
}

func testHeld(t *testing.T, w *newsWorld, server *rigServer, away string) {
	first := w.daemons[0]
	first.want("a", "tools/list", "v1", "fwd=miss stored")
	synctest.Wait()
	first.cannotTell(away, true)
	server.set(func() { server.says = "v2" })
	first.hear(rigTools, "")
	after(2 * time.Millisecond)
	for _, d := range w.daemons[1:] {
		if told := d.ask("a", "tools/list"); told.says != "v2" {
			t.Errorf("told %+v", told)
		}
		synctest.Wait()
	}
	after(5 * time.Second)
	others := len(w.daemons) - 1
	if messages, passed := w.count(); passed < 1 || passed > others || messages != passed+1 {
		t.Errorf("%d messages, %d passed on", messages, passed)
	}
	for _, d := range w.daemons {
		d.forget()
		if told := d.ask("a", "tools/list"); told.says != "v2" {
			t.Errorf("told %+v", told)
		}
		synctest.Wait()
		if s := d.tier(away); s.Owed != 0 && d != first {
			t.Errorf("owed still: %+v", s)
		}
	}
	// By now both tiers are used for it again, and nothing more is said.
	first.cannotTell(away, false)
	after(10 * time.Minute)
	if messages, _ := w.count(); messages != 0 {
		t.Errorf("%d messages more", messages)
	}
	first.want("c", "tools/list", "v2", "fwd=miss stored")
	synctest.Wait()
	last := w.daemons[others]
	last.tiers["redis"].set(func() { last.tiers["redis"].fate = always(rigFails, "read") })
	last.want("c", "tools/list", "v2", "database")
}

// TestToldByBothIsNotPassedOn has both tiers be told by the daemon that changes something: nobody else tells them, so that
// what is filled after the change stays, whichever message comes first and though one of them is slow.
func TestToldByBothIsNotPassedOn(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		for _, late := range newsTiers {
			t.Run(fmt.Sprint(n, " ", late, " late"), func(t *testing.T) {
				newsTest(t, n, func(w *newsWorld, server *rigServer) {
					w.set(func() {
						for _, d := range w.daemons {
							d.tiers[late].delay = 900 * time.Millisecond
						}
					})
					for _, d := range w.daemons {
						d.ask("a", "tools/list")
					}
					for i := range 20 {
						server.set(func() { server.says = fmt.Sprint("v", i+2) })
						w.daemons[i%n].hear(rigTools, "")
						after(time.Second)
						if messages, passed := w.count(); messages != 2 || passed != 0 {
							t.Fatalf("change %d: %d messages, %d passed on", i, messages, passed)
						}
						w.daemons[0].want("a", "tools/list", fmt.Sprint("v", i+2), "fwd=miss stored")
						synctest.Wait()
						for _, d := range w.daemons[1:] {
							d.want("a", "tools/list", fmt.Sprint("v", i+2), "redis")
						}
					}
					after(time.Minute)
					last := w.daemons[n-1]
					last.forget()
					last.tiers["redis"].set(func() { last.tiers["redis"].fate = always(rigFails, "read") })
					last.want("a", "tools/list", "v21", "database") // what was filled after the change is there
					if messages, _ := w.count(); messages != 0 {
						t.Errorf("%d messages more", messages)
					}
				})
			})
		}
	}
}

// TestOneChangeDoesNotStandForAnother has the news of a first change come late from the tier that is not told of a second one.
func TestOneChangeDoesNotStandForAnother(t *testing.T) {
	newsTest(t, 2, func(w *newsWorld, server *rigServer) {
		first, second := w.daemons[0], w.daemons[1]
		second.ask("a", "tools/list")
		w.set(func() { second.tiers["database"].delay = 500 * time.Millisecond })
		server.set(func() { server.says = "v2" })
		first.hear(rigTools, "") // both are told
		after(10 * time.Millisecond)
		first.want("a", "tools/list", "v2", "fwd=miss stored") // in both tiers, until the next change
		synctest.Wait()
		first.cannotTell("database", true)
		server.set(func() { server.says = "v3" })
		first.hear(rigTools, "")
		after(600 * time.Millisecond) // the news of the first change has come
		if s := second.tier("database"); s.Owed != 1 {
			t.Errorf("after the news of another change: %+v", s)
		}
		if told := second.ask("a", "tools/list"); told.says != "v3" {
			t.Errorf("told %+v", told)
		}
		after(2 * time.Second)
		if s := second.tier("database"); s.Owed != 0 {
			t.Errorf("it was not passed on: %+v", s)
		}
	})
}

// TestHeardWhileTelling has a change be heard while the other tier is being told of one of this daemon's own: that may have been
// before it, so the tier is told once more.
func TestHeardWhileTelling(t *testing.T) {
	newsTest(t, 2, func(w *newsWorld, server *rigServer) {
		first, second := w.daemons[0], w.daemons[1]
		second.cannotTell("database", true)
		open := first.tiers["database"].gate("bump")
		first.hear(rigTools, "")
		after(2 * time.Millisecond)
		second.hear(rigTools, "")
		after(2 * time.Millisecond)
		open()
		if n := len(first.tiers["database"].did("bump")); n != 2 {
			t.Errorf("the tier was told %d times, want twice", n)
		}
		after(3 * time.Second)
		for _, d := range w.daemons {
			if s := d.tier("database"); s.Owed != 0 {
				t.Errorf("owed still: %+v", s)
			}
		}
	})
}

// TestManyReasons has one thing change often while a tier is away: it is told all the same, and only once.
func TestManyReasons(t *testing.T) {
	newsTest(t, 2, func(w *newsWorld, server *rigServer) {
		first, second := w.daemons[0], w.daemons[1]
		first.cannotTell("database", true)
		second.cannotTell("database", true)
		for range 100 {
			first.hear(rigTools, "")
			after(10 * time.Millisecond)
		}
		if messages, passed := w.count(); messages != 100 || passed != 0 {
			t.Errorf("%d messages, %d passed on", messages, passed)
		}
		second.cannotTell("database", false)
		after(5 * time.Second)
		if s := second.tier("database"); s.Owed != 0 {
			t.Errorf("owed still: %+v", s)
		}
		if messages, passed := w.count(); messages != 1 || passed != 1 {
			t.Errorf("%d messages, %d passed on", messages, passed)
		}
		first.cannotTell("database", false)
		after(5 * time.Second)
		// What changed so often goes by a name that nobody has heard, so it is passed on once more.
		if messages, passed := w.count(); messages > 2 || passed > 1 {
			t.Errorf("%d messages, %d passed on", messages, passed)
		}
		after(10 * time.Minute)
		if messages, _ := w.count(); messages != 0 {
			t.Errorf("%d messages more", messages)
		}
	})
}

// TestAllTiersAwayForOne has a tier be away for everybody while much changes: when it is back it is told a bounded number of
// times, and by then nothing old is served.
func TestAllTiersAwayForOne(t *testing.T) {
	const n, changes = 3, 30
	newsTest(t, n, func(w *newsWorld, server *rigServer) {
		for _, d := range w.daemons {
			d.ask("a", "tools/list")
			d.tiers["database"].set(func() { d.tiers["database"].fate = always(rigFails, "bump", "read", "write", "delete") })
		}
		for i := range changes {
			server.set(func() { server.says = fmt.Sprint("v", i+2) })
			w.daemons[i%n].hear(rigTools, "")
			after(300 * time.Millisecond)
		}
		if messages, passed := w.count(); messages != changes || passed != 0 {
			t.Errorf("%d messages, %d passed on, of %d changes", messages, passed, changes)
		}
		for _, d := range w.daemons {
			d.tiers["database"].set(func() { d.tiers["database"].fate = nil })
		}
		for range 20 {
			for _, d := range w.daemons {
				d.forget()
				if told := d.ask("a", "tools/list"); told.says != fmt.Sprint("v", changes+1) {
					t.Errorf("told %+v", told)
				}
			}
			after(250 * time.Millisecond)
		}
		if messages, _ := w.count(); messages > 2*n {
			t.Errorf("%d messages after the tier's return", messages)
		}
		after(10 * time.Minute)
		if messages, _ := w.count(); messages != 0 {
			t.Errorf("%d messages more", messages)
		}
	})
}

// TestPutOffIsToldAtTheEnd has a daemon end before it passes on what it heard: it does so then.
func TestPutOffIsToldAtTheEnd(t *testing.T) {
	newsTest(t, 2, func(w *newsWorld, _ *rigServer) {
		first, second := w.daemons[0], w.daemons[1]
		first.cannotTell("database", true)
		first.hear(rigTools, "")
		after(2 * time.Millisecond)
		w.count()
		second.close(time.Second)
		if messages, passed := w.count(); messages != 1 || passed != 1 {
			t.Errorf("%d messages at the end, %d passed on", messages, passed)
		}
	})
}

// TestPurgeWaitsForItsOwn has a purge not wait for what other daemons changed.
func TestPurgeWaitsForItsOwn(t *testing.T) {
	newsTest(t, 2, func(w *newsWorld, _ *rigServer) {
		first, second := w.daemons[0], w.daemons[1]
		first.cannotTell("database", true)
		first.hear(rigTools, "")
		after(2 * time.Millisecond)
		if s := second.tier("database"); s.Owed != 1 {
			t.Fatalf("not held: %+v", s)
		}
		start := time.Now()
		if _, pending, err := second.store.Purge(context.Background(), "docs", "prompts/list"); err != nil || len(pending) > 0 {
			t.Errorf("%v, %v", pending, err)
		}
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("a purge took %v", took)
		}
	})
}

// TestNewsOnTheWire: what is appended is parsed, and nothing else is.
func TestNewsOnTheWire(t *testing.T) {
	news := []cache.News{{Generation: cache.Generation{1}, Change: 1<<63 - 1, Passed: true}, {Generation: cache.Generation{15: 9}}, {Change: 5}}
	message := cache.AppendNews(nil, news)
	if len(message) != cache.NewsBytes(len(news)) {
		t.Errorf("%d bytes, announced %d", len(message), cache.NewsBytes(len(news)))
	}
	got, ok := cache.ParseNews(message)
	if !ok || !slices.Equal(got, news) {
		t.Errorf("parsed %v", got)
	}
	for _, bad := range [][]byte{nil, message[:1], message[1:], message[:len(message)-1], append([]byte{1}, message[1:]...), append(message, 0)} {
		if got, ok := cache.ParseNews(bad); ok {
			t.Errorf("%x was parsed as %v", bad, got)
		}
	}
}
