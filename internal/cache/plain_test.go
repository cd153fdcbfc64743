package cache_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rulesNamed are the methods that the operator of a plain server names in these tests.
func rulesNamed() cache.StageOptions {
	return cache.StageOptions{Plain: true, Listen: true, FlushOnCall: true, TTL: map[string]time.Duration{
		"getBlock": 9 * time.Second, "head": 4 * time.Second, "tools/list": 9 * time.Second, "never": 0,
		`get\u0042lock`: 9 * time.Second, "blöck": 9 * time.Second,
	}}
}

// TestPlainMethods holds that exactly the named methods are cached, for exactly that long.
func TestPlainMethods(t *testing.T) {
	rulesTest(t, rulesNamed(), func(r *rulesRig) {
		r.rulesLives("getBlock", rulesPlain("getBlock"), 9*time.Second)
		r.rulesLives("head", rulesPlain("head"), 4*time.Second)
		for _, one := range [][]string{
			{"getBlock", `get\u0042lock`, `\u0067etBloc\u006B`}, {"head"}, {"tools/list", `tools\/list`}, {"bl\u00f6ck", `bl\u00F6ck`},
			{`get\\u0042lock`, `get\u005cu0042lock`},
		} {
			first := r.ask(rulesPlain(one[0]).with(`["spelled"]`))
			if first.status() != "fwd=miss; stored" {
				t.Errorf("%s: %s", one[0], first.status())
			}
			for _, name := range one {
				r.hits(name, first.n, rulesPlain(name).with(`["spelled"]`).under(`"x"`))
			}
		}
		for _, name := range []string{"never", "getblock", "getBlock2", "getBloc", " getBlock", "Head", "server/discover", "resources/read", "tools/call", "ping"} {
			a := rulesPlain(name)
			r.asks(name, a)
			if again := r.asks(name, a); again.status() != "fwd=bypass" || r.flown.Key != (flight.Key{}) || r.flown.Shared {
				t.Errorf("%s: %s", name, again.status())
			}
		}
	})
}

// TestPlainParams holds which params ask the same.
func TestPlainParams(t *testing.T) {
	same := [][]string{
		{``}, {`{}`, ` { } `}, {`[]`, "[\n]"}, {`[1,2]`, ` [ 1 , 2 ]`}, {`[2,1]`}, {`[[1],2]`}, {`[1,[2]]`}, {`["1",2]`}, {`[1.0,2]`}, {`[1e0,2]`},
		{`{"a":1,"b":[2,{"c":3,"d":4}]}`, `{"b":[2,{"d":4,"c":3}],"\u0061":1}`}, {`{"a":1}`}, {`{"a":null}`}, {`[null]`}, {`[{}]`}, {`[[]]`},
		{`{"_meta":{"traceparent":"1"}}`}, {`{"_meta":{}}`}, {`{"_meta":{"progressToken":1}}`}, {`{"task":1}`}, {`{"cursor":1}`}, {`{"cursor":"1"}`},
		{`{"name":1}`}, {`["0xFF"]`}, {`["0xff"]`}, {`[9007199254740993]`}, {`[9007199254740992]`}, {`["é"]`, `["\u00e9"]`}, {`["e\u0301"]`},
	}
	rulesTest(t, rulesNamed(), func(r *rulesRig) {
		for _, spellings := range same {
			first := r.asks(spellings[0], rulesPlain("getBlock").with(spellings[0]))
			for _, params := range spellings {
				r.hits(params, first.n, rulesPlain("getBlock").with(params).under("2"))
			}
			r.asks("another method "+spellings[0], rulesPlain("head").with(spellings[0]))
		}
	})
}

// TestPlainUntouched holds what goes to the server as it is, though its method is named.
func TestPlainUntouched(t *testing.T) {
	long := `["` + strings.Repeat("x", 64<<10) + `"]`
	a := rulesPlain("getBlock")
	asks := map[string]rulesAsk{
		"id null": a.under("null"), "a second name": a.with(`{"name":1,"name":2}`), "names twice": a.with(`[{"a":1,"a":1}]`), "long params": a.with(long),
		"another envelope": a.saying(`{"jsonrpc":"2.0","id":1,"method":"getBlock","Params":[]}`),
		"no JSON":          a.field("Accept", "text/event-stream"), "two sessions": a.field("Mcp-Session-Id", "1", "2"),
		"two versions": a.field("Mcp-Protocol-Version", "1", "2"),
		"MCP":          rulesModern("tools/list"), "legacy": rulesLegacy("tools/list"),
	}
	mismatch := a
	mismatch.differs = true
	asks["a mismatch"] = mismatch
	rulesTest(t, rulesNamed(), func(r *rulesRig) {
		for what, a := range asks {
			r.asks(what, a)
			if again := r.asks(what, a); again.status() != "fwd=bypass" || r.flown.Key != (flight.Key{}) {
				t.Errorf("%s: %s", what, again.status())
			}
		}
		note := a.on(mcp.LaneNotification).saying(`{"jsonrpc":"2.0","method":"getBlock"}`)
		r.gives(func(*mcp.Call) *mcp.Result { return &mcp.Result{Status: 202, Header: header.List{}} })
		if r.asks("a notification", note); r.asks("a notification", note).header.Has("Cache-Status") {
			t.Error("a notification has a Cache-Status")
		}
	})
	rulesTest(t, cache.StageOptions{TTL: rulesNamed().TTL}, func(r *rulesRig) {
		r.asks("plain, of a server of MCP's", a)
		r.asks("plain, of a server of MCP's", a)
		r.asks("plain, of a server of MCP's", rulesPlain("tools/list"))
		r.asks("plain, of a server of MCP's", rulesPlain("tools/list"))
	})
}

// TestPlainAnswers holds which answers are kept: results of any kind, whatever MCP would say of their members, byte for byte
// but for the id.
func TestPlainAnswers(t *testing.T) {
	kept := []string{
		`"0x1"`, `1`, `null`, `true`, `false`, `[]`, `[1,{"ttlMs":5}]`, `{}`, `{"isError":true}`, `{"resultType":"input_required"}`, `""`,
		`{"ttlMs":0,"cacheScope":"public"}`, `{"ttlMs":5000,"cacheScope":"public"}`, `{"ttlMs":-1}`, `{"ttlMs":"x"}`, `{"_meta":{"ttlMs":1}}`,
		`{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"a"}}}`, `{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"b"}}}`,
		`-0.0e-0`, `9007199254740993`, `"\u0061\/😀"`,
	}
	rulesTest(t, rulesNamed(), func(r *rulesRig) {
		for i, result := range kept {
			plainly := `{"jsonrpc":"2.0","id":<ID>,"result":` + result + `}`
			r.keeps(i, plainly, func(_ *mcp.Call, body string) *mcp.Result { return rulesWhole(200, body) })
			r.keeps(i, "\n{\"result\" : "+result+" , \"id\":<ID>,\t\"jsonrpc\":\"2.0\" } ", func(_ *mcp.Call, body string) *mcp.Result {
				return rulesWhole(200, body)
			})
			r.keeps(i, plainly, func(c *mcp.Call, body string) *mcp.Result { return rulesStream(c, rulesData(body)) })
		}
	})
	for what, give := range map[string]func(c *mcp.Call) *mcp.Result{
		"an error": func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32000) },
		"an array": func(c *mcp.Call) *mcp.Result { return rulesWhole(200, `[`+rulesAnswer(0, c, ``)+`]`) },
		"unclear": func(c *mcp.Call) *mcp.Result {
			return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"Result":1,"result":{}}`)
		},
		"status 201": func(c *mcp.Call) *mcp.Result {
			return rulesWhole(201, rulesAnswer(0, c, ``))
		},
		"status 500": func(c *mcp.Call) *mcp.Result { return rulesWhole(500, rulesAnswer(0, c, ``)) },
		"gzip":       rulesEncoded("gzip"),
		"too large":  rulesResult(`"x":"` + strings.Repeat("x", 64<<10) + `"`),
		"unchecked": func(c *mcp.Call) *mcp.Result {
			res := rulesWhole(200, rulesAnswer(0, c, ``))
			res.Checked = false
			return res
		},
		"a stream with more": func(c *mcp.Call) *mcp.Result {
			return rulesStream(c, rulesData(rulesProgress)+rulesData(rulesAnswer(0, c, ``)))
		},
	} {
		rulesTest(t, rulesNamed(), func(r *rulesRig) {
			r.gives(give)
			r.asks(what, rulesPlain("getBlock"))
			if again := r.asks(what, rulesPlain("getBlock")); again.status() != "fwd=miss" {
				t.Errorf("%s: %s", what, again.status())
			}
		})
	}
}

// keeps holds that an answer is kept and given to everybody under their own id, and else as it was.
func (r *rulesRig) keeps(i int, answer string, give func(c *mcp.Call, body string) *mcp.Result) {
	r.Helper()
	a := rulesPlain("getBlock").with(`[` + strconv.Itoa(i) + `,` + strconv.Itoa(r.server.asked()) + `]`)
	r.gives(func(c *mcp.Call) *mcp.Result { return give(c, rulesFill(answer, string(c.ID()), "")) })
	r.asks(answer, a.under(`"first"`))
	r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(500, "") })
	r.after(time.Second)
	for _, id := range rulesIDs {
		if hit, want := r.ask(a.under(id)), rulesFill(answer, id, ""); hit.body != want || hit.status() != "hit; ttl=8; detail=memory" {
			r.Fatalf("%s (%s), want %s", hit.body, hit.status(), want)
		}
	}
}

// TestPlainPrincipals holds that an answer is for who asked alone, whatever the server says, and that those without any
// credential are one.
func TestPlainPrincipals(t *testing.T) {
	rulesTest(t, rulesNamed(), func(r *rulesRig) {
		r.says(`"ttlMs":9000,"cacheScope":"public","resultType":"complete"`)
		a := rulesPlain("getBlock")
		for _, who := range []rulesAsk{
			a, a.by("b"), a.field("X-Tenant", "1"), a.field("X-Tenant", "2"), a.field("Cookie", "a"), a.field("Authorization"),
			a.in("s1"), a.in("s2"), a.speaking("2025-06-18"),
		} {
			first := r.asks("a principal of its own", who)
			if !r.flown.Shared {
				t.Error("a flight may not share it")
			}
			r.hits("the same", first.n, who.under("7").field("User-Agent", "x").field("Traceparent", "y"))
		}
		none := a.field("Authorization")
		r.hits("nobody in particular", r.ask(none).n, none.field("User-Agent", "other"))
	})
}

// TestPlainFlights holds which calls are one flight.
func TestPlainFlights(t *testing.T) {
	rulesTest(t, rulesNamed(), func(r *rulesRig) {
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32000) })
		seen := make(map[flight.Key]string)
		for _, a := range []rulesAsk{rulesPlain("getBlock"), rulesPlain("head"), rulesPlain("tools/list")} {
			for _, b := range []rulesAsk{a, a.by("b"), a.with(`[]`), a.with(`{}`), a.with(`[1]`), a.field("X-Y", "z"), a.in("s")} {
				key := r.flight(b.bytes(), b)
				if other, twice := seen[key]; twice || key == (flight.Key{}) || !r.flown.Shared {
					t.Errorf("%s and %s are one, or share nothing", b.bytes(), other)
				}
				seen[key] = b.bytes()
				if r.flight(b.bytes(), b.under(`"other"`).field("User-Agent", "x")) != key {
					t.Errorf("%s is two", b.bytes())
				}
			}
		}
	})
}
