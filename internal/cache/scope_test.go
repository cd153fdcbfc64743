package cache_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// scopeRig is a legacy server whose lists depend on the session as its test says.
type scopeRig struct {
	*rulesRig
	lists map[string]string // by session; others get ""
}

func scopeTest(t *testing.T, o cache.StageOptions, f func(r *scopeRig)) {
	t.Helper()
	rulesTest(t, o, func(rules *rulesRig) {
		r := &scopeRig{rules, make(map[string]string)}
		r.serves()
		f(r)
	})
}

// serves makes the server answer every request with the session's list.
func (r *scopeRig) serves() {
	r.gives(func(c *mcp.Call) *mcp.Result {
		return rulesWhole(200, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[%q]}}`, c.ID(), r.lists[c.Header.Get("Mcp-Session-Id")]))
	})
}

// begins opens sessions of one kind of client.
func (r *scopeRig) begins(sessions ...string) {
	r.Helper()
	for _, s := range sessions {
		r.beginsAs(rulesLegacy("initialize"), s, `"name":"agent"`, `{"tools":{}}`)
	}
}

func (r *scopeRig) beginsAs(a rulesAsk, sessionID, client, server string) {
	r.Helper()
	r.initializeAs(a.with(`"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{`+client+`}`), sessionID,
		`"protocolVersion":"2025-06-18","capabilities":`+server+`,"serverInfo":{"name":"s"}`)
}

// want makes a tools/list in each of the sessions, and fails where it was answered here and should not be, or the reverse, or
// with another list than the server would give.
func (r *scopeRig) want(what string, here bool, sessions ...string) {
	r.Helper()
	for _, s := range sessions {
		a := rulesLegacy("tools/list")
		if s != "" {
			a = a.in(s)
		}
		r.wantOf(what, here, a)
	}
}

func (r *scopeRig) wantOf(what string, here bool, a rulesAsk) {
	r.Helper()
	before := r.server.asked()
	p := r.ask(a)
	if hit := r.server.asked() == before; hit != here {
		r.Errorf("%s, %s: answered here is %v, want %v (%s)", what, a.sessionID, hit, here, p.status())
	}
	if want := fmt.Sprintf(`{"tools":[%q]}`, r.lists[a.sessionID]); !strings.Contains(p.body, want) {
		r.Errorf("%s, %s: got %s, want %s", what, a.sessionID, p.body, want)
	}
}

// TestScope holds what is shared between sessions by default: a list, from the third session on, for a minute.
func TestScope(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4")
		r.want("first", false, "1", "2")
		r.want("later", true, "3", "4", "1")
		r.after(56 * time.Second)
		r.want("within a minute", true, "2")
		r.after(4 * time.Second)
		r.want("after a minute", false, "3")
		r.want("after a minute", true, "1", "2", "4")
		report := r.store.Stats(r.Context(), true).Upstreams[0].Scope
		if report == nil || *report != (cache.ScopeReport{Views: 1, Learned: 1, Hits: 7}) {
			t.Errorf("the report is %+v", report)
		}
	})
}

// TestScopeOfOneSession: the same session twice proves nothing.
func TestScopeOfOneSession(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2")
		r.want("alone", false, "1", "1", "1")
		r.begins("1") // the id is that of another session now
		r.want("another", false, "1")
		r.want("two", true, "2", "1")
	})
}

// TestScopeOfRemembered: an answer for which no server was asked, or one of before the server was changed, is not kept, and proves nothing
// of what sessions get.
func TestScopeOfRemembered(t *testing.T) {
	for what, mark := range map[string]func(*mcp.Result){
		"remembered": func(res *mcp.Result) { res.Remembered = true },
		"outdated":   func(res *mcp.Result) { res.Outdated = true },
	} {
		scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
			r.begins("1", "2", "3", "4", "5", "6")
			r.gives(func(c *mcp.Call) *mcp.Result {
				res := rulesWhole(200, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[""]}}`, c.ID()))
				mark(res)
				return res
			})
			r.want(what, false, "1", "2", "3", "1")
			r.serves()
			r.want(what+", asked", false, "4", "5")
			r.want(what+", later", true, "6", "1")
		})
	}
}

// TestScopeSettings holds what the operator may say of it.
func TestScopeSettings(t *testing.T) {
	scopeTest(t, cache.StageOptions{Scope: cache.ScopeSession}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4")
		for range 3 {
			r.want("session", false, "1", "2", "3", "4")
		}
		if report := r.store.Stats(r.Context(), true).Upstreams[0].Scope; report != nil {
			t.Errorf("the report is %+v", report)
		}
	})
	scopeTest(t, cache.StageOptions{Scope: cache.ScopeCredential}, func(r *scopeRig) {
		r.begins("1", "2")
		r.want("credential", false, "1")
		r.want("credential", true, "2", "1")
		r.wantOf("credential", false, rulesLegacy("tools/list").in("1").by("other"))
	})
	ttl := cache.StageOptions{TTL: map[string]time.Duration{"tools/list": 5 * time.Second, "prompts/list": 0}}
	scopeTest(t, ttl, func(r *scopeRig) {
		r.begins("1", "2", "3")
		r.want("a ttl", false, "1")
		r.want("a ttl", true, "1") // by the operator's word, for itself
		r.want("a ttl", false, "2")
		r.want("a ttl", true, "3")
		r.after(5 * time.Second)
		r.want("a ttl", false, "3")
		for range 3 {
			for _, s := range []string{"1", "2", "3"} {
				r.wantOf("never", false, rulesLegacy("prompts/list").in(s))
			}
		}
	})
}

// TestScopeIsOfOneKind holds what sessions have to have in common.
func TestScopeIsOfOneKind(t *testing.T) {
	const agent, server = `"name":"agent"`, `{"tools":{}}`
	first, list := rulesLegacy("initialize"), rulesLegacy("tools/list")
	for what, tt := range map[string]struct {
		begin rulesAsk
		agent string
		says  string
		list  rulesAsk
		here  bool
	}{
		"the same":                     {first, agent, server, list, true},
		"another version of a client":  {first, agent + `,"version":"2"`, server, list, true},
		"another client":               {first, `"name":"other"`, server, list, false},
		"no name":                      {first, ``, server, list, false},
		"another server":               {first, agent, `{"tools":{},"logging":{}}`, list, false},
		"another credential":           {first.by("b"), agent, server, list.by("b"), false},
		"another credential's session": {first, agent, server, list.by("b"), false},
		"another method":               {first, agent, server, rulesLegacy("prompts/list"), false},
		"another page":                 {first, agent, server, list.with(`"cursor":"x"`), false},
		"other params":                 {first, agent, server, list.with(`"x":1`), false},
		"a read":                       {first, agent, server, rulesLegacy("resources/read").with(`"uri":"file:///a"`), false},
		"a prompt":                     {first, agent, server, rulesLegacy("prompts/get").with(`"name":"a"`), false},
		"a call":                       {first, agent, server, rulesLegacy("tools/call").with(`"name":"a"`), false},
	} {
		t.Run(what, func(t *testing.T) {
			scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
				r.begins("1", "2")
				r.want("first", false, "1", "2")
				r.beginsAs(tt.begin, "3", tt.agent, tt.says)
				r.wantOf(what, tt.here, tt.list.in("3"))
			})
		})
	}
}

// TestScopeOfImpersonal: sessions of several credentials share lists where the server is told of none, but nothing else, and not
// those of a session that somebody else began.
func TestScopeOfImpersonal(t *testing.T) {
	first, list := rulesLegacy("initialize"), rulesLegacy("tools/list")
	begins := func(r *scopeRig, session, credential string) {
		r.beginsAs(first.by(credential), session, `"name":"agent"`, `{"tools":{}}`)
	}
	scopeTest(t, cache.StageOptions{Impersonal: true}, func(r *scopeRig) {
		begins(r, "1", "a")
		begins(r, "2", "b")
		begins(r, "3", "c")
		r.wantOf("a", false, list.in("1").by("a"))
		r.wantOf("b", false, list.in("2").by("b"))
		r.wantOf("c", true, list.in("3").by("c"))
		r.wantOf("another's session", false, list.in("3").by("a"))
		for range 2 {
			r.wantOf("a read", false, rulesLegacy("resources/read").with(`"uri":"file:///a"`).in("1").by("a"))
			r.wantOf("a read", false, rulesLegacy("resources/read").with(`"uri":"file:///a"`).in("2").by("b"))
		}
		r.lists["2"] = "other"
		r.after(time.Minute)
		r.wantOf("after a minute", false, list.in("1").by("a"))
		r.after(time.Minute)
		r.wantOf("another list", false, list.in("2").by("b"))
		r.wantOf("no more", false, list.in("3").by("c"))
	})
	scopeTest(t, cache.StageOptions{Impersonal: true, Scope: cache.ScopeSession}, func(r *scopeRig) {
		for i, credential := range []string{"a", "b", "c"} {
			session := fmt.Sprint(i)
			begins(r, session, credential)
			r.wantOf("session", false, list.in(session).by(credential))
		}
	})
}

// TestScopeOfActs holds which sessions take part: those in which nothing was done that may change what the server shows.
func TestScopeOfActs(t *testing.T) {
	note := func(method string) rulesAsk {
		return rulesLegacy("").on(mcp.LaneNotification).saying(`{"jsonrpc":"2.0","method":"` + method + `"}`)
	}
	answer := func(id string) rulesAsk {
		return rulesLegacy("").on(mcp.LaneResponse).saying(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
	}
	for what, tt := range map[string]struct {
		says string // the server, on a stream, before
		act  rulesAsk
		here bool
	}{
		"initialized":         {"", note("notifications/initialized"), true},
		"ping":                {"", rulesLegacy("ping"), true},
		"a list":              {"", rulesLegacy("prompts/list"), true},
		"a read":              {"", rulesLegacy("resources/read").with(`"uri":"a:b"`), true},
		"a prompt":            {"", rulesLegacy("prompts/get").with(`"name":"a"`), true},
		"a completion":        {"", rulesLegacy("completion/complete").with(`"ref":{}`), true},
		"a level":             {"", rulesLegacy("logging/setLevel").with(`"level":"debug"`), true},
		"an answer to a ping": {`{"jsonrpc":"2.0","id":7,"method":"ping"}`, answer("7"), true},
		"roots":               {`{"jsonrpc":"2.0","id":"r","method":"roots/list"}`, answer(`"r"`), true},
		"a tool":              {"", rulesLegacy("tools/call").with(`"name":"a"`), false},
		"a subscription":      {"", rulesLegacy("resources/subscribe").with(`"uri":"a:b"`), false},
		"roots have changed":  {"", note("notifications/roots/list_changed"), false},
		"a notification":      {"", note("notifications/whatever"), false},
		"an elicitation":      {`{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}`, answer("7"), false},
		"sampling":            {`{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}`, answer("7"), false},
		"an unasked answer":   {"", answer("7"), false},
		"another's id":        {`{"jsonrpc":"2.0","id":7,"method":"ping"}`, answer(`"7"`), false},
		"an array":            {"", rulesLegacy("").on(mcp.LaneOpaque).saying(`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`), false},
		"what nobody reads":   {"", rulesLegacy("").on(mcp.LaneOpaque).saying(`{`), false},
		"an unknown method":   {"", rulesLegacy("x/y"), false},
		"a task":              {"", rulesLegacy("tasks/get").with(`"taskId":"a"`), false},
		"method in two ways":  {"", rulesLegacy("ping").saying(`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"x"}`), false},
	} {
		t.Run(what, func(t *testing.T) {
			scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
				r.begins("1", "2", "3", "4")
				r.want("first", false, "1", "2")
				if tt.says != "" {
					r.stream(tt.says, rulesLegacy("ping").in("3"))
				}
				r.ask(tt.act.in("3"))
				r.want("the one that acted", tt.here, "3")
				r.lists["3"] = "its own"
				if !tt.here {
					r.want("the one that acted", false, "3", "3")
				}
				r.want("others", true, "4")
			})
		})
	}
}

// TestScopeOfDifferences holds what becomes of sessions that are given different lists.
func TestScopeOfDifferences(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		names := make([]string, 20)
		for i := range names {
			names[i] = fmt.Sprint(i)
		}
		r.begins(names...)
		r.want("the first", false, "0", "1")
		r.want("the first", true, "2")
		r.after(time.Minute)
		r.lists["3"] = "another"
		r.want("a difference", false, "3")
		r.want("against that", false, "4") // which is the second one
		r.want("three are needed", false, "5", "6")
		r.want("three are needed", true, "7", "8")
		r.lists["9"] = "another"
		r.after(time.Minute)
		r.want("the third one", false, "9")
		for range 3 {
			r.want("it has ended", false, "10", "11", "12")
		}
		if report := r.store.Stats(r.Context(), true).Upstreams[0].Scope; report.Differences != 3 || report.EndedUntil == "" || report.Learned != 0 {
			t.Errorf("the report is %+v", report)
		}
		r.after(24*time.Hour - time.Minute)
		r.want("hours later", false, "13", "14", "15", "16")
		r.after(time.Minute)
		r.want("a day later", false, "13", "14", "15")
		r.want("a day later", true, "16")
	})
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) { // a difference counts for a day
		r.begins("0", "1")
		r.lists["1"] = "another"
		r.want("the first", false, "0", "1")
		r.after(24*time.Hour - time.Second)
		r.want("another", false, "0")
		r.after(time.Second)
		r.want("another", false, "1")
		r.after(24*time.Hour - time.Second)
		r.want("another", false, "0")
		if report := r.store.Stats(r.Context(), true).Upstreams[0].Scope; report.Differences != 4 || report.EndedUntil != "" {
			t.Errorf("the report is %+v", report)
		}
	})
}

// TestScopeOfChanges holds what a list_changed ends: what all share, or at a session's beginning what that session has.
func TestScopeOfChanges(t *testing.T) {
	const changed = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3")
		r.want("first", false, "1", "2")
		r.want("first", true, "3")
		r.after(2 * time.Second)
		r.lists["1"], r.lists["2"], r.lists["3"], r.lists["4"] = "new", "new", "new", "new"
		r.stream(changed, rulesLegacy("ping").in("2"))
		r.want("after a change", false, "1", "2") // which nobody takes for a difference, nor for granted
		r.want("after a change", true, "3")

		r.begins("4", "5", "6", "7")
		r.lists["5"], r.lists["6"], r.lists["7"] = "late", "late", "late"
		for _, s := range []string{"5", "6", "7"} {
			r.stream(changed, rulesLegacy("ping").in(s))
		}
		r.want("of those that were told nothing", true, "4", "1")
		r.want("of those that were", false, "5", "6")
		r.want("of those that were", true, "7")
		r.want("of those that were told nothing", true, "4")
		if report := r.store.Stats(r.Context(), true).Upstreams[0].Scope; report.Differences != 0 {
			t.Errorf("the report is %+v", report)
		}
	})
}

// TestScopeEnds holds what else ends it.
func TestScopeEnds(t *testing.T) {
	for what, end := range map[string]func(r *scopeRig){
		"a refusal": func(r *scopeRig) {
			r.gives(func(c *mcp.Call) *mcp.Result { return &mcp.Result{Status: 401, Header: header.List{}} })
			r.ask(rulesLegacy("ping").in("3"))
			r.serves()
		},
		"a purge": func(r *scopeRig) {
			if _, _, err := r.store.Purge(r.Context(), "docs", ""); err != nil {
				r.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
				r.begins("1", "2", "3", "4")
				r.want("first", false, "1", "2")
				r.want("first", true, "3")
				end(r)
				r.want(what, false, "4")
			})
		})
	}
}

// TestScopeWithoutSessions: a server that mints none gives everybody of a credential one list, when it has done so twice.
func TestScopeWithoutSessions(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("")
		r.want("first", false, "", "")
		r.want("then", true, "", "")
		for what, act := range map[string]rulesAsk{
			"a call": rulesLegacy("tools/call").with(`"name":"a"`), "a subscription": rulesLegacy("resources/subscribe").with(`"uri":"a:b"`),
			"an array": rulesLegacy("").on(mcp.LaneOpaque).saying(`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`),
		} { // whose it was nobody can tell
			r.lists[""] = what
			r.gives(func(c *mcp.Call) *mcp.Result {
				r.serves()
				r.ask(rulesLegacy("tools/list")) // while it is under way
				return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{}}`)
			})
			r.ask(act)
			r.want("after "+what, false, "") // another list, the same as before the answer: nobody takes it for a difference
			r.want("after "+what, true, "")
			r.ask(act)
			r.want("after "+what+" that changed nothing", false, "")
			r.want("after "+what+" that changed nothing", true, "")
		}
		r.ask(rulesLegacy("ping"))
		r.ask(rulesLegacy("tools/call").with(`"name":"a"`).by("b"))
		r.want("after another's call", true, "")
		r.wantOf("another's", false, rulesLegacy("tools/list").by("b"))
		r.after(time.Minute)
		r.lists[""] = "new"
		r.want("a minute later", false, "", "", "")
		r.want("a minute later", true, "")
	})
}

// TestScopeOnTheWay: what a session does while its list is on the way makes the answer its own.
func TestScopeOnTheWay(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4")
		r.want("first", false, "1", "2")
		r.after(time.Minute)
		r.gives(func(c *mcp.Call) *mcp.Result {
			r.serves()
			r.ask(rulesLegacy("tools/call").with(`"name":"a"`).in("3"))
			return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":["its own"]}}`)
		})
		r.lists["3"] = "its own"
		r.want("its own", false, "3")
		if r.flown.Shared {
			t.Error("it was shared")
		}
		r.want("others", false, "4")
	})
}

// TestScopeToldOnTheWay: a session that is told at its beginning that the list has changed, while that is on its way to it, asks
// again; who was not told yet is given what it was given.
func TestScopeToldOnTheWay(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4")
		for _, s := range []string{"1", "2"} {
			r.gives(func(c *mcp.Call) *mcp.Result {
				r.serves()
				r.stream(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, rulesLegacy("ping").in(s))
				return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":[""]}}`)
			})
			r.want("on its way", false, s)
		}
		r.lists["1"], r.lists["2"], r.lists["4"] = "new", "new", "new"
		r.want("not told", true, "3")
		r.want("told", false, "1", "2")
		r.stream(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, rulesLegacy("ping").in("4"))
		r.want("told before it asks", true, "4")
	})
}

// TestScopeOfFlights: sessions that share a list share a flight for it, of which only a complete result is for all.
func TestScopeOfFlights(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4")
		one := rulesLegacy("tools/list")
		if r.flight("not yet", one.in("1")) != (flight.Key{}) || r.flight("not yet", one.in("2")) != (flight.Key{}) {
			t.Error("sessions share a flight before they may")
		}
		r.after(time.Minute)
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32603) })
		key := r.flight("an error", one.in("1"))
		if key == (flight.Key{}) || !r.flown.Scoped || r.flown.Shared {
			t.Errorf("%x, bound %v, an error is shared: %v", key, r.flown.Scoped, r.flown.Shared)
		}
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(503, "down") })
		if other := r.flight("a refusal", one.in("2")); other != key || r.flown.Shared {
			t.Errorf("%x, want %x; a refusal is shared: %v", other, key, r.flown.Shared)
		}
		r.serves()
		if r.flight("a result", one.in("2")); !r.flown.Shared {
			t.Error("a result is not shared")
		}
	})
}
