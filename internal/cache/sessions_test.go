package cache_test

import (
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

const rulesTells = `{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true}}`

// initialize opens a session, or settles a version with a server that mints none where session is "".
func (r *rulesRig) initialize(sessionID, client, server string) {
	r.Helper()
	r.initializeAs(rulesLegacy("initialize").with(`"protocolVersion":"2025-06-18","capabilities":`+client), sessionID,
		`"protocolVersion":"2025-06-18","capabilities":`+server)
}

func (r *rulesRig) initializeAs(a rulesAsk, sessionID, result string) {
	r.Helper()
	r.server.mu.Lock()
	before := r.server.script
	r.server.mu.Unlock()
	r.gives(func(c *mcp.Call) *mcp.Result {
		res := rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{`+result+`}}`)
		if strings.HasPrefix(sessionID, "stream ") {
			res = rulesStream(c, "id: 1\n\n"+rulesData(`{"jsonrpc":"2.0","id":1,"result":{`+result+`}}`))
		}
		if sessionID != "" {
			res.Header.Set("Mcp-Session-Id", sessionID)
		}
		return res
	})
	r.asks("initialize", a.field("Mcp-Protocol-Version"))
	r.script(before)
}

// TestLegacyRelaysUntilInitialize holds that nothing is shared in a session of which the daemon has seen no beginning.
func TestLegacyRelaysUntilInitialize(t *testing.T) {
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		a, none := rulesLegacy("tools/list").in("s"), rulesLegacy("tools/list")
		for range 2 {
			for _, b := range []rulesAsk{a, none} {
				if p := r.asks("before", b); p.status() != "fwd=bypass" || r.flown.Key != (flight.Key{}) {
					t.Error(p.status())
				}
			}
		}
		r.initialize("s", "{}", "{}")
		first := r.asks("after", a)
		r.hits("after", first.n, a)
		r.hits("after, empty params", first.n, a.with(` `))
		r.asks("without a session", none)
		r.asks("without a session", none)
		r.asks("another version than was settled", a.speaking("2025-03-26"))
		r.asks("another version than was settled", a.speaking("2025-03-26"))
		r.asks("no version, which is 2025-03-26", a.field("Mcp-Protocol-Version").speaking("2025-03-26"))
		r.initialize("stream s2", "{}", "{}")
		first = r.asks("a session begun on a stream", a.in("stream s2"))
		r.hits("a session begun on a stream", first.n, a.in("stream s2"))
	})
}

// TestLegacyInitializeThatSettlesNothing holds that answers which leave version or capabilities open leave the session to
// relay.
func TestLegacyInitializeThatSettlesNothing(t *testing.T) {
	const good = `"protocolVersion":"2025-06-18","capabilities":{}`
	for what, tt := range map[string]struct{ params, result string }{
		"an unknown version":        {good, `"protocolVersion":"2020-01-01","capabilities":{}`},
		"a later version":           {good, `"protocolVersion":"2027-01-01","capabilities":{}`},
		"no version":                {good, `"capabilities":{}`},
		"a version of another name": {good, `"ProtocolVersion":"2025-06-18","capabilities":{}`},
		"capabilities twice":        {`"capabilities":{},` + good, good},
		"odd capabilities":          {`"protocolVersion":"2025-06-18","capabilities":[1]`, good},
		"a name twice in them":      {`"protocolVersion":"2025-06-18","capabilities":{"a":1,"a":2}`, good},
	} {
		rulesTest(t, rulesAll(), func(r *rulesRig) {
			r.initialize("s", "{}", "{}") // what was known is forgotten as well
			r.initializeAs(rulesLegacy("initialize").with(tt.params), "s", tt.result)
			for _, version := range []string{"2025-06-18", "2020-01-01"} {
				r.asks(what, rulesLegacy("tools/list").in("s").speaking(version))
				r.asks(what, rulesLegacy("tools/list").in("s").speaking(version))
			}
		})
	}
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		r.gives(func(c *mcp.Call) *mcp.Result {
			res := rulesError(c, 200, -32602)
			res.Header.Set("Mcp-Session-Id", "s")
			return res
		})
		r.asks("refused", rulesLegacy("initialize").with(good))
		r.asks("refused", rulesLegacy("tools/list").in("s"))
		r.asks("refused", rulesLegacy("tools/list").in("s"))
	})
}

// TestLegacySessionsShareNothing holds that answers are bound to a session, its version and its capabilities.
func TestLegacySessionsShareNothing(t *testing.T) {
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		r.initialize("s1", "{}", "{}")
		r.initialize("s2", "{}", "{}")
		for method, params := range rulesSix {
			if method == "server/discover" {
				continue
			}
			a := rulesLegacy(method).with(params)
			one, two := r.asks(method, a.in("s1")), r.asks(method, a.in("s2"))
			r.asks(method+", another credential", a.in("s1").by("b"))
			r.hits(method, one.n, a.in("s1"))
			r.hits(method, two.n, a.in("s2"))
			r.asks(method+", modern", rulesModern(method).with(params))
		}
	})
}

// TestLegacyDefault holds that a list without an operator's TTL is kept for a minute, where the server declared to tell of
// changes and a stream was open before it was asked.
func TestLegacyDefault(t *testing.T) {
	const minute = time.Minute * 19 / 20 // long lives are shortened by chance
	lists := []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"}
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		r.says(`"ttlMs":600000,"cacheScope":"public"`) // means nothing here
		r.initialize("s", "{}", rulesTells)
		for _, method := range lists {
			r.asks("no stream", rulesLegacy(method).in("s"))
			r.asks("no stream", rulesLegacy(method).in("s"))
		}
		stream := r.listen("s", "a")
		for _, method := range lists {
			a := rulesLegacy(method).in("s")
			first := r.asks(method, a)
			r.after(minute)
			r.hits(method, first.n, a)
			r.after(time.Minute - minute)
			r.asks(method+", after a minute", a)
		}
		for _, a := range []rulesAsk{rulesLegacy("resources/read").with(`"uri":"a"`), rulesLegacy("server/discover")} {
			r.asks(a.method, a.in("s"))
			r.asks(a.method, a.in("s"))
		}
		stream.end()
		for _, method := range lists {
			r.asks(method+", when the stream has ended", rulesLegacy(method).in("s"))
			r.asks(method+", when the stream has ended", rulesLegacy(method).in("s"))
		}
	})
}

// TestLegacyDefaultByFamily holds that only what was declared counts, and as it was written.
func TestLegacyDefaultByFamily(t *testing.T) {
	lists := map[string]string{"tools": "tools/list", "prompts": "prompts/list", "resources": "resources/templates/list"}
	for family := range lists {
		for declared, kept := range map[string]bool{
			`{"` + family + `":{"listChanged":true}}`: true, `{"` + family + `":{"listChanged":false}}`: false,
			`{"` + family + `":{}}`: false, `{"` + family + `":{"ListChanged":true}}`: false,
			`{"` + strings.ToUpper(family) + `":{"listChanged":true}}`: false, `{"` + family + `":{"listChanged":"true"}}`: false,
		} {
			rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
				r.initialize("s", "{}", declared)
				stream := r.listen("s", "a")
				defer stream.end()
				for of, method := range lists {
					a := rulesLegacy(method).in("s")
					first := r.asks(declared, a)
					if kept && of == family {
						r.hits(declared, first.n, a)
					} else {
						r.asks(declared, a)
					}
				}
			})
		}
	}
}

// TestLegacyStreams holds whose stream counts, and from when to when.
func TestLegacyStreams(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		a := rulesLegacy("tools/list")
		r.initialize("s1", "{}", rulesTells)
		r.initialize("s2", "{}", rulesTells)
		one := r.listen("s1", "a")
		r.asks("another session's stream", a.in("s2"))
		r.asks("another session's stream", a.in("s2"))
		first := r.asks("two streams of the session", a.in("s1"))
		two := r.listen("s1", "a")
		r.hits("two streams of the session", first.n, a.in("s1"))
		one.end()
		first = r.asks("one stream has ended: what it had to say may be lost", a.in("s1"))
		r.hits("the other one is open", first.n, a.in("s1"))
		two.leave()
		r.asks("the agent has left the other one", a.in("s1"))
		r.asks("the agent has left the other one", a.in("s1"))

		// The stream of an answer is none on which changes have to come.
		post := r.open(rulesLegacy("ping").in("s1"))
		r.asks("the stream of an answer", a.in("s1"))
		r.asks("the stream of an answer", a.in("s1"))
		post.end()

		// A stream that is opened while the server is at it comes too late: a change may have passed before.
		var late *rulesLive
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			late = r.listen("s2", "a")
			return rulesWhole(200, rulesAnswer(n, c, "")), nil
		})
		r.ask(a.in("s2"))
		r.says("")
		kept := r.asks("a stream that was opened meanwhile", a.in("s2"))
		r.hits("a stream that was open before", kept.n, a.in("s2"))
		late.end()

		// One that ends while the server is at it is no better.
		stream := r.listen("s2", "a")
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			stream.end()
			return rulesWhole(200, rulesAnswer(n, c, "")), nil
		})
		r.ask(a.in("s2"))
		again := r.listen("s2", "a")
		r.says("")
		r.asks("a stream that ended meanwhile", a.in("s2"))
		again.end()
	})
}

// TestOperatorsTTLOutlivesStreams holds that the operator's word does not depend on streams.
func TestOperatorsTTLOutlivesStreams(t *testing.T) {
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		r.initialize("s", "{}", rulesTells)
		stream := r.listen("s", "a")
		first := r.asks("first", rulesLegacy("tools/list").in("s"))
		stream.end()
		r.hits("after the stream", first.n, rulesLegacy("tools/list").in("s"))
	})
}

// TestSecondInitialize holds that a session which settles itself anew has other requests.
func TestSecondInitialize(t *testing.T) {
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		a := rulesLegacy("tools/list").in("s")
		r.initialize("s", `{"roots":{}}`, "{}")
		first := r.asks("first", a)
		r.hits("first", first.n, a)
		within := rulesLegacy("initialize").in("s").with(`"protocolVersion":"2025-06-18","capabilities":{"sampling":{}}`)
		r.initializeAs(within, "", `"protocolVersion":"2025-06-18","capabilities":{}`)
		second := r.asks("with other capabilities", a)
		r.hits("with other capabilities", second.n, a)
		r.asks("without a session: that initialize was the session's", rulesLegacy("tools/list"))
		r.asks("without a session: that initialize was the session's", rulesLegacy("tools/list"))
	})
}

// TestDeleteForgets holds that a session which has ended leaves nothing, also where the server gives its id out again.
func TestDeleteForgets(t *testing.T) {
	rulesTestTiers(t, 1, rulesAll(), func(r *rulesRig) {
		r.initialize("s", "{}", "{}")
		r.initialize("other", "{}", "{}")
		asks := []rulesAsk{rulesLegacy("tools/list"), rulesLegacy("resources/read").with(`"uri":"a"`)}
		other := make([]int, len(asks))
		for i, a := range asks {
			r.hits("before", r.asks("before", a.in("s")).n, a.in("s"))
			other[i] = r.asks("before", a.in("other")).n
		}
		r.ask(rulesAsk{}.on(mcp.LaneEnd).in("s"))
		for i, a := range asks {
			r.asks("after the DELETE", a.in("s"))
			r.asks("after the DELETE", a.in("s"))
			r.hits("another session", other[i], a.in("other"))
		}
		r.initialize("s", "{}", "{}")
		for _, a := range asks {
			r.hits("the id again", r.asks("the id again", a.in("s")).n, a.in("s"))
		}
	})
}

// TestLegacyWithoutSessions holds that agents of one credential share answers where the server mints no sessions.
func TestLegacyWithoutSessions(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		a := rulesLegacy("tools/list")
		r.initialize("", `{"roots":{}}`, rulesTells)
		r.asks("no stream", a)
		r.asks("no stream", a)
		stream := r.listen("", "a")
		first := r.asks("a stream of the credential's", a)
		r.initialize("", `{"sampling":{}}`, rulesTells) // another agent: capabilities are no part
		r.hits("another agent", first.n, a)
		r.asks("another credential has no stream", a.by("b"))
		r.asks("another credential has no stream", a.by("b"))
		r.asks("a version that nobody settled", a.speaking("2025-03-26"))
		r.asks("a version that nobody settled", a.speaking("2025-03-26"))
		theirs := r.listen("", "b")
		second := r.asks("another credential, with a stream", a.by("b"))
		theirs.end()
		r.hits("the first one", first.n, a)
		if again := r.asks("the other one's stream has ended", a.by("b")); again.n == second.n {
			t.Error("the same answer")
		}
		stream.end()
		r.asks("the stream has ended", a)
	})
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		a := rulesLegacy("resources/read").with(`"uri":"a"`)
		r.initialize("", "{}", "{}")
		first := r.asks("operator's TTL", a)
		r.hits("operator's TTL", first.n, a)
		r.asks("operator's TTL, another credential", a.by("b"))
	})
}
