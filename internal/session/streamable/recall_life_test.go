package streamable_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/remembered"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
)

// TestPingOfALostSession: a session that gets no other process does not answer a ping by itself.
func TestPingOfALostSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newVersioned()
		r := x.rig(t, options{front: func(o *streamable.Options) { o.Heal = streamable.HealOff }}, nil, &recalls{})
		a := newAgent(t, r.up)
		openAt(a)
		x.all[0].End("signal: killed")
		synctest.Wait()
		res, f := a.do(t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":3,"method":"ping"}`)
		if f != nil || res.Status != 404 {
			t.Errorf("got %v, %v, want a 404", res, f)
		}
	})
}

// TestRecalledRestart: after a restart of the daemon what is remembered is given at once, and a session that had no process goes on
// without one. What its agent was given before is compared after it.
func TestRecalledRestart(t *testing.T) {
	dir, x := t.TempDir(), newVersioned()
	sessions, memory := filepath.Join(dir, "sessions.json"), filepath.Join(dir, "memory.json")
	var session string
	synctest.Test(t, func(t *testing.T) {
		st := remembered.NewStore(remembered.StoreOptions{Path: memory})
		defer st.Close()
		store := streamable.NewStore(streamable.StoreOptions{Path: sessions})
		defer store.Close()
		r := x.rig(t, options{store: store}, st, &recalls{})
		learn(t, r)
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		session = a.session
	})
	synctest.Test(t, func(t *testing.T) {
		before, n := x.started(), &recalls{}
		st := remembered.NewStore(remembered.StoreOptions{Path: memory})
		defer st.Close()
		store := streamable.NewStore(streamable.StoreOptions{Path: sessions})
		defer store.Close()
		r := x.rig(t, options{store: store, pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, st, n)
		a := newAgent(t, r.up)
		a.session = session
		if got := a.call(lists()[1]); got.status != 200 || r.front.Recalled() != 1 {
			t.Errorf("a list of the session from before: %+v", got)
		}
		b := newAgent(t, r.up)
		openAt(b)
		if got := b.call(lists()[0]); got.status != 200 || n.recalled != 1 || x.started() != before {
			t.Errorf("a new session: %+v, %d processes", got, x.started()-before)
		}
		x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
		if got := a.call(`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"slow"}}`); len(got.events) != 2 || !strings.Contains(string(got.events[0].Data), "tools/list_changed") {
			t.Errorf("after the change: %+v", got)
		}
	})
}

// restarting returns a function that runs a daemon with the server, each time with the files of the one before.
func (x *versioned) restarting(t *testing.T) func(func(t *testing.T, r *rig)) {
	dir := t.TempDir()
	sessions, memory := filepath.Join(dir, "sessions.json"), filepath.Join(dir, "memory.json")
	return func(f func(t *testing.T, r *rig)) {
		synctest.Test(t, func(t *testing.T) {
			st := remembered.NewStore(remembered.StoreOptions{Path: memory})
			defer st.Close()
			store := streamable.NewStore(streamable.StoreOptions{Path: sessions})
			defer store.Close()
			f(t, x.rig(t, options{store: store, pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, st, &recalls{}))
		})
	}
}

// TestConfirmedAfterARestart: so is a session whose process had not given the lists when the daemon ended.
func TestConfirmedAfterARestart(t *testing.T) {
	x := newVersioned()
	run := x.restarting(t)
	var session string
	run(func(t *testing.T, r *rig) {
		learn(t, r)
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.change(func() { x.lists["tools/list"] = "silence" })
		a.call(someRead)
		session = a.session
	})
	run(func(t *testing.T, r *rig) {
		x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
		a := newAgent(t, r.up)
		a.session = session
		if got := data(a.call(someRead).events); len(got) != 2 || got[0] != toolsChanged {
			t.Errorf("after the restart: %q", got)
		}
	})
}

// TestCachedListsDiffer: a list that a cache gave never comes here. An agent that may have it hears of the change, also where the server
// was changed on disk before the session had a process, so that nothing is remembered of it any more, and after a restart.
func TestCachedListsDiffer(t *testing.T) {
	x := newVersioned()
	run := x.restarting(t)
	checkTold := func(t *testing.T, a *agent) {
		t.Helper()
		if got := data(a.call(someRead).events); len(got) != 2 || got[0] != toolsChanged {
			t.Errorf("the first call: %q", got)
		}
	}
	var session string
	run(func(t *testing.T, r *rig) {
		learn(t, r)
		a, other := newAgent(t, r.up), newAgent(t, r.up)
		openAt(a)
		openAt(other)
		if r.front.Recalled() != 2 {
			t.Fatalf("%d sessions were opened from memory", r.front.Recalled())
		}
		x.change(func() { x.onDisk, x.lists["tools/list"] = "2", `{"tools":[]}` })
		checkTold(t, a)
		session = other.session
	})
	run(func(t *testing.T, r *rig) {
		a := newAgent(t, r.up)
		a.session = session
		checkTold(t, a)
	})
}

// TestRecalledWithoutHealing: `sessions.heal: off` means processes that have gone; a session that has had none has its first.
func TestRecalledWithoutHealing(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{front: func(o *streamable.Options) { o.Heal = streamable.HealOff }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		if got := a.call(someCall); got.failure != nil || got.status != 200 {
			t.Fatalf("the first call: %+v", got)
		}
		x.all[2].End("signal: killed")
		synctest.Wait()
		if got := a.call(someCall); got.status != 404 {
			t.Errorf("after its process: %+v", got)
		}
	})
}

// TestRecalledIsItsOwners: a session that was opened from memory is another credential's no more than any other.
func TestRecalledIsItsOwners(t *testing.T) {
	x := newVersioned()
	o := options{front: func(o *streamable.Options) {
		o.Partition = func(c *mcp.Call) (p [32]byte) {
			copy(p[:], c.Header.Get("Authorization"))
			return p
		}
	}}
	remembering(t, x, o, func(t *testing.T, r *rig, n *recalls) {
		a, b := newAgent(t, r.up), newAgent(t, r.up)
		a.header.Set("Authorization", "a")
		b.header.Set("Authorization", "b")
		openAt(a)
		b.session = a.session
		if got := b.call(lists()[0]); got.status != 404 {
			t.Errorf("another's session: %+v", got)
		}
		if got := a.call(lists()[0]); got.status != 200 {
			t.Errorf("its own: %+v", got)
		}
	})
}

// TestRecalledArray: an array needs a process, whatever is in it.
func TestRecalledArray(t *testing.T) {
	x := newVersioned()
	x.initialize = strings.Replace(x.initialize, "2025-11-25", "2025-03-26", 1)
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		if got := a.call("[" + lists()[0] + "," + lists()[1] + "]"); got.failure != nil || !strings.Contains(got.body, "list-1") || r.front.Recalled() != 0 {
			t.Errorf("an array: %+v", got)
		}
	})
}

// TestRecalledUnderLoad: sessions of all kinds at once, some of whose agents leave, over a server whose answers change: each list is one
// that the server had, and no session is lost.
func TestRecalledUnderLoad(t *testing.T) {
	x := newVersioned()
	x.slow = 5 * time.Millisecond
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		var agents sync.WaitGroup
		for i := range 60 {
			agents.Go(func() {
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
				a := newAgent(t, r.up)
				a.open(mcp.Version20251125)
				for j := range 6 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*j)%9)*time.Millisecond)
					body := lists()[j%4]
					if j%3 == i%3 {
						body = someCall
					}
					got := a.read(a.do(ctx, mcp.LaneRequest, body))
					cancel()
					if f := got.failure; got.status == 404 || f != nil && f.Reason != mcp.ReasonCanceled && !errors.Is(f, context.DeadlineExceeded) {
						t.Errorf("agent %d, %s: %+v", i, body, got)
					}
					time.Sleep(time.Duration(i%5) * time.Millisecond)
				}
				a.do(t.Context(), mcp.LaneEnd, "")
			})
			if i%20 == 10 {
				x.change(func() {
					x.lists = maps.Clone(x.lists)
					x.lists["tools/list"] = fmt.Sprintf(`{"tools":[{"name":"%d"}]}`, i)
				})
			}
		}
		agents.Wait()
		if n.recalled == 0 || r.front.Sessions() != 0 {
			t.Errorf("%d sessions were opened from memory, %d are left", n.recalled, r.front.Sessions())
		}
	})
}
