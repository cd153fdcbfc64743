// Official clients keep working while official servers are killed and started again.

package session

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"fluentd-perf/e2e/harness"
)

// everyPair runs a test with each server and each client.
func everyPair(t *testing.T, run func(t *testing.T, cast restartableKind, connect func(*testing.T, string) client)) {
	for _, cast := range restartables {
		for name, connect := range clients {
			t.Run(cast.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				run(t, cast, connect)
			})
		}
	}
}

// fine fails the test if the client's user got an error.
func fine(t *testing.T, what string, o outcome) {
	t.Helper()
	if o.Error != nil {
		t.Errorf("%s: %v", what, o)
	}
}

// toldByDaemon fails the test unless the client's user got that error of the daemon's, whole.
func toldByDaemon(t *testing.T, what string, o outcome, code int, reason, sent string) {
	t.Helper()
	if o.code() != code || o.Error.Data == nil || o.Error.Data.Reason != reason || !harness.OneOf(o.Error.Data.Sent, sent) {
		t.Errorf("%s: got %v, want %d %s sent %s", what, o, code, reason, sent)
	}
}

func paramsOf(c harness.Call) map[string]any {
	return map[string]any{"name": c.Tool, "arguments": c.Arguments}
}

// TestRealServerRestarts: npm's server-everything and the Go SDK's server are killed and started again under clients that
// know nothing of it. Lists and reads go on, the first call is told, the next one works, what was subscribed to comes.
func TestRealServerRestarts(t *testing.T) {
	t.Parallel()
	everyPair(t, func(t *testing.T, cast restartableKind, connect func(*testing.T, string) client) {
		m := cast.start(t)
		d := m.runBefore("")
		c := connect(t, d.URL("/mcp/s"))
		fine(t, "the list", c.ask("tools/list", map[string]any{}))
		fine(t, "the level", c.ask("logging/setLevel", map[string]any{"level": "error"}))
		fine(t, "the subscription", c.ask("resources/subscribe", map[string]any{"uri": cast.watched}))
		fine(t, "the call", c.ask("tools/call", paramsOf(cast.harmless)))
		m.kill()
		m.restart()

		fine(t, "the list after the restart", c.ask("tools/list", map[string]any{}))
		fine(t, "another list", c.ask("prompts/list", map[string]any{}))
		fine(t, "a read", c.ask("resources/read", map[string]any{"uri": cast.read}))
		toldByDaemon(t, "the first call", c.ask("tools/call", paramsOf(cast.harmless)), 1410, "session_restarted", "no")
		fine(t, "the next call", c.ask("tools/call", paramsOf(cast.harmless)))
		if cast.touch != nil {
			fine(t, "touching", c.ask("tools/call", paramsOf(*cast.touch)))
		}
		c.expect("notifications/resources/updated")
		if n := initialized(c); n != 1 {
			t.Errorf("the client has begun %d sessions", n)
		}
		if n := heals(d, "healed"); n != 1 {
			t.Errorf("%d healings are counted, want 1", n)
		}
	})
}

// TestRealCallFirst: the first thing after the restart is a call. It is told, or sent at once with heal: all.
func TestRealCallFirst(t *testing.T) {
	t.Parallel()
	for _, heal := range []string{"reads", "all"} {
		t.Run(heal, func(t *testing.T) {
			t.Parallel()
			everyPair(t, func(t *testing.T, cast restartableKind, connect func(*testing.T, string) client) {
				m := cast.start(t)
				d := m.runBefore(heal)
				c := connect(t, d.URL("/mcp/s"))
				fine(t, "the call", c.ask("tools/call", paramsOf(cast.harmless)))
				m.kill()
				m.restart()
				first := c.ask("tools/call", paramsOf(cast.harmless))
				if heal == "reads" {
					toldByDaemon(t, "the first call", first, 1410, "session_restarted", "no")
				} else {
					fine(t, "the first call", first)
				}
				fine(t, "the next call", c.ask("tools/call", paramsOf(cast.harmless)))
				fine(t, "a list", c.ask("tools/list", map[string]any{}))
			})
		})
	}
}

// TestRealStreamAlone: nobody asks anything after the restart; the client's GET stream and its subscription are back by
// themselves.
func TestRealStreamAlone(t *testing.T) {
	t.Parallel()
	cast := restartables[1]
	for name, connect := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := cast.start(t)
			d := m.runBefore("")
			c := connect(t, d.URL("/mcp/s"))
			fine(t, "the subscription", c.ask("resources/subscribe", map[string]any{"uri": cast.watched}))
			c.expect("notifications/resources/updated")
			m.kill()
			m.restart()
			d.Eventually("healed", func() bool { return heals(d, "healed") == 1 })
			c.expect("notifications/resources/updated")
			fine(t, "a list", c.ask("tools/list", map[string]any{}))
			toldByDaemon(t, "the first call", c.ask("tools/call", paramsOf(cast.harmless)), 1410, "session_restarted", "no")
			fine(t, "the next call", c.ask("tools/call", paramsOf(cast.harmless)))
			gets := 0
			for _, exchange := range c.exchanges() {
				if strings.HasPrefix(exchange, "GET") {
					gets++
				}
			}
			if gets != 1 {
				t.Errorf("the client has opened %d streams, want the one that stayed: %q", gets, c.exchanges())
			}
		})
	}
}

// TestRealCallInFlight: a call is under way when the server dies. The client's user gets one error in time, which does not
// say that nothing was sent, and the session goes on.
func TestRealCallInFlight(t *testing.T) {
	t.Parallel()
	everyPair(t, func(t *testing.T, cast restartableKind, connect func(*testing.T, string) client) {
		m := cast.start(t)
		d := m.runBefore("")
		c := connect(t, d.URL("/mcp/s"))
		under, reason := cast.long, "session_lost"
		if under == nil {
			under, reason = cast.asksAgent, "broke_off"
		}
		var wg sync.WaitGroup
		var got outcome
		wg.Go(func() { got = c.ask("tools/call", paramsOf(*under)) })
		d.Eventually("under way", func() bool {
			for _, exchange := range c.exchanges() {
				if strings.HasPrefix(exchange, "POST tools/call -> 200") {
					return true
				}
			}
			return false
		})
		if cast.asksAgent != nil {
			c.expect("sampling/createMessage")
		}
		m.kill()
		m.restart()
		wg.Wait()
		toldByDaemon(t, "the call in flight", got, 1502, reason, "unknown yes")
		if cast.asksAgent != nil { // the user answers, after all
			for _, exchange := range c.answer() {
				if strings.HasPrefix(exchange, "POST response") && !strings.Contains(exchange, "202") {
					t.Errorf("the answer to the server of before: %s", exchange)
				}
			}
		}
		fine(t, "a list", c.ask("tools/list", map[string]any{}))
		toldByDaemon(t, "the first call", c.ask("tools/call", paramsOf(cast.harmless)), 1410, "session_restarted", "no")
		fine(t, "the next call", c.ask("tools/call", paramsOf(cast.harmless)))
	})
}

// TestRealLossPassedOn: with heal: off a client gets what it gets without the daemon.
func TestRealLossPassedOn(t *testing.T) {
	t.Parallel()
	everyPair(t, func(t *testing.T, cast restartableKind, connect func(*testing.T, string) client) {
		m := cast.start(t)
		d := m.runBefore("off")
		direct, through := connect(t, m.url()), connect(t, d.URL("/mcp/s"))
		m.kill()
		m.restart()
		for _, method := range []string{"prompts/list", "tools/list"} {
			want, got := direct.ask(method, map[string]any{}), through.ask(method, map[string]any{})
			if want.Error == nil || got.Error == nil {
				t.Fatalf("%s: got %v, directly %v: both must be errors", method, got, want)
			}
			if g, w := gist(got), gist(want); g != w {
				t.Errorf("%s: got %s, directly %s", method, g, w)
			}
		}
		if n := initialized(through); n != 1 {
			t.Errorf("the client has begun %d sessions", n)
		}
	})
}

// gist is an error without the session's id, which is another in each session, and without the request whose refusal Go's client heard first:
// that of its GET or of its POST.
func gist(o outcome) string {
	text := fmt.Sprintf("%s %d %s", o.Error.Name, o.code(), o.Error.Message)
	if before, after, found := strings.Cut(text, "(session ID: "); found {
		_, after, _ = strings.Cut(after, ")")
		text = before + after
	}
	return regexp.MustCompile(`standalone SSE stream: |sending "[a-z/]*": `).ReplaceAllString(text, "")
}

// TestRealDaemonRestartedBetween: the daemon is stopped and started in between. A session that the server still has goes
// on over that; of one that it has lost the daemon knows nothing, and the server's own words pass.
func TestRealDaemonRestartedBetween(t *testing.T) {
	t.Parallel()
	everyPair(t, func(t *testing.T, cast restartableKind, connect func(*testing.T, string) client) {
		m := cast.start(t)
		daemon := restartableDaemon(t, m.url())
		c := connect(t, daemon.url()+"/mcp/s")
		fine(t, "the list", c.ask("tools/list", map[string]any{}))
		fine(t, "the subscription", c.ask("resources/subscribe", map[string]any{"uri": cast.watched}))
		if cast.touch != nil {
			fine(t, "touching", c.ask("tools/call", paramsOf(*cast.touch)))
		}
		c.expect("notifications/resources/updated") // from behind which the stream is resumed: see TestReplayedPriming
		daemon.now.Stop(t, syscall.SIGTERM)
		daemon.restart()
		if c, ok := c.(*goClient); ok {
			c.awaitStreams("200", 2) // before a call has something stored that would be replayed
		}
		fine(t, "the list after the daemon's restart", c.ask("tools/list", map[string]any{}))
		fine(t, "a call after the daemon's restart", c.ask("tools/call", paramsOf(cast.harmless)))

		m.kill()
		m.restart()
		lost := c.ask("prompts/list", map[string]any{})
		if lost.Error == nil {
			t.Fatalf("got %v, want the loss", lost)
		}
		if !toldLoss(c, cast, lost) {
			t.Errorf("got %v by %q, want what the server says, %s", lost, c.exchanges(), cast.lost)
		}
		if n := initialized(c); n != 1 {
			t.Errorf("the client has begun %d sessions", n)
		}
	})
}

// restartableDaemon is a daemon before one server, to be stopped and started again as it was.
func restartableDaemon(t *testing.T, server string) *restartable {
	at := harness.NewFolders(t)
	return (&restartable{
		t: t, env: func(string) []string { return at.Env() },
		command: func(port string) []string {
			return append([]string{harness.DaemonBinary, "serve", "--listen", "127.0.0.1:" + port, "--upstream", "s=" + server}, at.Args()...)
		},
	}).launch()
}

// toldLoss reports whether the client's user was told of the loss by what the server says to its prompts/list. Or to its
// GET: Go's client opens the stream that broke again after one to two seconds, and where the server's words reach it there
// first, it closes itself and sends nothing more. It does the same without the daemon: see TestRealStreamToldFirst.
func toldLoss(c client, cast restartableKind, lost outcome) bool {
	_, isGo := c.(*goClient)
	byStream := isGo && strings.Contains(lost.Error.Message, "client is closing: ") && strings.Contains(lost.Error.Message, "standalone SSE stream: ")
	for _, exchange := range c.exchanges() {
		request, answer, _ := strings.Cut(exchange, " -> ")
		if strings.HasPrefix(answer, cast.lost) && (request == "POST prompts/list" || byStream && strings.HasPrefix(request, "GET")) {
			return true
		}
	}
	return false
}

// TestRealStreamToldFirst: where the loss is passed on, Go's client learns of it on the stream that it opens again before it
// asks anything. It closes itself, and says the same of it directly and through the daemon.
func TestRealStreamToldFirst(t *testing.T) {
	t.Parallel()
	for _, cast := range restartables {
		t.Run(cast.name, func(t *testing.T) {
			t.Parallel()
			m := cast.start(t)
			d := m.runBefore("off")
			direct, through := startGoClient(t, m.url()), startGoClient(t, d.URL("/mcp/s"))
			m.kill()
			m.restart()
			ends := make(map[client]string)
			for _, c := range []*goClient{direct, through} {
				c.awaitStreams(cast.lost, 1)
				_ = c.Wait() // what it says of its end, its user reads in the next error
				lost := c.ask("prompts/list", map[string]any{})
				if lost.Error == nil || !toldLoss(c, cast, lost) {
					t.Fatalf("got %v by %q", lost, c.exchanges())
				}
				ends[c] = gist(lost)
			}
			if ends[through] != ends[direct] {
				t.Errorf("got %s, directly %s", ends[through], ends[direct])
			}
		})
	}
}

// TestRealBothAway: the server cannot be reached while the daemon is started again. Go's client, which closes itself at an
// error on a stream that it opens again, gets its stream all the same, and its session goes on.
func TestRealBothAway(t *testing.T) {
	t.Parallel()
	cast := restartables[1]
	m := cast.start(t)
	network := harness.StartLink(t, "127.0.0.1:"+m.port)
	daemon := restartableDaemon(t, "http://"+network.Addr+m.path)
	c := startGoClient(t, daemon.url()+"/mcp/s")
	fine(t, "the subscription", c.ask("resources/subscribe", map[string]any{"uri": cast.watched}))
	c.expect("notifications/resources/updated")
	daemon.now.Stop(t, syscall.SIGTERM)
	network.Cut()
	daemon.restart()
	c.awaitStreams("200", 2)
	network.Restore()
	c.recorder.Take()
	c.expect("notifications/resources/updated")
	fine(t, "a call", c.ask("tools/call", paramsOf(cast.harmless)))
}

// TestReplayedPriming: server-everything begins the stream of each answer with an event without data, whose id is there to
// resume it by; it keeps that event as `{}`, and its store hands out the events of all streams to whoever resumes one. Go's
// client takes `{}` for a broken message and closes itself. That is between the two: the daemon passes on what it need not
// understand, and such a client gets through it what it gets directly.
func TestReplayedPriming(t *testing.T) {
	t.Parallel()
	m := restartableNPM(t)
	network := harness.StartLink(t, "127.0.0.1:"+m.port)
	server := "http://" + network.Addr + m.path
	d := harness.Start(t, harness.OneUpstream(server, ""))
	ends := map[string]string{}
	for name, url := range map[string]string{"directly": server, "through the daemon": d.URL("/mcp/s")} {
		c := startGoClient(t, url)
		c.expect("notifications/message") // the last of what the server says by itself: that it has got the client's roots
		fine(t, "the list", c.ask("tools/list", map[string]any{}))
		network.Cut()
		network.Restore()
		if err := c.recorder.Verbatim(t.Context(), `{}`); err != nil {
			t.Fatalf("%s: %v; if the server replays it no more, others need not mind it", name, err)
		}
		if err := c.Wait(); err == nil {
			t.Errorf("%s: the client has closed itself without an error", name)
		}
		ends[name] = gist(c.ask("tools/list", map[string]any{}))
	}
	if ends["through the daemon"] != ends["directly"] || !strings.Contains(ends["directly"], `invalid message version tag ""`) {
		t.Errorf("the client ended differently: %q", ends)
	}
}
