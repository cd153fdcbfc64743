package cache_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

const rulesPublic = `"ttlMs":9000,"cacheScope":"public"`

// accept makes the server accept a credential by a call that has nothing to do with the cache.
func (r *rulesRig) accept(credential string) {
	r.Helper()
	r.ask(rulesModern("ping").by(credential))
}

func TestPublicNeedsTTLAndScope(t *testing.T) {
	for says, public := range map[string]bool{
		rulesPublic: true, `"ttlMs":9000,"cacheScope":"\u0070ublic"`: true, `"ttlMs":9000,"cacheScope":"private"`: false,
		`"ttlMs":9000`: false, `"ttlMs":9000,"cacheScope":"PUBLIC"`: false, `"ttlMs":9000,"cacheScope":null`: false,
		`"ttlMs":9000,"cacheScope":["public"]`: false, `"ttlMs":9000,"CacheScope":"public"`: false,
		`"ttlMs":9000,"_meta":{"cacheScope":"public"}`: false,
	} {
		rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
			r.says(says)
			r.accept("b")
			first := r.asks(says, rulesModern("tools/list").by("a"))
			if public {
				r.hits(says, first.n, rulesModern("tools/list").by("b"))
			} else {
				r.asks(says, rulesModern("tools/list").by("b"))
			}
		})
	}
}

// TestOperatorsAnswersStayPrivate holds that only what the server itself lets live is everybody's.
func TestOperatorsAnswersStayPrivate(t *testing.T) {
	o := cache.StageOptions{
		TTL: map[string]time.Duration{"tools/list": time.Minute}, Tools: map[string]time.Duration{"t": time.Minute}, MinTTL: time.Minute,
	}
	rulesTest(t, o, func(r *rulesRig) {
		r.accept("b")
		for i, says := range []string{`"cacheScope":"public"`, `"ttlMs":0,"cacheScope":"public"`, `"ttlMs":-1,"cacheScope":"public"`} {
			r.says(says)
			a := rulesModern("tools/list").with(`"x":` + strconv.Itoa(i))
			first := r.asks(says, a)
			r.hits(says, first.n, a)
			r.asks(says+", by another", a.by("b"))
		}
		r.says(rulesPublic)
		first := r.asks("a tool", rulesTool("t"))
		r.hits("a tool", first.n, rulesTool("t"))
		r.asks("a tool, by another", rulesTool("t").by("b"))
	})
}

// TestPublicIsForTheAccepted holds that a credential of which the server has not been asked lately meets the server.
func TestPublicIsForTheAccepted(t *testing.T) {
	for slow := range 2 {
		rulesTestTiers(t, slow, cache.StageOptions{}, func(r *rulesRig) {
			r.says(`"ttlMs":9000000,"cacheScope":"public"`)
			a := rulesModern("tools/list")
			first := r.asks("first", a)
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(http.StatusUnauthorized, `{}`) })
			if got := r.asks("unknown", a.by("b")); got.code != http.StatusUnauthorized {
				t.Errorf("an unknown credential got %d", got.code)
			}
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(http.StatusInternalServerError, `{}`) })
			r.asks("one that met a 500", a.by("c"))
			r.asks("one that met a 500, again", a.by("c"))
			r.after(time.Second)
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(http.StatusAccepted, ``) })
			r.ask(rulesAsk{era: mcp.EraModern}.on(mcp.LaneNotification).saying(`{"jsonrpc":"2.0","method":"notifications/x"}`).by("b"))
			r.hits("accepted", first.n, a.by("b"))
			r.after(10*time.Minute - time.Millisecond)
			r.hits("accepted 10 minutes ago but a millisecond", first.n, a.by("b"))
			if slow > 0 {
				r.forget()
				if got := r.hits("the same, from behind memory", first.n, a.by("b")); got.status()[:4] != "hit;" {
					t.Error(got.status())
				}
			}
			r.after(time.Millisecond)
			r.asks("accepted 10 minutes ago: hits are no answers of the server's", a.by("b"))
			if slow > 0 {
				r.forget()
				r.asks("the same, from behind memory", a.by("d"))
			}
		})
	}
}

func TestRefusalDropsTheCredential(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for slow := range 2 {
			rulesTestTiers(t, slow, cache.StageOptions{Tools: map[string]time.Duration{"t": 9 * time.Second}}, func(r *rulesRig) {
				asks := []rulesAsk{rulesModern("prompts/list"), rulesRead("file:///a"), rulesTool("t")}
				var own, others []int
				for _, a := range asks {
					own = append(own, r.asks("own", a).n)
					others = append(others, r.asks("another's", a.by("b")).n)
				}
				r.says(rulesPublic)
				everybody := r.asks("everybody's", rulesModern("tools/list"))
				for i, a := range asks {
					r.hits("own, before", own[i], a)
				}
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(status, `{}`) })
				r.asks("the refusal", rulesModern("ping"))
				r.says(`"ttlMs":0`)
				for i, a := range asks {
					r.hits("another's", others[i], a.by("b"))
					r.hits("everybody's", everybody.n, rulesModern("tools/list").by("b"))
					r.asks("own", a)
				}
			})
		}
	}
}

// TestRefusalEndsPublic holds that after a refusal everybody's answers are not the credential's any more.
func TestRefusalEndsPublic(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		r.says(rulesPublic)
		a := rulesModern("tools/list")
		first := r.asks("first", a)
		r.accept("b")
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(http.StatusUnauthorized, `{}`) })
		r.asks("the refusal, where the answer is another's", rulesModern("prompts/list"))
		r.hits("another", first.n, a.by("b"))
		for range 2 {
			if got := r.asks("the refused", a); got.code != http.StatusUnauthorized {
				t.Errorf("got %d", got.code)
			}
		}
	})
}

// TestRefusedDocumentsAreNothing holds that documents beside the endpoint say nothing of a credential.
func TestRefusedDocumentsAreNothing(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		first := r.asks("first", rulesModern("tools/list"))
		for _, status := range []int{http.StatusUnauthorized, http.StatusOK} {
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(status, `{}`) })
			r.ask(rulesAsk{}.on(mcp.LaneFetch).saying(`{"jsonrpc":"2.0","method":"x"}`))
			r.ask(rulesAsk{}.on(mcp.LaneFetch).saying(`{"jsonrpc":"2.0","method":"x"}`).by("b"))
		}
		r.hits("after", first.n, rulesModern("tools/list"))
		r.says(rulesPublic)
		r.asks("public", rulesModern("prompts/list"))
		r.asks("public, of one that only fetched a document", rulesModern("prompts/list").by("b"))
	})
}

// TestPrivateAnswerWithdrawsThePublicOne holds that everybody's answer ends when the server says that it is not
// everybody's: in memory and behind it.
func TestPrivateAnswerWithdrawsThePublicOne(t *testing.T) {
	for says, gone := range map[string]bool{`"ttlMs":9000,"cacheScope":"private"`: true, `"ttlMs":9000`: true, rulesPublic: false} {
		for slow := range 3 {
			rulesTestTiers(t, slow, cache.StageOptions{}, func(r *rulesRig) {
				a := rulesModern("tools/list")
				r.says(rulesPublic)
				first := r.asks("first", a)
				r.accept("b")
				r.hits("before", first.n, a.by("b"))
				if slow == 2 {
					r.forget() // only the tiers behind have it
				}
				r.says(says)
				newcomer := r.asks("one who is not known", a.by("c"))
				if !gone {
					r.hits(says, newcomer.n, a.by("b"))
					return
				}
				r.asks(says, a.by("b"))
				if slow > 0 {
					r.forget()
				}
				if first = r.asks(says+", the first one", a); first.status() != "fwd=miss; stored" {
					t.Error(first.status())
				}
			})
		}
	}
}

// TestPrivateAnswerWithdrawsOthersPublicOne is the same for an answer that another daemon stored, also where the tier cannot
// be asked at that moment.
func TestPrivateAnswerWithdrawsOthersPublicOne(t *testing.T) {
	for _, away := range []bool{false, true} {
		rulesTestTiers(t, 1, cache.StageOptions{}, func(r *rulesRig) {
			a := rulesModern("tools/list")
			r.says(`"ttlMs":90000,"cacheScope":"public"`)
			r.asks("first", a)
			next := newRulesRig(t, cache.StageOptions{}, 0) // another daemon with the same tier
			defer next.close()
			next.lend(r.slow[0])
			next.accept("b")
			r.slow[0].breaker.open.Store(away)
			next.says(`"ttlMs":0`)
			next.asks("the private answer", a.by("c"))
			r.slow[0].breaker.open.Store(false)
			next.after(time.Minute)
			next.asks("after it", a.by("b"))
		})
	}
}

// TestFreshPublicBeatsExpiredPrivate holds that a credential's own answer that has expired, but is kept for bad times, does
// not hide everybody's.
func TestFreshPublicBeatsExpiredPrivate(t *testing.T) {
	rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
		a := rulesModern("tools/list")
		r.asks("private", a)
		r.after(9 * time.Second)
		r.says(rulesPublic)
		public := r.asks("public", a.by("b"))
		r.hits("after the private one's end", public.n, a)
	})
}

// TestPartition tries every header: those of the closed list say nothing of who asks, all others do.
func TestPartition(t *testing.T) {
	inert := []string{
		"Accept", "Accept-Language", "Content-Type", "Content-Length", "User-Agent", "Origin", "Referer", "Sec-Fetch-Mode",
		"Sec-Websocket-Key", "Dnt", "Priority", "Cache-Control", "Pragma", "Traceparent", "Tracestate", "Baggage", "X-Request-Id",
		"X-Correlation-Id", "Mcp-Method", "Mcp-Name", "Last-Event-Id", "X-Window", "Accept-Encoding",
	}
	for _, name := range inert {
		rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
			a := rulesModern("tools/list")
			first := r.asks(name, a)
			r.hits(name, first.n, a.field(name, "application/json"))
			r.hits(name, first.n, a.field(name, "application/json; x", "y"))
		})
	}
	for _, name := range []string{
		"Authorization", "Cookie", "X-Api-Key", "X-Tenant", "Proxy-Authorization", "Forwarded", "X-Forwarded-For", "Mcp-Param-Region",
		"Mcp-Params", "Security", "X-Windows", "X-Unknown",
	} {
		rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
			a := rulesModern("tools/list")
			var numbers []int
			values := [][]string{nil, {""}, {"a"}, {"A"}, {"a", "a"}, {"a", "b"}, {"b", "a"}, {"a,b"}, {"a\x01b"}, {"", "ab"}, {"ab", ""}}
			for _, v := range values {
				numbers = append(numbers, r.asks(name, a.field(name, v...)).n)
			}
			for i, v := range values {
				r.hits(name, numbers[i], a.field(name, v...))
			}
		})
	}
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) { // what belongs to one name is not another's
		a := rulesModern("tools/list")
		r.asks("", a.field("X-A", "1").field("X-B", "2"))
		r.asks("", a.field("X-A", "2").field("X-B", "1"))
		r.asks("", a.field("X-A", "1", "X-B", "2"))
		r.asks("", a.field("X-A-1-X-B", "2"))
	})
}
