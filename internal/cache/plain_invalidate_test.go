package cache_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// purge has the operator invalidate answers, and returns of which methods.
func (r *rulesRig) purge(upstream, method string) []string {
	r.Helper()
	purged, pending, err := r.store.Purge(context.Background(), upstream, method)
	if err != nil || len(pending) > 0 || len(purged) != 1 {
		r.Fatalf("%q %q: purged %v, pending %v, %v", upstream, method, purged, pending, err)
	}
	for _, methods := range purged {
		return methods
	}
	return nil
}

// TestPlainPurge holds that a purge of one method invalidates its answers in every tier, and no others.
func TestPlainPurge(t *testing.T) {
	o := rulesNamed()
	rulesTestTiers(t, 1, o, func(r *rulesRig) {
		block, head := rulesPlain("getBlock"), rulesPlain("head")
		for _, forget := range []func(){func() {}, r.forget} {
			first, kept := r.ask(block), r.ask(head)
			if got := r.purge("docs", "getBlock"); !slices.Equal(got, []string{"getBlock"}) {
				t.Errorf("purged %v", got)
			}
			forget()
			r.hits("another method", kept.n, head)
			if next := r.asks("after its purge", block); next.n == first.n {
				t.Error("the old answer was given")
			}
			r.hits("the new one", r.ask(block).n, block)
			all := r.purge("", "")
			if want := []string{"blöck", "getBlock", `get\u0042lock`, "head", "never", "tools/list"}; !slices.Equal(all, want) {
				t.Errorf("purged %q, want %q", all, want)
			}
			forget()
			r.asks("after a purge of all", block)
			r.asks("after a purge of all", head)
		}
		if got := r.purge("docs", "never"); !slices.Equal(got, []string{"never"}) {
			t.Errorf("purged %v", got)
		}
		if got := r.purge("", "head"); !slices.Equal(got, []string{"head"}) {
			t.Errorf("purged %v", got)
		}
		for _, bad := range [][2]string{{"docs", "getblock"}, {"docs", "prompts/list"}, {"nobody", ""}, {"nobody", "head"}, {"", "rubbish"}} {
			if purged, _, err := r.store.Purge(context.Background(), bad[0], bad[1]); err == nil || len(purged) > 0 {
				t.Errorf("%q: purged %v", bad, purged)
			}
		}
		// A server of MCP's beside it: each knows its own methods.
		r.another("search", "https://search.example.com/mcp", cache.StageOptions{})
		for method, want := range map[string][]string{
			"tools/list": {"docs", "search"}, "prompts/list": {"search"}, "head": {"docs"}, "": {"docs", "search"},
		} {
			purged, _, err := r.store.Purge(context.Background(), "", method)
			names := slices.Sorted(maps.Keys(purged))
			if err != nil || !slices.Equal(names, want) {
				t.Errorf("%q: purged %v (%v), want %v", method, names, err, want)
			}
		}
	})
}

// TestPlainStaleAfter holds what invalidates answers: the credential's end, time, and nothing that only MCP knows.
func TestPlainStaleAfter(t *testing.T) {
	const tools = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	rulesTestTiers(t, 1, rulesNamed(), func(r *rulesRig) {
		block, list := rulesPlain("getBlock"), rulesPlain("tools/list")
		first, second := r.asks("first", block), r.asks("first", list)
		other := r.asks("first", block.by("b"))
		key := r.up.FlightKey(block.call(r))
		for what, a := range map[string]rulesAsk{
			"a tools/call": rulesPlain("tools/call").with(`{"name":"put"}`), "another method": rulesPlain("put"),
			"an array": block.on(mcp.LaneBatch).saying(`[{"jsonrpc":"2.0","id":1,"method":"put"}]`),
		} {
			r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
				if c.Lane == mcp.LaneBatch {
					return &mcp.Result{Status: 200, Header: header.List{}, Body: []byte(`[` + tools + `]`)}, nil
				}
				return rulesStream(c, rulesData(tools)+rulesData(rulesAnswer(n, c, ``))), nil
			})
			r.ask(a)
			r.hits(what, first.n, block)
			r.hits(what, second.n, list)
		}
		if r.up.FlightKey(block.call(r)) != key {
			t.Error("the joining of flights was ended")
		}
		r.says(``)
		r.forget()
		if hit := r.hits("from behind memory", first.n, block); hit.status() != "hit; ttl=9; detail=database" {
			t.Error(hit.status())
		}
		for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
			r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(status, "") })
			if p := r.ask(rulesPlain("put")); p.code != status {
				t.Errorf("status %d", p.code)
			}
			r.says(``)
			r.hits("another's", other.n, block.by("b"))
			r.asks("after a refusal", block)
			r.ask(list)
		}
		r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(http.StatusUnauthorized, "") })
		r.ask(rulesPlain("put"))
		r.forget()
		r.says(``)
		r.asks("behind memory, after a refusal", block)
		r.hits("another's, behind memory", other.n, block.by("b"))
	})
}

// TestPlainClamps holds that max_ttl holds and min_ttl means nothing.
func TestPlainClamps(t *testing.T) {
	o := rulesNamed()
	o.MinTTL, o.MaxTTL = time.Hour, 6*time.Second
	rulesTest(t, o, func(r *rulesRig) {
		r.says(`"ttlMs":3600000`)
		r.rulesLives("getBlock", rulesPlain("getBlock"), 6*time.Second)
		r.rulesLives("head", rulesPlain("head"), 4*time.Second)
	})
}

// TestPlainStale holds that an expired answer is served instead, as it was, where a server fails, and never where it answers with an error of its own.
func TestPlainStale(t *testing.T) {
	o := rulesNamed()
	o.StaleIfError = time.Hour
	for _, slow := range []int{0, 1} {
		rulesTestTiers(t, slow, o, func(r *rulesRig) {
			r.says(`"ttlMs":9000`)
			a := rulesPlain("head")
			first := r.asks("first", a)
			r.after(4 * time.Second)
			if slow > 0 {
				r.forget()
			}
			r.fails()
			p := r.ask(a.under("7"))
			if p.n != first.n || p.ttl != "9000" || p.status() != "hit; ttl=0; detail=stale-error" && p.status() != "hit; ttl=-1; detail=stale-error" {
				t.Errorf("%s (%s)", p.body, p.status())
			}
			r.ask(a.by("b"))
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32000) })
			if p := r.ask(a); p.status() != "fwd=miss" {
				t.Errorf("an error of the server's: %s", p.status())
			}
			r.fails()
			r.after(40*time.Second - time.Millisecond)
			r.asks("within ten times its life", a.by("c"))
			if p := r.ask(a); p.n != first.n {
				t.Errorf("a moment before its end: %s", p.status())
			}
			r.after(time.Millisecond)
			if p := r.ask(a); p.code != http.StatusServiceUnavailable {
				t.Errorf("at its end: %s", p.status())
			}
		})
	}
	o.StaleIfError, o.StaleWhileRevalidate = 0, 3*time.Second
	rulesTest(t, o, func(r *rulesRig) {
		a := rulesPlain("head")
		first := r.asks("first", a)
		r.after(5 * time.Second)
		if p := r.ask(a); p.n != first.n || p.status() != "hit; ttl=-1; detail=stale-while-revalidate" {
			t.Errorf("%s (%s)", p.body, p.status())
		}
		r.hits("fetched meanwhile", first.n+1, a)
	})
}

// TestPlainStats holds that a detailed report names the most used keys by the names of the configuration.
func TestPlainStats(t *testing.T) {
	rulesTest(t, rulesNamed(), func(r *rulesRig) {
		for _, name := range []string{"getBlock", `get\u0042lock`, "put", "getBlock", "put"} {
			r.ask(rulesPlain(name))
		}
		up := r.store.Stats(context.Background(), true).Upstreams[0]
		if len(up.Keys) != 1 || up.Keys[0].Method != "getBlock" || up.Keys[0].Hits != 2 {
			t.Errorf("%+v", up.Keys)
		}
		if up.Bypass != 2 || up.Listening != 0 || up.Stored != 1 {
			t.Errorf("%+v", up)
		}
	})
}

// TestPartitionOfHeaders holds that a partition is of all headers but the inert ones.
func TestPartitionOfHeaders(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		a := r.store.Partition(&mcp.Call{Header: header.Of(http.Header{"Authorization": {"a"}})})
		seen := map[[32]byte]bool{{}: true}
		for _, h := range []http.Header{{"Authorization": {"a"}}, {"Authorization": {"b"}}, {}, {"Authorization": {"a"}, "X-Tenant": {"1"}}} {
			p := r.store.Partition(&mcp.Call{Header: header.Of(h)})
			if seen[p] {
				t.Errorf("%v is another's", h)
			}
			seen[p] = true
		}
		if a != r.store.Partition(&mcp.Call{Header: header.Of(http.Header{"Authorization": {"a"}, "User-Agent": {"x"}, "X-Window": {"1"}})}) ||
			r.store.Partition(&mcp.Call{}) != r.store.Partition(&mcp.Call{Header: header.List{}}) {
			t.Error("inert headers count")
		}
	})
}
