package cache_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// twoNames is a rig with a second name for its server, which has options of its own.
func twoNames(t *testing.T, s cache.StoreOptions, o, two cache.StageOptions, tiers []worker.Options, f func(one, two *rulesRig)) {
	t.Helper()
	withRig(t, s, o, tiers, func(r *rulesRig) {
		up, caller := r.another("docs2", "https://docs.example.com/mcp", two)
		other := r.through(caller)
		other.up = up
		f(r, other)
	})
}

// TestTwoNamesOfOneServer: what happens under one name of a server counts under the other: they keep under the same keys.
func TestTwoNamesOfOneServer(t *testing.T) {
	read, list := rulesRead("file:///a"), rulesModern("tools/list")
	for what, two := range map[string]cache.StageOptions{"the same options": writeOptions(), "nothing to keep": {FlushOnCall: true}} {
		t.Run("a tools/call, "+what, func(t *testing.T) {
			tier := newRigTier("database", newRigDisk())
			twoNames(t, cache.StoreOptions{}, writeOptions(), two, []worker.Options{slow(rigFile{tier})}, func(one, other *rulesRig) {
				other.ask(rulesTool("write")) // the tier has been told, by this name
				one.asks("first", read)
				one.hits("kept", one.server.asked(), read)
				other.ask(rulesTool("write"))
				one.asks("after a write under the other name", read)
				one.forget()
				one.hits("from the tier", one.server.asked(), read)
			})
		})
	}
	t.Run("flights", func(t *testing.T) {
		twoNames(t, cache.StoreOptions{}, cache.StageOptions{}, cache.StageOptions{}, nil, func(one, other *rulesRig) {
			before := one.up.FlightKey(list.call(one))
			other.ask(rulesTool("write"))
			if one.up.FlightKey(list.call(one)) == before {
				t.Error("a call after a write under the other name joins a flight of before")
			}
		})
	})
	t.Run("a refusal", func(t *testing.T) {
		twoNames(t, cache.StoreOptions{}, cache.StageOptions{}, cache.StageOptions{}, nil, func(one, other *rulesRig) {
			one.says(rulesPublic)
			one.asks("first", list)
			kept := one.asks("by another", list.by("b"))
			one.hits("kept", kept.n, list.by("b"))
			other.hits("one whom the server took under the other name", kept.n, list)
			one.after(time.Millisecond)
			one.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(401, "no") })
			other.ask(rulesModern("ping"))
			one.says(rulesPublic)
			one.asks("refused under the other name", list)
		})
	})
	t.Run("a cursor", func(t *testing.T) {
		page := list.with(`"cursor":"c"`)
		twoNames(t, cache.StoreOptions{}, cache.StageOptions{}, cache.StageOptions{}, nil, func(one, other *rulesRig) {
			one.asks("the first page", list)
			kept := one.asks("a page", page)
			other.hits("the same", kept.n, page)
			one.gives(func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32602) })
			other.ask(list.with(`"cursor":"d"`))
			one.says(`"ttlMs":9000,"cacheScope":"private"`)
			one.asks("after a refused cursor under the other name", page)
		})
	})
}

// TestTwoNamesAreRemembered: the credentials of both names are there after a restart, whichever was saved last.
func TestTwoNamesAreRemembered(t *testing.T) {
	for _, first := range []bool{true, false} {
		dir, disk, list := t.TempDir(), newRigDisk(), rulesModern("tools/list")
		run := func(f func(r, one, other *rulesRig)) {
			state, err := cache.OpenState(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer state.Close()
			tiers := []worker.Options{slow(newRigTier("database", disk))}
			twoNames(t, cache.StoreOptions{State: state}, cache.StageOptions{}, cache.StageOptions{}, tiers, func(one, other *rulesRig) {
				one.says(`"ttlMs":60000,"cacheScope":"public"`)
				if first {
					f(one, one, other)
				} else {
					f(one, other, one)
				}
			})
		}
		run(func(r, one, _ *rulesRig) { one.ask(list) })
		run(func(r, one, other *rulesRig) {
			one.ask(list)
			if n := r.server.asked(); n != 0 {
				t.Errorf("the credential of an upstream's name was forgotten")
			}
		})
	}
}
