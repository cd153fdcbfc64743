package cache_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// standsIn makes a request while the server fails, and reports whether a kept answer stands in for it.
func (r *rulesRig) standsIn(what string, n int, a rulesAsk, want bool) {
	r.Helper()
	r.server.mu.Lock()
	before := r.server.script
	r.server.mu.Unlock()
	r.fails()
	p := r.ask(a)
	r.script(before)
	stands := p.code == 200 && strings.Contains(p.status(), "detail=stale-error")
	if stands != want || stands && (p.n != n || p.ttl != "" && p.ttl != "0") || !stands && p.code != 503 {
		r.Errorf("%s: got %d, number %d of %d, ttlMs %s, %s; want it to stand in: %v", what, p.code, p.n, n, p.ttl, p.status(), want)
	}
}

// TestNoStreamStands: a legacy list is not fresh while no stream stands on which a change would come, but may stand in for
// a server that fails; when one stands again it is old, and when one of two has ended as well.
func TestNoStreamStands(t *testing.T) {
	for what, session := range map[string]string{"in a session": "s", "without sessions": ""} {
		rulesTest(t, cache.UpstreamOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
			a := rulesLegacy("tools/list").in(session)
			r.initialize(session, "{}", rulesTells)
			stream := r.listen(session, "a")
			kept := r.asks(what, a)
			r.hits(what, kept.n, a)
			stream.end()
			r.standsIn(what+", no stream", kept.n, a, true)
			r.after(9 * time.Second)
			r.standsIn(what+", no stream for a while", kept.n, a, true)
			second := r.listen(session, "a")
			r.standsIn(what+", a stream again", 0, a, false)
			kept = r.asks(what+", a stream again", a)
			r.hits(what+", a stream again", kept.n, a)

			third := r.listen(session, "a")
			r.hits(what+", two streams", kept.n, a)
			third.end()
			r.standsIn(what+", one of two has ended", 0, a, false)
			r.asks(what+", one of two has ended", a)
			second.leave()
			r.asks(what+", none is left", a)
		})
	}
}

// TestNoStreamNoFreshness: without a stream the server is asked, and what it says is not kept.
func TestNoStreamNoFreshness(t *testing.T) {
	rulesTest(t, cache.UpstreamOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
		a := rulesLegacy("tools/list").in("s")
		r.initialize("s", "{}", rulesTells)
		stream := r.listen("s", "a")
		kept := r.asks("kept", a)
		stream.end()
		r.asks("no stream", a)
		r.asks("no stream", a)
		r.standsIn("no stream", kept.n, a, true) // the one that was kept: those of after were not
		page := a.with(`"cursor":"c"`)
		r.asks("a page", page)
		r.asks("a page", page)
	})
}

// TestNoStreamStandsInForAWhile: an answer that may stand in does so no longer than it could have with a stream.
func TestNoStreamStandsInForAWhile(t *testing.T) {
	const life = 11 * time.Minute // a minute, and ten times that
	for _, at := range []struct {
		after time.Duration
		want  bool
	}{{life - 4*time.Second, true}, {life, false}} { // up to 3 s are taken off by chance
		rulesTest(t, cache.UpstreamOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
			a := rulesLegacy("tools/list").in("s")
			r.initialize("s", "{}", rulesTells)
			stream := r.listen("s", "a")
			kept := r.asks("kept", a)
			stream.end()
			r.after(at.after)
			r.standsIn("after "+at.after.String(), kept.n, a, at.want)
		})
	}
}

// TestNoStreamAfterANotification: what has changed stands in for nothing, stream or none.
func TestNoStreamAfterANotification(t *testing.T) {
	rulesTest(t, cache.UpstreamOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
		a := rulesLegacy("tools/list").in("s")
		r.initialize("s", "{}", rulesTells)
		stream := r.listen("s", "a")
		r.asks("kept", a)
		stream.say(mendedChanged)
		stream.end()
		r.standsIn("after a change", 0, a, false)
	})
}

// TestOwnStreamBreaks is the same of the daemon's own stream: while it is away its answers may stand in, when it stands
// again they are old.
func TestOwnStreamBreaks(t *testing.T) {
	rulesTest(t, cache.UpstreamOptions{Listen: true, StaleIfError: time.Hour}, func(r *rulesRig) {
		var ear *rulesEar
		a := rulesLegacy("tools/list")
		r.earful(&ear, "")
		r.initialize("", "{}", rulesTells)
		r.earful(&ear, "")
		r.ask(a)
		kept := r.asks("the stream stands", a)
		r.hits("the stream stands", kept.n, a)
		close(ear.over)
		synctest.Wait()
		r.standsIn("the stream has ended", kept.n, a, true)
		r.after(5 * time.Second) // it stands again
		r.standsIn("it stands again", 0, a, false)
		kept = r.asks("it stands again", a)
		r.hits("it stands again", kept.n, a)
	})
}

// listening is how many streams of the daemon's own stand.
func (r *rulesRig) listening() int {
	return r.store.Stats(context.Background(), false).Upstreams[0].Listening
}

// TestAgentsStreamIsTheOne: a legacy server says each thing on one stream only, so that the daemon has none of its own
// while an agent of the same credential has one; and what was kept because of its own is old.
func TestAgentsStreamIsTheOne(t *testing.T) {
	rulesTest(t, cache.UpstreamOptions{Listen: true, StaleIfError: time.Hour}, func(r *rulesRig) {
		var ear *rulesEar
		a := rulesLegacy("tools/list")
		r.earful(&ear, "")
		r.initialize("", "{}", rulesTells)
		r.earful(&ear, "")
		r.ask(a)
		kept := r.asks("the daemon's own stands", a)
		r.hits("the daemon's own stands", kept.n, a)
		own := ear
		stream := r.listen("", "a")
		select {
		case <-own.left:
		default:
			t.Error("the daemon's own stream stands beside the agent's")
		}
		if n := r.listening(); n != 0 {
			t.Errorf("the daemon listens on %d streams", n)
		}
		kept = r.asks("the agent's stands", a)
		r.hits("the agent's stands", kept.n, a)
		for range 3 {
			r.after(time.Minute)
			r.asks("the agent's stands", a)
		}
		if ear != own {
			t.Error("the daemon opened one while the agent's stood")
		}
		other := r.listen("", "b") // another credential's is no reason
		other.end()
		stream.end()
		r.ask(a)
		if r.after(time.Second); ear == own || r.listening() != 1 {
			t.Error("the daemon opens none when the agent's has ended")
		}
	})
}

// TestAgentsStreamFindsRoom: the daemon's own stream is closed by the time the server is asked for the agent's, which it
// could refuse as a second one; and it comes back when the server wants none of the agent's.
func TestAgentsStreamFindsRoom(t *testing.T) {
	rulesTest(t, cache.UpstreamOptions{Listen: true}, func(r *rulesRig) {
		var ear *rulesEar
		a := rulesLegacy("tools/list")
		r.earful(&ear, "")
		r.initialize("", "{}", rulesTells)
		r.earful(&ear, "")
		r.ask(a)
		own, room := ear, false
		r.gives(func(c *mcp.Call) *mcp.Result {
			select {
			case <-own.left:
				room = true
			default:
			}
			return rulesWhole(409, "")
		})
		if p := r.ask(rulesAsk{era: mcp.EraLegacy}.on(mcp.LaneStream)); p.code != 409 || !room {
			t.Errorf("the server was asked for a second stream: %v, %d", !room, p.code)
		}
		r.earful(&ear, "")
		r.ask(a)
		if r.after(time.Second); ear == own || r.listening() != 1 {
			t.Error("the daemon listens no more")
		}
	})
}

// TestOthersStreamsAreTheirs: an agent's stream within a session, or a modern listen, ends none of the daemon's own.
func TestOthersStreamsAreTheirs(t *testing.T) {
	rulesTest(t, cache.UpstreamOptions{Listen: true}, func(r *rulesRig) {
		var ear *rulesEar
		a := rulesLegacy("tools/list")
		r.earful(&ear, "")
		r.initialize("", "{}", rulesTells)
		r.earful(&ear, "")
		r.ask(a)
		kept := r.asks("the daemon's own stands", a)
		for _, stream := range []*rulesLive{
			r.listen("s", "a"), r.listen("", "b"), r.open(rulesModern("subscriptions/listen").on(mcp.LaneListen)),
		} {
			if n := r.listening(); n != 1 {
				t.Errorf("%d streams of the daemon's own", n)
			}
			stream.end()
		}
		r.hits("the daemon's own stands", kept.n, a)
	})
}

// TestAgentsStreamOpensMeanwhile: a list is answered while an agent's GET is on its way, so that the daemon opens a stream
// of its own. When the agent's stands the other one closes.
func TestAgentsStreamOpensMeanwhile(t *testing.T) {
	rulesTest(t, cache.UpstreamOptions{Listen: true, StaleIfError: time.Hour}, func(r *rulesRig) {
		var ear *rulesEar
		a := rulesLegacy("tools/list")
		r.earful(&ear, "")
		r.initialize("", "{}", rulesTells)
		r.earful(&ear, "")
		r.server.mu.Lock()
		earful := r.server.script
		r.server.mu.Unlock()
		gate := make(chan struct{})
		agents := &rulesLive{rig: r, feed: make(chan mcp.Event), over: make(chan struct{}), got: make(chan string, 100), done: make(chan struct{})}
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			if c.Lane == mcp.LaneStream && c.Header.Get("X-Request-Id") == "agent" {
				<-gate
				return &mcp.Result{Status: 200, Header: map[string][]string{}, Events: agents}, nil
			}
			return earful(n, c)
		})
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		agents.stop = stop
		get := rulesAsk{era: mcp.EraLegacy}.on(mcp.LaneStream).field("X-Request-Id", "agent")
		go func() {
			res, err := r.door.Call(ctx, get.call(t))
			if err != nil {
				t.Error(err)
				close(agents.done)
				return
			}
			agents.read(ctx, res)
		}()
		synctest.Wait()
		r.ask(a)
		synctest.Wait()
		close(gate)
		synctest.Wait()
		if n := r.listening(); n != 0 {
			t.Errorf("the daemon listens on %d streams beside the agent's", n)
		}
		agents.end()
	})
}
