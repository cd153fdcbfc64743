package cache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// TestScopeOfOddActs holds what does not pass for one of the few things that leave a session's lists as they are.
func TestScopeOfOddActs(t *testing.T) {
	const ping, elicits = `{"jsonrpc":"2.0","id":7,"method":"ping"}`, `{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}`
	answer := rulesLegacy("").on(mcp.LaneResponse).saying(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	for what, tt := range map[string]struct {
		says []string // the server, before
		act  rulesAsk
		here bool
	}{
		"a ping":                           {[]string{ping}, answer, true},
		"a ping after another request":     {[]string{elicits, ping}, answer, true},
		"an id given again":                {[]string{ping, elicits}, answer, false},
		"an id given again in two ways":    {[]string{ping, `{"jsonrpc":"2.0","id":7,"method":"ping","Method":"elicitation/create"}`}, answer, false},
		"an id given again, of two kinds":  {[]string{ping, `{"jsonrpc":"2.0","id":7,"method":"x","params":{}}`}, answer, false},
		"a request that reads in two ways": {[]string{`{"jsonrpc":"2.0","id":7,"method":"ping","Method":"elicitation/create"}`}, answer, false},
		"an answer that reads in two ways": {[]string{ping}, answer.saying(`{"jsonrpc":"2.0","id":7,"result":{},"Id":8}`), false},
		"a request in an array":            {[]string{`[{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}]`}, answer, false},
		"an id given again in an array":    {[]string{ping, `[{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}]`}, answer, false},
		"a tool in newer words":            {nil, rulesTool("a"), false},
	} {
		t.Run(what, func(t *testing.T) {
			scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
				r.begins("1", "2", "3", "4")
				r.want("first", false, "1", "2")
				for _, says := range tt.says {
					r.stream(says, rulesLegacy("ping").in("3"))
				}
				r.ask(tt.act.in("3"))
				r.want("the one that acted", tt.here, "3")
				r.want("others", true, "4")
			})
		})
	}
}

// TestScopeOfBeginningAgain: an initialize within a session begins no other one.
func TestScopeOfBeginningAgain(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3")
		r.want("first", false, "1", "2")
		r.ask(rulesLegacy("tools/call").with(`"name":"a"`).in("3"))
		r.beginsAs(rulesLegacy("initialize").in("3"), "3", `"name":"agent"`, `{"tools":{}}`)
		r.want("it has acted", false, "3")
		r.begins("3") // the server gave the id out again
		r.want("another one", true, "3")
	})
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2")
		r.want("first", false, "1")
		r.beginsAs(rulesLegacy("initialize").in("1"), "1", `"name":"agent"`, `{"tools":{}}`)
		r.want("of one session", false, "1", "2")
	})
}

// TestScopeOfDifferencesElsewhere: what is not shared any more after a difference is not given to those who waited for it,
// fresh or expired.
func TestScopeOfDifferencesElsewhere(t *testing.T) {
	scopeTest(t, cache.StageOptions{StaleIfError: time.Hour, StaleAfter: time.Minute}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4")
		r.want("first", false, "1", "2")
		r.after(time.Minute)
		leads := make(chan struct{})
		r.gives(func(c *mcp.Call) *mcp.Result {
			if c.Header.Get("Mcp-Session-Id") != "3" {
				return rulesWhole(503, "down")
			}
			<-leads
			return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":["another"]}}`)
		})
		got := make(chan *mcp.Result, 2)
		for _, s := range []string{"3", "4"} {
			go func() {
				res, err := r.caller.Call(context.Background(), rulesLegacy("tools/list").in(s).call(r))
				if err != nil {
					t.Error(err)
				}
				got <- res
			}()
			synctest.Wait()
		}
		close(leads)
		for range 2 {
			if p := r.read(<-got); p.code == 200 && p.body != `{"jsonrpc":"2.0","id":1,"result":{"tools":["another"]}}` {
				t.Errorf("after a difference somebody was given %s (%s)", p.body, p.status())
			}
		}
	})
}

// TestScopeOfPages: later pages are shared from the third session on as the first one is, and only while that is.
func TestScopeOfPages(t *testing.T) {
	page := rulesLegacy("tools/list").with(`"cursor":"2"`)
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4", "5")
		for _, s := range []string{"1", "2"} {
			r.want("first", false, s)
			r.wantOf("first", false, page.in(s))
		}
		r.want("then", true, "3")
		r.wantOf("then", true, page.in("3"))

		r.after(time.Minute)
		r.want("a minute later", false, "4")
		r.wantOf("a minute later", false, page.in("4"))
		r.wantOf("a minute later", true, page.in("3"))
	})
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4", "5")
		late := make(chan struct{})
		r.gives(func(c *mcp.Call) *mcp.Result {
			<-late
			return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":["another"]}}`)
		})
		over := make(chan *mcp.Result, 1)
		go func() {
			res, err := r.caller.Call(context.Background(), rulesLegacy("tools/list").in("4").call(r))
			if err != nil {
				t.Error(err)
			}
			over <- res
		}()
		synctest.Wait()
		r.serves()
		for _, s := range []string{"1", "2", "3"} {
			r.ask(rulesLegacy("tools/list").in(s))
			r.ask(page.in(s))
		}
		close(late)
		if p := r.read(<-over); p.code != 200 {
			t.Error(p)
		}
		r.lists["4"] = "another"
		r.wantOf("of a list that differs", false, page.in("4"))
	})
}

// TestScopeWithoutSessionsEnds: where there are no sessions another initialize result is another view, too.
func TestScopeWithoutSessionsEnds(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("")
		r.want("first", false, "", "")
		r.begins("")
		r.want("the same", true, "")
		r.beginsAs(rulesLegacy("initialize"), "", `"name":"agent"`, `{"tools":{},"logging":{}}`)
		r.want("another server", false, "", "")
		r.want("another server", true, "")
	})
}

// TestScopeOfFailures: a session that has to ask again by itself since another one's call failed shares with others.
func TestScopeOfFailures(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		r.begins("1", "2", "3", "4")
		r.want("first", false, "1", "2")
		r.after(time.Minute)
		ended := make(chan struct{})
		r.script(func(_ int, c *mcp.Call) (*mcp.Result, error) {
			if c.Header.Get("Mcp-Session-Id") == "3" && c.Lane == mcp.LaneRequest {
				<-ended
				return nil, &mcp.Failure{Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}
			}
			return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{"tools":[""]}}`), nil
		})
		failed := make(chan error, 2)
		for _, s := range []string{"3", "4"} {
			go func() {
				res, err := r.caller.Call(context.Background(), rulesLegacy("tools/list").in(s).call(r))
				if err == nil {
					err = res.Close()
				}
				failed <- err
			}()
			synctest.Wait()
		}
		r.ask(rulesLegacy("").on(mcp.LaneEnd).in("3")) // its lists' followers go by themselves
		if err := <-failed; err != nil {
			t.Error(err)
		}
		r.serves()
		r.want("what the follower brought", true, "1", "2")
		close(ended)
		if err := <-failed; !errors.As(err, new(*mcp.Failure)) {
			t.Error(err)
		}
	})
}

// To append to internal/cache/scope_odd_test.go (both passed; the first notices the mutations "ended views stay learned" and
// "after the end two equal answers are enough", the second was not held against its mutation any more).

// TestScopeOfOtherViews: what ends sharing ends it for all lists of the upstream, which are learned anew after that.
func TestScopeOfOtherViews(t *testing.T) {
	scopeTest(t, cache.StageOptions{}, func(r *scopeRig) {
		prompts := rulesLegacy("prompts/list")
		r.begins("1", "2", "3", "4", "5")
		r.wantOf("first", false, prompts.in("1"))
		r.wantOf("first", false, prompts.in("2"))
		r.wantOf("first", true, prompts.in("3"))
		r.want("first", false, "3")
		for i, s := range []string{"4", "3", "4"} {
			r.lists[s] = string(rune('a' + i))
			r.want("another", false, s)
		}
		delete(r.lists, "3")
		delete(r.lists, "4")
		r.wantOf("it has ended", false, prompts.in("3"))
		r.after(24 * time.Hour)
		for _, s := range []string{"1", "2", "3"} {
			r.wantOf("a day later", false, prompts.in(s))
		}
		r.wantOf("a day later", true, prompts.in("4"))
	})
}

// TestScopeOfSessionsReceivesAll: where sessions share nothing a change concerns all of them from the beginning on.
func TestScopeOfSessionsReceivesAll(t *testing.T) {
	scopeTest(t, cache.StageOptions{Scope: cache.ScopeSession}, func(r *scopeRig) {
		for _, s := range []string{"1", "2"} {
			r.initialize(s, "{}", rulesTells)
			defer r.listen(s, "a").leave()
			r.want("first", false, s)
			r.want("kept", true, s)
		}
		r.stream(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, rulesLegacy("ping").in("1"))
		r.want("after a change", false, "1", "2")
	})
}
