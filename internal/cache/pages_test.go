package cache_test

import (
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// TestPages holds that pages are entries of their own, kept and used while that first page of the list is alive of which they
// are.
func TestPages(t *testing.T) {
	for _, method := range []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"} {
		rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
			first, second, empty := rulesModern(method), rulesModern(method).with(`"cursor":"2"`), rulesModern(method).with(`"cursor":""`)
			r.says(`"ttlMs":5000`)
			r.asks("page 2 without the first", second)
			r.asks("page 2 without the first", second)
			one := r.asks("page 1", first)
			two := r.asks("page 2", second)
			three := r.asks("page 3, whose cursor is empty", empty)
			r.hits("page 3", three.n, empty)
			r.after(4 * time.Second)
			r.hits("page 1", one.n, first)
			r.hits("page 2", two.n, second)
			r.after(time.Second) // the first one ends, and so do the others
			r.says(`"ttlMs":2000`)
			r.asks("page 2 after the first one's end", second)
			r.asks("page 2 after the first one's end", second)
			one = r.asks("page 1 again", first)
			r.says(`"ttlMs":9000`)
			two = r.asks("page 2 under the new first one", second)
			r.hits("page 2 under the new first one", two.n, second)
			r.after(time.Second)
			r.hits("page 1", one.n, first)
			r.hits("page 2", two.n, second)
			r.asks("page 2 of another credential has another first one", second.by("b"))
			r.asks("page 2 of another credential has another first one", second.by("b"))
			r.asks("page 2 of another list has another first one", second.with(`"cursor":"2","x":1`))
			r.asks("page 2 of another list has another first one", second.with(`"cursor":"2","x":1`))
		})
	}
}

// TestPagesOfSlowTiers holds that a page from behind memory needs its first one as well.
func TestPagesOfSlowTiers(t *testing.T) {
	rulesTestTiers(t, 1, cache.StageOptions{}, func(r *rulesRig) {
		first, second := rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`)
		r.says(`"ttlMs":9000`)
		r.asks("page 2", second)
		r.forget()
		r.asks("page 2 without the first", second)
		r.says(`"ttlMs":2000`)
		r.asks("page 1", first)
		r.forget()
		r.says(`"ttlMs":9000`)
		two := r.asks("page 2, whose first one is behind", second)
		r.after(0)
		r.forget()
		r.hits("page 2, both from behind", two.n, second)
		r.after(2 * time.Second)
		r.forget()
		r.asks("page 2 after the first one's end", second)
	})
}

// TestPagesOfEverybody holds that a private page may follow a public one and the other way round.
func TestPagesOfEverybody(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		first, second := rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`)
		r.says(rulesPublic)
		r.asks("page 1", first)
		two := r.asks("page 2", second)
		r.hits("page 2", two.n, second)
		r.asks("of one who is not known", rulesModern("prompts/list").by("b"))
		r.hits("page 2, of one who is", two.n, second.by("b"))
		r.says(`"ttlMs":9000`)
		three := r.asks("page 3, the principal's own", first.with(`"cursor":"3"`))
		r.hits("page 3", three.n, first.with(`"cursor":"3"`))
	})
}

// TestFirstPageIsFetchedAgain holds that later pages go with their first one, and not with any that takes its place: the cursor
// that leads to them is the old one's.
func TestFirstPageIsFetchedAgain(t *testing.T) {
	for slow := range 2 {
		rulesTestTiers(t, slow, cache.StageOptions{}, func(r *rulesRig) {
			first, second := rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`)
			r.says(`"ttlMs":2000`)
			r.asks("page 1", first)
			r.says(`"ttlMs":9000`)
			two := r.asks("page 2", second)
			r.hits("page 2", two.n, second)
			r.after(2 * time.Second)
			r.asks("another page 1", first)
			two = r.asks("page 2 of the other page 1", second)
			r.hits("page 2 of the other page 1", two.n, second)
			if slow > 0 {
				r.forget()
				r.hits("page 2 of the other page 1, from behind", two.n, second)
			}
		})
	}
}

// TestInvalidCursor holds that a refused cursor makes that credential's pages of that list stale, with whatever status the
// error comes, and nobody else's: those of everybody are served to others still.
func TestInvalidCursor(t *testing.T) {
	for status, gone := range map[int]bool{200: true, 400: true, 500: false, 404: false} {
		for code, counts := range map[int]bool{-32602: true, -32603: false, -32601: false} {
			for _, framed := range []bool{false, true} {
				for slow := range 2 {
					if framed && status != 200 {
						continue
					}
					rulesTestTiers(t, slow, cache.StageOptions{}, func(r *rulesRig) {
						var first []int
						asks := []rulesAsk{
							rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`), rulesModern("tools/list").by("b"),
							rulesModern("prompts/list"), rulesRead("file:///a"),
						}
						for _, a := range asks {
							first = append(first, r.asks("before", a).n)
						}
						r.gives(func(c *mcp.Call) *mcp.Result {
							res := rulesError(c, status, code)
							if framed {
								return rulesStream(c, rulesData(string(res.Body)))
							}
							return res
						})
						r.asks("other params are other errors", rulesModern("tools/list").also(`"x":1`))
						for i, a := range asks {
							r.hits("an error without a cursor", first[i], a)
						}
						r.asks("the cursor", rulesModern("tools/list").with(`"cursor":"bad"`))
						r.says("")
						if slow > 0 {
							r.forget()
						}
						for i, a := range asks {
							if gone && counts && i < 2 {
								r.asks(http.StatusText(status), a)
							} else {
								r.hits(http.StatusText(status), first[i], a)
							}
						}
					})
				}
			}
		}
	}
}

// TestInvalidCursorOfEverybodysList holds that a credential whose cursor is refused is not served everybody's pages of before,
// which others are, and is served those of a new first page.
func TestInvalidCursorOfEverybodysList(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		first, second := rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`)
		r.says(rulesPublic)
		one, two := r.asks("page 1", first), r.asks("page 2", second)
		r.asks("b is known", rulesModern("prompts/list").by("b"))
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32602) })
		r.asks("the cursor", rulesModern("tools/list").with(`"cursor":"bad"`))
		r.says(rulesPublic)
		r.hits("page 1, of another credential", one.n, first.by("b"))
		r.hits("page 2, of another credential", two.n, second.by("b"))
		r.asks("page 2, of the one who was refused", second)
		one = r.asks("page 1, of the one who was refused", first)
		r.hits("the new page 1", one.n, first)
		two = r.asks("the new page 2", second)
		r.hits("the new page 2", two.n, second)
		r.hits("the new page 1, of another credential", one.n, first.by("b"))
	})
}

// TestAnotherServer holds that everything is stale when another server answers twice in a row at the address: once may be a
// replica that differs.
func TestAnotherServer(t *testing.T) {
	says := func(name string) string {
		return `"ttlMs":9000,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"` + name + `","version":"1"},"x":1}`
	}
	for slow := range 2 {
		rulesTestTiers(t, slow, rulesAll(), func(r *rulesRig) {
			asks := []rulesAsk{rulesTool("t"), rulesModern("server/discover").by("b")}
			for method, params := range rulesSix {
				asks = append(asks, rulesModern(method).with(params))
			}
			fill := func() (first []int) {
				for _, a := range asks {
					first = append(first, r.asks("", a).n)
				}
				return first
			}
			r.says(says("one"))
			first := fill()
			r.says(`"ttlMs":9000`) // it need not say who it is
			r.asks("", rulesRead("file:///b"))
			r.says(says("one"))
			r.asks("", rulesRead("file:///c"))
			for i, a := range asks {
				r.hits("the same server", first[i], a)
			}
			for _, name := range []string{"two", "one", "three", "two", "one"} {
				r.says(says(name))
				r.asks("replicas that differ", rulesRead("file:///"+name+strconv.Itoa(r.server.asked())))
			}
			for i, a := range asks {
				r.hits("of replicas that differ", first[i], a)
			}
			r.says(says("two"))
			r.asks("another server, once", rulesRead("file:///e"))
			if p := r.asks("another server", rulesRead("file:///d")); p.status() != "fwd=miss" {
				t.Error("from before the change was known: ", p.status())
			}
			if slow > 0 {
				r.forget()
			}
			for i, now := range fill() {
				r.hits("of the new server", now, asks[i])
			}
			r.initializeAs(rulesLegacy("initialize").with(`"capabilities":{}`), "s1", `"protocolVersion":"2025-06-18","serverInfo":{"name":"one"}`)
			r.hits("the legacy era says it in its own way", first[0]+len(asks)+9, asks[0])
			for range 2 {
				r.initializeAs(rulesLegacy("initialize").with(`"capabilities":{}`), "stream s2", `"protocolVersion":"2025-06-18","serverInfo":{"name":"two"}`)
			}
			fill()
		})
	}
}

// TestCacheStatus holds what Cache-Status says where no other test does.
func TestCacheStatus(t *testing.T) {
	rulesTestTiers(t, 1, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
		a := rulesModern("tools/list")
		want := func(what string, p *rulesReply, status string) {
			t.Helper()
			if got := slices.Collect(p.header.Values("Cache-Status")); len(got) != 1 || got[0] != "fluentd-perf; "+status {
				t.Errorf("%s: %q, want %q", what, got, status)
			}
		}
		want("a miss", r.asks("", a), "fwd=miss; stored")
		r.after(2500 * time.Millisecond)
		want("a hit", r.hits("", 1, a), "hit; ttl=6; detail=memory")
		r.forget()
		want("a hit of a tier behind", r.hits("", 1, a), "hit; ttl=6; detail=database")
		want("a promoted hit", r.hits("", 1, a), "hit; ttl=6; detail=memory")
		r.after(6499 * time.Millisecond)
		want("the last millisecond", r.hits("", 1, a), "hit; ttl=0; detail=memory")
		r.after(time.Millisecond)
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(503, "") })
		want("stale, at its end", r.ask(a), "hit; ttl=0; detail=stale-error")
		r.after(time.Millisecond)
		want("stale, a millisecond after it", r.ask(a), "hit; ttl=-1; detail=stale-error")
		r.after(6999 * time.Millisecond)
		want("stale, seven seconds after it", r.ask(a), "hit; ttl=-7; detail=stale-error")
		want("nothing to keep", r.ask(rulesModern("prompts/list")), "fwd=miss")
		want("relayed", r.ask(rulesModern("ping")), "fwd=bypass")
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(202, "") })
		for _, lane := range []mcp.Lane{mcp.LaneNotification, mcp.LaneResponse, mcp.LaneEnd, mcp.LaneFetch, mcp.LaneMessage} {
			if p := r.ask(a.on(lane)); p.header.Has("Cache-Status") {
				t.Errorf("lane %d: %s", lane, p.status())
			}
		}
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			<-time.After(time.Second)
			return rulesWhole(200, rulesAnswer(n, c, "")), nil
		})
		go func() { _, _ = r.caller.Call(r.Context(), rulesModern("resources/list").call(t)) }()
		synctest.Wait()
		want("another caller's", r.ask(rulesModern("resources/list")), "fwd=miss; collapsed")
	})
}
