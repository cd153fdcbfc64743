package cache_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// headsRig is a list of two pages, both in memory: the second one has been answered from there more than once.
type headsRig struct {
	*rulesRig
	first, second rulesAsk
}

func newHeadsRig(r *rulesRig, says string) *headsRig {
	r.Helper()
	first := rulesModern("tools/list")
	h := &headsRig{r, first, first.with(`"cursor":"2"`)}
	r.says(says)
	r.asks("page 1", h.first)
	h.hitsTwice(r.asks("page 2", h.second).n)
	return h
}

// hitsTwice asks for the second page twice, which memory has to answer.
func (h *headsRig) hitsTwice(n int) {
	h.Helper()
	h.hits("page 2", n, h.second)
	h.hits("page 2 again", n, h.second)
}

// goes checks that the second page is not served any more, nor kept without a first one, and that one of a new first one is.
func (h *headsRig) goes() {
	h.Helper()
	h.asks("page 2 without the first", h.second)
	h.asks("page 2, which nobody has kept", h.second)
	h.asks("a new page 1", h.first)
	h.hitsTwice(h.asks("page 2 of the new page 1", h.second).n)
}

var headsSays = map[string]string{"private": `"ttlMs":9000`, "public": rulesPublic}

// TestPageAfterEviction holds that a page goes with a first one that went for want of room.
func TestPageAfterEviction(t *testing.T) {
	for name, says := range headsSays {
		t.Run(name, func(t *testing.T) {
			rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
				h := newHeadsRig(r, says)
				r.says(`"ttlMs":9000,"x":"` + strings.Repeat("x", 50<<10) + `"`)
				for i := range 120 { // six times what memory has room for
					r.asks("much else", rulesRead(fmt.Sprint("file:///", i)))
				}
				r.says(says)
				h.goes()
			})
		})
	}
}

// TestPageAfterPurge holds that a page goes with a first one that was invalidated, and lives as long as the new one.
func TestPageAfterPurge(t *testing.T) {
	for name, says := range headsSays {
		t.Run(name, func(t *testing.T) {
			rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
				h := newHeadsRig(r, says)
				for range 3 {
					if _, _, err := r.store.Purge(t.Context(), "", "tools/list"); err != nil {
						t.Fatal(err)
					}
					h.goes()
				}
				if _, _, err := r.store.Purge(t.Context(), "", "tools/list"); err != nil {
					t.Fatal(err)
				}
				r.says(strings.Replace(says, "9000", "2000", 1))
				r.asks("a new page 1, of a shorter life", h.first)
				r.says(says)
				two := r.asks("page 2", h.second)
				r.after(1999 * time.Millisecond)
				h.hitsTwice(two.n)
				r.after(time.Millisecond)
				h.goes()
			})
		})
	}
}

// TestPageAfterWithdrawal holds that everybody's page goes with a first one that is not everybody's any more.
func TestPageAfterWithdrawal(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		h := newHeadsRig(r, rulesPublic)
		r.says(`"ttlMs":9000,"cacheScope":"private"`)
		r.asks("page 1, of one who is not known", h.first.by("b"))
		r.says(rulesPublic)
		h.goes()
	})
}

// TestPageOfTheUnknown holds that everybody's first page is none for one whom the server has not accepted, or no longer has.
func TestPageOfTheUnknown(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		h := newHeadsRig(r, rulesPublic)
		b := h.second.by("b")
		r.says(`"ttlMs":9000`)
		r.asks("page 2, of one who is not known", b)
		two := r.asks("page 3, of one who is", b.with(`"cursor":"3"`))
		r.hits("page 3, his own, under everybody's first", two.n, b.with(`"cursor":"3"`))
		r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(401, "") })
		r.ask(rulesModern("ping").by("b"))
		r.says(`"ttlMs":9000`)
		r.asks("page 3, of one who was refused", b.with(`"cursor":"3"`))
	})
}

// headsLink is a tier that other daemons share, with a link to them.
type headsLink struct {
	*rulesSlow
	lost atomic.Bool
}

func (l *headsLink) Linked() bool { return !l.lost.Load() }

// TestPageAfterTheLink holds that a first page which other daemons may have invalidated is none while that would not be received.
func TestPageAfterTheLink(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		tier := &headsLink{rulesSlow: new(rulesSlow)}
		r.store.Add(worker.Options{Tier: tier, Timeout: time.Second, Breaker: &tier.breaker, Private: true, Shared: true})
		r.after(0)
		first, second := rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`)
		one := r.asks("page 1", first)
		r.forget()
		r.hits("page 1, from the tier", one.n, first)
		h := &headsRig{r, first, second}
		two := r.asks("page 2", second)
		h.hitsTwice(two.n)
		tier.lost.Store(true)
		tier.breaker.open.Store(true)
		r.asks("page 2 without a link", second)
		r.asks("page 2 without a link, again", second)
		tier.lost.Store(false)
		h.hitsTwice(two.n) // the first page, and what was of it
	})
}

// TestPageByEachConfiguration holds that a first page lives as long as the asked upstream has it, where two have one
// identity.
func TestPageByEachConfiguration(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		_, caller := r.another("short", "https://docs.example.com/mcp", cache.StageOptions{MaxTTL: 2 * time.Second})
		short := r.through(caller)
		first, second := rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`)
		r.asks("page 1", first)
		r.after(1500 * time.Millisecond)
		two := r.asks("page 2", second)
		r.hits("page 2", two.n, second)
		short.hits("page 2, the first one half a second before its end", two.n, second)
		r.after(500 * time.Millisecond)
		r.hits("page 2", two.n, second)
		short.asks("page 2, after the first one's end", second)
	})
}

// TestPagesAmongPurges reads pages while the list changes and its first page is stored again: no page is from before a
// purge that had ended, and none is a miss where nothing has changed since it and the first one were kept.
func TestPagesAmongPurges(t *testing.T) {
	store, err := cache.NewStore(cache.StoreOptions{Memory: memory.Options{Size: 1 << 20}, State: cache.MemoryState(nil)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rulesRig{T: t, store: store, server: new(rulesServer)}
	_, r.caller = r.another("docs", "https://docs.example.com/mcp", cache.StageOptions{})
	first, second := rulesModern("tools/list"), rulesModern("tools/list").with(`"cursor":"2"`)
	var version, purged atomic.Int64 // of the list
	r.script(func(_ int, c *mcp.Call) (*mcp.Result, error) {
		return rulesWhole(200, rulesAnswer(int(version.Load()), c, `"ttlMs":9000000`)), nil
	})
	ask := func(a rulesAsk) *rulesReply {
		least := purged.Load()
		res, err := r.caller.Call(context.Background(), a.call(t))
		if err != nil {
			t.Error(err)
			return new(rulesReply)
		}
		p := r.read(res)
		if int64(p.n) < least {
			t.Errorf("%s: version %d, after those before %d were purged", a.bytes(), p.n, least)
		}
		return p
	}
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				ask(second)
			}
		})
	}
	for range 500 {
		for range 2 {
			v := version.Add(1)
			if _, _, err := r.store.Purge(t.Context(), "", "tools/list"); err != nil {
				t.Error(err)
			}
			purged.Store(v)
			ask(first)
		}
		hit := false
		for range 100 { // it may follow calls of before the first page was kept, whose answers are not
			if p := ask(second); strings.HasPrefix(p.status(), "hit; ") {
				hit = true
				break
			}
		}
		if !hit {
			t.Error("page 2, under a first page that is fresh, is never kept")
		}
	}
	end()
	wg.Wait()
	if err := r.store.Close(context.Background()); err != nil {
		t.Error(err)
	}
}
