package cache_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// servedStale makes a request while the server fails, and wants a kept answer to be served instead, or none to be.
func (r *rulesRig) servedStale(what string, n int, a rulesAsk, want bool) {
	r.Helper()
	r.server.mu.Lock()
	before := r.server.script
	r.server.mu.Unlock()
	r.fails()
	p := r.ask(a)
	r.script(before)
	stands := p.code == 200 && strings.Contains(p.status(), "detail=stale-error")
	if stands != want || stands && (p.n != n || p.ttl != "" && p.ttl != "0") || !stands && p.code != 503 {
		r.Errorf("%s: got %d, number %d of %d, ttlMs %s, %s; want a kept answer: %v", what, p.code, p.n, n, p.ttl, p.status(), want)
	}
}

// TestNoStreamIsOpen: a legacy list is not fresh while no stream stands on which a change would come, but may be served where
// the server fails; when one stands again it is stale, and when one of two has ended as well.
func TestNoStreamIsOpen(t *testing.T) {
	for what, sessionID := range map[string]string{"in a session": "s", "without sessions": ""} {
		rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
			a := rulesLegacy("tools/list").in(sessionID)
			r.initialize(sessionID, "{}", rulesTells)
			stream := r.listen(sessionID, "a")
			kept := r.asks(what, a)
			r.hits(what, kept.n, a)
			stream.end()
			r.servedStale(what+", no stream", kept.n, a, true)
			r.after(9 * time.Second)
			r.servedStale(what+", no stream for a while", kept.n, a, true)
			second := r.listen(sessionID, "a")
			r.servedStale(what+", a stream again", 0, a, false)
			kept = r.asks(what+", a stream again", a)
			r.hits(what+", a stream again", kept.n, a)

			third := r.listen(sessionID, "a")
			r.hits(what+", two streams", kept.n, a)
			third.end()
			r.servedStale(what+", one of two has ended", 0, a, false)
			r.asks(what+", one of two has ended", a)
			second.leave()
			r.asks(what+", none is left", a)
		})
	}
}

// TestNoStreamNoFreshness: without a stream the server is asked, and what it says is not kept.
func TestNoStreamNoFreshness(t *testing.T) {
	rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
		a := rulesLegacy("tools/list").in("s")
		r.initialize("s", "{}", rulesTells)
		stream := r.listen("s", "a")
		kept := r.asks("kept", a)
		stream.end()
		r.asks("no stream", a)
		r.asks("no stream", a)
		r.servedStale("no stream", kept.n, a, true) // the one that was kept: those of after were not
		page := a.with(`"cursor":"c"`)
		r.asks("a page", page)
		r.asks("a page", page)
	})
}

// TestNoStreamServesStaleForAWhile: an answer that may stand in does so no longer than it could have with a stream.
func TestNoStreamServesStaleForAWhile(t *testing.T) {
	const life = 11 * time.Minute // a minute, and ten times that
	for _, at := range []struct {
		after time.Duration
		want  bool
	}{{life - 4*time.Second, true}, {life, false}} { // up to 3 s are taken off by chance
		rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
			a := rulesLegacy("tools/list").in("s")
			r.initialize("s", "{}", rulesTells)
			stream := r.listen("s", "a")
			kept := r.asks("kept", a)
			stream.end()
			r.after(at.after)
			r.servedStale("after "+at.after.String(), kept.n, a, at.want)
		})
	}
}

// TestNoStreamAfterANotification: what has changed is not served where the server fails, stream or none.
func TestNoStreamAfterANotification(t *testing.T) {
	rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
		a := rulesLegacy("tools/list").in("s")
		r.initialize("s", "{}", rulesTells)
		stream := r.listen("s", "a")
		r.asks("kept", a)
		stream.say(toolsChanged)
		stream.end()
		r.servedStale("after a change", 0, a, false)
	})
}

// TestAgentsStreamFindsItsPlace: a legacy server without sessions that allows one GET stream gives it to the agent, whatever
// the agent asked before: the daemon opens none.
func TestAgentsStreamFindsItsPlace(t *testing.T) {
	rulesTest(t, cache.StageOptions{Listen: true}, func(r *rulesRig) {
		r.initialize("", "{}", rulesTells)
		gets := 0
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			switch {
			case c.Lane != mcp.LaneStream:
				return rulesWhole(200, rulesAnswer(n, c, "")), nil
			case gets > 0:
				return rulesWhole(409, ""), nil
			}
			gets++
			return rulesWhole(200, ""), nil
		})
		for _, method := range []string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"} {
			r.ask(rulesLegacy(method))
			r.after(time.Minute)
		}
		if p := r.ask(rulesAsk{era: mcp.EraLegacy}.on(mcp.LaneStream)); p.code != 200 {
			t.Errorf("the agent's GET got %d", p.code)
		}
		if n := r.store.Stats(context.Background(), false).Upstreams[0].Listening; n != 0 {
			t.Errorf("the daemon listens on %d streams", n)
		}
	})
}
