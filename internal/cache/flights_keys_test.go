package cache_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// flight makes a request that is not answered from memory, and returns under which key it went on.
func (r *rulesRig) flight(what string, a rulesAsk) flight.Key {
	r.Helper()
	before := r.server.asked()
	r.ask(a)
	if r.server.asked() == before {
		r.Fatalf("%s: %s was answered from memory", what, a.bytes())
	}
	return r.flown.Key
}

// TestFlightKeys holds which calls are one: the same request of the same principal, with nothing invalidated in between.
func TestFlightKeys(t *testing.T) {
	o := cache.StageOptions{
		TTL: map[string]time.Duration{"resources/read": 0}, Tools: map[string]time.Duration{"get_*": time.Second},
		CoalesceTools: []string{"*"}, FlushOnCall: true,
	}
	rulesTest(t, o, func(r *rulesRig) {
		r.says(`"isError":true`) // what is never kept
		r.initialize("s", "{}", rulesTells)
		r.initialize("", "{}", rulesTells)
		asks := []rulesAsk{
			rulesModern("prompts/get").with(`"name":"a"`), rulesModern("completion/complete").with(`"ref":{}`), rulesTool("get_a"), rulesTool("b"),
			rulesLegacy("tools/list"), rulesLegacy("prompts/get").with(`"name":"a"`), rulesLegacy("tools/call").with(`"name":"b"`),
		}
		for _, a := range asks[4:] { // what is bound to a session is one with nobody's
			if r.flight("in a session", a.in("s")) != (flight.Key{}) {
				t.Errorf("%s shares a flight in a session", a.bytes())
			}
		}
		for method, params := range rulesSix {
			asks = append(asks, rulesModern(method).with(params))
		}
		seen := make(map[flight.Key]string)
		for _, a := range asks {
			for _, b := range []rulesAsk{a, a.by("b"), a.with(rulesJoin(a.params, `"x":1`)), a.field("X-Y", "z")} {
				key := r.flight(b.bytes(), b)
				if other, twice := seen[key]; twice || key == (flight.Key{}) {
					t.Errorf("%s and %s are one", b.bytes(), other)
				}
				seen[key] = b.bytes()
				if again := r.flight(b.bytes(), b.under(`"other"`).field("User-Agent", "x")); again != key {
					t.Errorf("%s is two", b.bytes())
				}
			}
		}
	})
}

// TestFlightsAfterChanges holds that a call after a change joins none of before.
func TestFlightsAfterChanges(t *testing.T) {
	o := cache.StageOptions{TTL: map[string]time.Duration{"resources/read": 0, "tools/list": 0, "server/discover": 0}, FlushOnCall: true}
	rulesTest(t, o, func(r *rulesRig) {
		asks := []rulesAsk{rulesModern("tools/list"), rulesRead("file:///a"), rulesModern("server/discover"), rulesModern("tools/list").by("b")}
		keys := make([]flight.Key, len(asks))
		for i, a := range asks {
			keys[i] = r.flight("first", a)
		}
		for what, tt := range map[string]struct {
			change func()
			old    [4]bool
		}{
			"nothing": {func() { r.ask(rulesModern("ping")) }, [4]bool{}},
			"a notification": {
				func() { r.stream(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, rulesModern("ping")) },
				[4]bool{true, false, false, true},
			},
			"a uri": {
				func() {
					r.stream(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///a"}}`, rulesModern("ping"))
				},
				[4]bool{false, true, false, false},
			},
			"a tool": {func() { r.ask(rulesTool("x")) }, [4]bool{true, true, true, false}},
			"a refusal": {func() {
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(http.StatusForbidden, "") })
				r.ask(rulesModern("ping"))
				r.says("")
			}, [4]bool{true, true, true, false}},
		} {
			tt.change()
			for i, a := range asks {
				key := r.flight(what, a)
				if (key != keys[i]) != tt.old[i] {
					t.Errorf("after %s: %s has another key: %v, want %v", what, a.bytes(), key != keys[i], tt.old[i])
				}
				keys[i] = key
			}
		}
	})
}

// TestOpenFlights holds that principals share a flight once the request's last answer was everybody's, while it is, and only
// those whom the server has accepted.
func TestOpenFlights(t *testing.T) {
	rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
		a := rulesModern("tools/list")
		one := func(what string, want bool) {
			t.Helper()
			r.after(10 * time.Second) // what is kept is not fresh any more
			own := r.flight(what, a)
			r.after(10 * time.Second)
			theirs := r.flight(what, a.by("b"))
			if (own == theirs) != want {
				t.Errorf("%s: one flight: %v", what, own == theirs)
			}
		}
		r.says(`"ttlMs":0,"cacheScope":"public"`)
		one("public without a TTL", false)
		r.says(rulesPublic)
		r.ask(a)
		one("public", true)
		r.after(10 * time.Second)
		stranger := r.flight("one who is not known", a.by("c"))
		r.after(10 * time.Second)
		if r.flight("one who is", a) == stranger {
			t.Error("a stranger shares a flight")
		}
		r.after(10 * time.Second)
		if r.flight("the stranger is known now", a.by("c")) == stranger {
			t.Error("an accepted stranger flies alone")
		}
		r.says(`"ttlMs":9000`)
		r.after(10 * time.Second)
		r.ask(a)
		one("private again", false)
		r.says(rulesPublic)
		r.after(10 * time.Second)
		r.ask(a.by("b"))
		one("public again", true)
		r.after(11 * time.Minute)
		own := r.flight("not accepted lately", a)
		r.after(11 * time.Minute)
		if r.flight("not accepted lately", a.by("b")) == own {
			t.Error("those who were not accepted lately share a flight")
		}
	})
}

// TestShareable holds which answers everybody in a flight may have: in an open one only what is everybody's.
func TestShareable(t *testing.T) {
	for what, tt := range map[string]struct {
		give      func(c *mcp.Call) *mcp.Result
		own, open bool
	}{
		"public":            {rulesResult(`"cacheScope":"public"`), true, true},
		"private":           {rulesResult(`"cacheScope":"private"`), true, false},
		"input_required":    {rulesResult(`"resultType":"input_required"`), false, false},
		"an odd resultType": {rulesResult(`"resultType":1,"cacheScope":"public"`), false, false},
		"isError":           {rulesResult(`"isError":true,"cacheScope":"public"`), true, false},
		"ambiguous":         {rulesResult(`"cacheScope":"public","cacheScope":"public"`), true, false},
		"an error":          {func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -1) }, true, false},
		"a status":          {func(c *mcp.Call) *mcp.Result { return rulesError(c, 404, -1) }, true, false},
		"an encoded status": {func(c *mcp.Call) *mcp.Result { res := rulesEncoded("br")(c); res.Status = 500; return res }, false, false},
		"a refusal":         {func(c *mcp.Call) *mcp.Result { return rulesWhole(401, "") }, true, false},
		"encoded":           {rulesEncoded("gzip"), false, false},
		"a framed one":      {func(c *mcp.Call) *mcp.Result { return rulesStream(c, rulesData(rulesAnswer(1, c, rulesPublic))) }, true, true},
		"a framed error":    {func(c *mcp.Call) *mcp.Result { return rulesStream(c, rulesData(string(rulesError(c, 200, -1).Body))) }, true, false},
		"a talking stream": {func(c *mcp.Call) *mcp.Result {
			return rulesStream(c, rulesData(rulesProgress)+rulesData(rulesAnswer(1, c, rulesPublic)))
		}, false, false},
		"a stream's request": {func(c *mcp.Call) *mcp.Result {
			return rulesStream(c, rulesData(rulesRequest)+rulesData(rulesAnswer(1, c, "")))
		}, false, false},
	} {
		rulesTest(t, cache.StageOptions{CoalesceTools: []string{"*"}}, func(r *rulesRig) {
			for _, a := range []rulesAsk{rulesModern("tools/list"), rulesModern("prompts/get").with(`"name":"p"`), rulesTool("t")} {
				r.gives(tt.give)
				if r.ask(a); r.flown.Shared != tt.own {
					t.Errorf("%s, %s: shareable %v", what, a.method, r.flown.Shared)
				}
			}
			r.after(time.Second)
			r.says(rulesPublic)
			a := rulesModern("resources/list")
			r.ask(a)
			r.after(10 * time.Second)
			r.gives(tt.give)
			if r.ask(a); r.flown.Shared != tt.open {
				t.Errorf("%s, in an open flight: shareable %v", what, r.flown.Shared)
			}
		})
	}
}

// TestOwnStreams holds that the daemon's own streams count as agents' do.
func TestOwnStreams(t *testing.T) {
	const changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	rulesTest(t, cache.StageOptions{Listen: true}, func(r *rulesRig) { // a legacy server without session ids: none
		r.initialize("", "{}", rulesTells)
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			if c.Lane.Long() {
				t.Errorf("the daemon opens a %s of its own", c.Lane.Verb())
			}
			return rulesWhole(200, rulesAnswer(n, c, "")), nil
		})
		for range 3 {
			r.asks("nobody listens", rulesLegacy("tools/list"))
			r.after(time.Minute)
		}
	})
	rulesTest(t, cache.StageOptions{Listen: true}, func(r *rulesRig) { // a modern one
		var own *rulesOwnStream
		r.listened(&own, `"ttlMs":9000`)
		a := rulesModern("tools/list")
		kept := r.ask(a)
		r.hits("before", kept.n, a)
		own.feed <- mcp.Event{Data: []byte(changed)}
		synctest.Wait()
		r.asks("after a change", a)
	})
}

// listened answers requests with these members, and whoever listens with a stream.
func (r *rulesRig) listened(own **rulesOwnStream, members string) {
	discovered := `"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":` + rulesTells
	server := r.server
	r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
		switch {
		case c.Lane.Long():
			*own = &rulesOwnStream{feed: make(chan mcp.Event), over: make(chan struct{}), left: server.ctxOf(n).Done()}
			return &mcp.Result{Status: 200, Header: header.List{}, Events: *own}, nil
		case c.Method() == mcp.MethodServerDiscover:
			return rulesWhole(200, rulesAnswer(n, c, discovered)), nil
		}
		return rulesWhole(200, rulesAnswer(n, c, members)), nil
	})
}

// rulesOwnStream is a stream that the daemon itself has opened.
type rulesOwnStream struct {
	feed chan mcp.Event
	over chan struct{}
	left <-chan struct{}
}

func (e *rulesOwnStream) Next() (mcp.Event, error) {
	select {
	case ev := <-e.feed:
		return ev, nil
	case <-e.over:
	case <-e.left:
	}
	return mcp.Event{}, &mcp.Failure{Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Cause: context.Canceled}
}

func (e *rulesOwnStream) Close() error { return nil }
