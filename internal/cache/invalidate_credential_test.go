package cache_test

import (
	"net/http"
	"slices"
	"testing"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// dropsHeaders are what a request may carry of which a server could tell callers apart, though none of it bears a credential.
var dropsHeaders = []string{"Mcp-Param-Region", "Idempotency-Key", "X-Idempotency-Key", "X-Tenant", "X-Forwarded-For"}

// TestWritesDropByCredential: a tools/call drops what its credential reads, whatever else its request says, and nothing of
// another credential's.
func TestWritesDropByCredential(t *testing.T) {
	read := rulesRead("file:///a")
	for _, name := range dropsHeaders {
		for _, tool := range []string{"write", "join_x"} {
			rulesTest(t, writeOptions(), func(r *rulesRig) {
				r.asks(name, read)
				other := r.asks(name, read.by("b"))
				tenant := r.asks(name, read.field("X-Tenant", "t"))
				r.hits(name+", before", tenant.n, read.field("X-Tenant", "t"))
				r.asks(name, rulesTool(tool).field(name, "v"))
				r.asks(name+", after its own write", read)
				r.asks(name+", after its own write, of a tenant", read.field("X-Tenant", "t"))
				r.hits(name+", of another", other.n, read.by("b"))
			})
		}
	}
}

// TestWritesEndJoiningByCredential: nor does anybody of that credential join what was in flight before.
func TestWritesEndJoiningByCredential(t *testing.T) {
	for _, name := range dropsHeaders {
		rulesTest(t, writeOptions(), func(r *rulesRig) {
			list := rulesModern("tools/list")
			before, other := r.up.FlightKey(list.call(r)), r.up.FlightKey(list.by("b").call(r))
			r.ask(rulesTool("write").field(name, "v"))
			if r.up.FlightKey(list.call(r)) == before {
				t.Errorf("%s: the caller's reads join flights of before its write", name)
			}
			if r.up.FlightKey(list.by("b").call(r)) != other {
				t.Errorf("%s: another credential's flights end", name)
			}
		})
	}
}

// TestRefusalDropsByCredential: a 401 or 403 drops all that the credential may see, private and public, whatever else the
// refused request said; and it may have public answers again once it is taken.
func TestRefusalDropsByCredential(t *testing.T) {
	for _, name := range dropsHeaders {
		for says, members := range map[string]string{"private": `"ttlMs":9000`, "public": rulesPublic} {
			for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
				rulesTest(t, cache.StageOptions{}, func(r *rulesRig) { testRefusalDrops(r, name, says, members, status) })
			}
		}
	}
}

func testRefusalDrops(r *rulesRig, name, says, members string, status int) {
	list := rulesModern("tools/list")
	what := name + ", " + says
	r.says(members)
	r.ask(list.by("b"))
	r.ask(list)
	r.ask(list.field("X-Tenant", "t"))
	n := r.ask(list).n
	r.hits(what, n, list)
	r.after(1)
	r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(status, "no") })
	r.ask(rulesModern("ping").field(name, "v"))
	r.after(1)
	r.says(members)
	before := r.server.asked()
	r.ask(list.by("b"))
	if r.server.asked() != before {
		r.Errorf("%s: another credential's answers are gone", what)
	}
	again := r.asks(what+", after the refusal", list)
	r.hits(what+", taken again", again.n, list)
	if says == "private" {
		r.asks(what+", of a tenant", list.field("X-Tenant", "t"))
	}
}

// TestParamHeadersAreInTheKey: the headers that say a tool's parameters are a part of what is asked, and not of who asks.
func TestParamHeadersAreInTheKey(t *testing.T) {
	call := func(h http.Header) *mcp.Call {
		c := rulesModern("tools/list").call(t)
		c.Header = append(c.Header, header.Of(h)...)
		return c
	}
	some := []http.Header{
		{}, {"Mcp-Param-A": {"1"}}, {"Mcp-Param-A": {"2"}}, {"Mcp-Param-A": {"1", "2"}}, {"Mcp-Param-B": {"1"}}, {"Mcp-Param-A": {""}},
		{"Mcp-Param-A": {"1"}, "Mcp-Param-B": {"1"}}, {"Mcp-Param-A-1": {"Mcp-Param-B"}},
	}
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		var keys [][32]byte
		for _, h := range some {
			if r.store.Partition(call(h)) != r.store.Partition(call(nil)) {
				t.Errorf("%v: another partition", h)
			}
			k := r.up.FlightKey(call(h)).Request
			if slices.Contains(keys, k) {
				t.Errorf("%v: the key of others", h)
			}
			keys = append(keys, k)
		}
	})
}

// TestIdempotencyIsNotShared: what has a key of its own to be done once under is asked by itself, and not kept.
func TestIdempotencyIsNotShared(t *testing.T) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		rulesTest(t, writeOptions(), func(r *rulesRig) {
			for what, a := range map[string]rulesAsk{
				"a list": rulesModern("tools/list"), "a resource": rulesRead("file:///a"), "a kept tool": rulesTool("get_x"), "a shared tool": rulesTool("join_x"),
			} {
				a = a.field(name, "k")
				r.asks(what, a)
				r.asks(what+", again", a)
				if k := r.up.FlightKey(a.call(r)); k.Request != [32]byte{} {
					t.Errorf("%s: it shares a flight", what)
				}
			}
		})
	}
}
