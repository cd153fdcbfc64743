package monitor

import (
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"fluentd-perf/internal/api"
)

// shows holds that the screen has texts, and others not (those that begin with !).
func (s *screenOf) shows(when string, texts ...string) {
	s.t.Helper()
	screen := s.text()
	for _, text := range texts {
		unwanted, not := strings.CutPrefix(text, "!")
		if strings.Contains(screen, unwanted) == not {
			s.t.Errorf("%s: %q:\n%s", when, text, screen)
		}
	}
}

// TestRestart: another daemon is said, its counters begin at zero, and no rate is negative.
func TestRestart(t *testing.T) {
	d := newFakeDaemon(names(3)...)
	s := newScreen(t, d, 100, 30).seconds(15)
	s.shows("before", "177/s", "!restarted")
	d.started, d.second, d.pid = d.started.Add(2*time.Hour), 4, 77
	s.seconds(1)
	s.shows("after", "the daemon was restarted at 11:00:00 (now pid 77): its counters begin at zero", "pid 77  up 5.0s", "requests 120/s")
	if s.m.history.restarts != 1 {
		t.Errorf("%d restarts", s.m.history.restarts)
	}
	// 5 s of 60, 90, 120, 150 and 180 requests.
	if got := s.m.history.all.last(); got.requests != 600 || got.took != 5*time.Second {
		t.Errorf("%d requests in %v", got.requests, got.took)
	}
	s.seconds(12)
	s.shows("later", "!restarted")
	for name, track := range s.m.history.upstreams {
		if slices.Min(track.requests) < 0 || len(track.requests) != 13 {
			t.Errorf("%s: %v", name, track.requests)
		}
	}
}

// TestAnOlderDaemon: what one did before it is looked at is no part of a rate.
func TestAnOlderDaemon(t *testing.T) {
	d := newFakeDaemon(names(3)...)
	s := newScreen(t, d, 100, 30).seconds(3)
	d.started, d.second, d.pid = d.started.Add(-9*time.Hour), d.second+9*3600, 77
	s.seconds(1)
	s.shows("at first", "another daemon answers, which was started at 2026-11-30 00:00:00 (pid 77)", "requests 0/s", "cpu 0.0%")
	s.seconds(2)
	s.shows("then", "requests 195/s", "cpu 2.5%")
	line, _ := s.m.plain(sampleMsg{sample: newFakeDaemon("a").sample()})
	if strings.Contains(line, "req/s") {
		t.Errorf("a line of what nothing is known of: %s", line)
	}
}

// TestAway: a daemon that goes away is said, with what was tried, and shown again when it is back.
func TestAway(t *testing.T) {
	d := newFakeDaemon(names(2)...)
	s := newScreen(t, d, 120, 24).seconds(3)
	d.failing = true
	s.seconds(1)
	d.second += 7
	s.seconds(1)
	s.shows("away", "NO ANSWER for 7s: no running fluentd-perf was found; tried /run/x (--socket): no such file", "server-00")
	d.failing = false
	s.seconds(1)
	s.shows("back", "!NO ANSWER", "up 1h00m", "server-01")
}

// TestKeys: what each key does.
func TestKeys(t *testing.T) {
	d := newFakeDaemon(names(12)...)
	s := newScreen(t, d, 100, 24).seconds(3)
	chosen := func(want string) {
		t.Helper()
		if r := s.m.chosen(); r == nil || r.now.Upstream != want {
			t.Errorf("at %+v, want %s", r, want)
		}
	}
	chosen("server-00")
	s.keys("down", "j")
	chosen("server-02")
	s.keys("up", "k", "up")
	chosen("server-00")
	s.keys("pgdown")
	chosen("server-10")
	s.keys("G")
	chosen("server-11")
	s.keys("home")
	chosen("server-00")
	s.keys("down", "enter")
	s.shows("open", "/usr/bin/npx", "failed 7 times: the server hung up", "!server-03")
	s.keys("esc")
	chosen("server-01")
	s.keys("/", "0", "7", "backspace", "8")
	s.shows("filtering", "/08_", "server-08", "!server-01")
	s.keys("enter")
	s.shows("filtered", "filter 08 (esc ends it)")
	s.keys("esc")
	s.shows("unfiltered", "server-01")
	s.keys("/", "x", "y")
	s.shows("nothing", "no upstream has this in its name: xy", "no calls under way")
	s.keys("esc", "tab", "down", "enter") // the second oldest call
	s.shows("of the call", "/usr/bin/npx", "esc back")
	s.keys("esc", "?")
	s.shows("help", "any key goes back")
	s.keys("down")
	s.shows("no help", "!any key goes back")
	for _, key := range []string{"q", "ctrl+c"} {
		msg := tea.KeyPressMsg{Text: key, Code: 'q'}
		if key == "ctrl+c" {
			msg = tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
		}
		if _, cmd := s.m.Update(msg); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not end it", key)
		}
	}
}

// TestStopping: that the daemon stops is seen also where it listens at many addresses.
func TestStopping(t *testing.T) {
	d := newFakeDaemon("a")
	s := newScreen(t, d, 80, 24).seconds(1)
	sample := d.sample()
	sample.Draining, sample.Addresses = true, []string{"127.0.0.1:7300", "[::1]:7300", "unix:/run/user/1000/fluentd-perf/mcp.sock"}
	s.m.Update(sampleMsg{sample: sample})
	s.keys("p")
	s.shows("it stops", "STOPPING, PAUSED, every 1s")
}

// TestShownTime: the view says over how much time its figures go, which is one interval where that is long.
func TestShownTime(t *testing.T) {
	d := newFakeDaemon("a")
	s := newScreen(t, d, 80, 24).seconds(4)
	s.shows("at first", "every 1s, last 3s")
	s.seconds(20)
	s.shows("then", "every 1s, last 10s")
	s.m.interval = time.Minute
	d.second += 59
	s.seconds(1)
	s.shows("a long interval", "every 1m0s, last 1m0s")
	s.keys("?")
	s.shows("help", "Figures are of the last 1m0s.")
}

// TestPause: nothing moves, and what happened meanwhile is one interval.
func TestPause(t *testing.T) {
	s := newScreen(t, newFakeDaemon(names(1)...), 100, 24).seconds(5)
	s.keys("p")
	before := s.text()
	if s.seconds(4); s.text() != before || !strings.Contains(before, "PAUSED") {
		t.Errorf("it has moved:\n%s", s.text())
	}
	s.keys("space")
	s.seconds(1)
	if c := s.m.history.all.changes; c[len(c)-1].took != 5*time.Second {
		t.Errorf("%v", c[len(c)-1].took)
	}
}

// TestSuspend: ctrl+z suspends where a shell can have it go on, else it says that it does not; also while keys go to the filter.
func TestSuspend(t *testing.T) {
	s := newScreen(t, newFakeDaemon(names(1)...), 80, 24).seconds(2)
	press := tea.KeyPressMsg{Code: 'z', Mod: tea.ModCtrl}
	if _, cmd := s.m.Update(press); cmd != nil {
		t.Errorf("%v without a shell", cmd())
	}
	s.shows("without a shell", "it is not suspended")
	s.m.suspends = true
	s.keys("/")
	if _, cmd := s.m.Update(press); cmd == nil || cmd() != tea.Suspend() {
		t.Error("it does not suspend")
	}
}

// TestCopy: y has the terminal copy a command line, shows it, and says what is not in it.
func TestCopy(t *testing.T) {
	s := newScreen(t, newFakeDaemon(names(2)...), 100, 24).seconds(2)
	s.keys("down", "y")
	const want = `curl -sS -X 'POST' 'http://127.0.0.1:7300/mcp/server-01' -H 'Content-Type: application/json' -H "Authorization: $AUTHORIZATION" --data-raw '{"jsonrpc":"2.0","id":"r1-1"}'`
	if s.m.copied != want {
		t.Errorf("copied %s\nwant   %s", s.m.copied, want)
	}
	s.shows("copied", "curl -sS -X 'POST'", "Authorization is left out: set AUTHORIZATION", "2 other headers are left out")
	_, cmd := s.m.Update(requestMsg{request: api.Request{Verb: "DELETE", Path: "/mcp/x"}})
	if got, want := cmd(), tea.SetClipboard(s.m.copied)(); got != want {
		t.Errorf("the terminal is told %v, want %v", got, want)
	}
	s.keys("esc")
	if first, second := s.m.ask(), s.m.ask(); first == nil || second != nil {
		t.Error("two requests are asked for at once")
	}
	s.m.Update(requestMsg{err: &api.RefusedError{Message: "the call has\nended"}})
	s.shows("ended", "not copied: the call has ended")
	s.m.history.sample.Upstreams[1].Calls = nil
	s.keys("y")
	s.shows("none", "no call is under way there")
}

// TestCursorsStay: a cursor stays on its upstream and its call, whatever comes and goes before them; y copies that call.
func TestCursorsStay(t *testing.T) {
	d := newFakeDaemon(names(6)...)
	s := newScreen(t, d, 100, 30).seconds(2)
	s.keys("down", "down", "down")
	d.names = d.names[2:]
	s.seconds(1)
	if r := s.m.chosen(); r.now.Upstream != "server-03" {
		t.Errorf("the cursor is on %s", r.now.Upstream)
	}
	s.keys("tab", "down", "down")
	chosen := *s.m.chosenCall()
	sample := d.sample()
	older := api.CallSampled{Request: "older", Upstream: "server-02", AgeMs: 1 << 40}
	sample.Upstreams[0].Calls = append([]api.CallSampled{older, older}, sample.Upstreams[0].Calls...)
	s.m.Update(sampleMsg{sample: sample})
	s.keys("y")
	if want := `"id":"` + chosen.Request + `"`; !strings.Contains(s.m.copied, want) {
		t.Errorf("copied %s, want %s", s.m.copied, want)
	}
	s.keys("tab", "tab") // the first one closes what y shows
	sample = d.sample()  // the older ones have ended, and three have come that are older still
	sample.Upstreams[1].Calls = append([]api.CallSampled{older, older, older}, sample.Upstreams[1].Calls...)
	s.m.Update(sampleMsg{sample: sample})
	s.keys("tab", "y")
	if want := `"id":"` + chosen.Request + `"`; !strings.Contains(s.m.copied, want) {
		t.Errorf("with the other pane in between: copied %s, want %s", s.m.copied, want)
	}
}

// TestOneFetch: while an answer is on its way no other one is asked for.
func TestOneFetch(t *testing.T) {
	s := newScreen(t, newFakeDaemon(names(1)...), 80, 24)
	if s.m.fetch() == nil || s.m.fetch() != nil {
		t.Error("a second one is asked for")
	}
	s.seconds(1)
	if s.m.fetch() == nil {
		t.Error("none is asked for any more")
	}
}
