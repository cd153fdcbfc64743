package session_test

import (
	"fmt"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// asking makes the answer to tools/list come after 256 requests of the server's with ids of a kilobyte, and returns what
// answers them.
func (w *fakeServer) asking() []string {
	long := strings.Repeat("x", 1000)
	var questions, answers []string
	for i := range 256 {
		questions = append(questions, fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d%s","method":"ping"}`, i, long))
		answers = append(answers, fmt.Sprintf(`{"jsonrpc":"2.0","id":"%d%s","result":{}}`, i, long))
	}
	ask := answerTo([]byte(`[` + strings.Join(questions, ",") + `]`))
	w.framed = true
	w.after = func(c *mcp.Call, res *mcp.Result) (*mcp.Result, error) {
		if list, ok := res.Events.(*events); ok && c.Method() == mcp.MethodToolsList {
			list.list = append([]mcp.Event{ask}, list.list...)
		}
		return res, nil
	}
	return answers
}

// TestWeight holds that what a server makes the daemon remember of a session counts, and weighs nothing when it is over: the
// requests that the agent has not answered, and the calls whose streams may be resumed. Events that have passed weigh nothing.
func TestWeight(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		answers := w.asking()
		weight := a.stage.Weight()
		grown := func(what string, least, most int64) {
			t.Helper()
			now := a.stage.Weight()
			if got := now - weight; got < least || got > most {
				t.Errorf("%s: the session weighs %d bytes more, want %d to %d", what, got, least, most)
			}
			weight = now
		}
		res, err := a.post(t.Context(), a.request("tools/list", `{}`))
		must(err)
		body(t, res)
		grown("questions", 256<<10, 300<<10)
		for _, answer := range answers {
			a.wantStatus(202, answer)
		}
		grown("their answers", -300<<10, -256<<10)
		w.after = nil

		w.ids = true
		for range 300 {
			a.list()
		}
		grown("events", 0, 0)

		id := `"` + strings.Repeat("x", 1000) + `"`
		for range 64 {
			w.dropAfterID("p", errBroke)
			res, err := a.post(t.Context(), `{"jsonrpc":"2.0","id":`+id+`,"method":"tools/call"}`)
			must(err)
			read(t, res)
		}
		grown("calls", 64<<10, 80<<10)
		a.dropped("p", errBroke)
		grown("a short one for a long one", -1000, -900)

		w.ids = false
		for i := range 20 {
			b := *a
			b.token = fmt.Sprint("token ", i)
			b.list()
		}
		grown("credentials", 15*32, 15*32)
	})
}

// TestMuchToRemember holds that sessions are forgotten for what others weigh.
func TestMuchToRemember(t *testing.T) {
	w := newFakeServer()
	w.asking()
	a := newAgent(t, w, session.HealReads)
	const most = 32 << 20 / (256 << 10) // sessions that weigh no more than 256 requests
	for range most {
		a.id = ""
		a.begin()
		res, err := a.post(t.Context(), a.request("tools/list", `{}`))
		must(err)
		body(t, res)
		w.calls = nil
	}
	if n := a.stage.Status().Sessions; n >= most || n < most/2 || a.stage.Weight() > 32<<20 {
		t.Errorf("%d sessions are known, of %d bytes", n, a.stage.Weight())
	}
}

// countAnew makes the server lose all sessions and count their ids from the start.
func (w *fakeServer) countAnew() {
	w.restart()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.minted, w.calls = 0, nil
}

// second opens another session of the same stage.
func (a *agent) second() *agent {
	b := *a
	b.id, b.token = "", "two"
	b.begin()
	return &b
}

// TestCountingServer holds that an id which the server gives to one session after a restart is no longer that of another:
// whatever the other does, it does not reach the first one's session.
func TestCountingServer(t *testing.T) {
	for name, c := range map[string]struct {
		does func(t *testing.T, a *agent)
		live int
	}{
		"a call": {func(_ *testing.T, a *agent) { a.list(); a.restarted() }, 2},
		"a GET": {func(t *testing.T, a *agent) {
			closed(t, a.get(t.Context(), ""))
			if got := a.w.lastGet(t).Get("Mcp-Session-Id"); got != "s2" {
				t.Errorf("the GET went to %s", got)
			}
		}, 2},
		"its end": {func(t *testing.T, a *agent) {
			res, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, ""))
			if err != nil || res.Status != 404 {
				t.Errorf("DELETE: %v, %v", res, err)
			}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *fakeServer) {
				a := newAgent(t, w, session.HealReads) // s1
				a.begin()
				b := a.second() // s2
				w.countAnew()
				b.list() // is s1 now
				c.does(t, a)
				b.restarted()
				b.tool()
				for _, call := range w.calls {
					if call.Header.Get("Mcp-Session-Id") == "s1" && call.Header.Get("Authorization") != "two" {
						t.Errorf("a call of another session reached s1: %s", call.Body)
					}
				}
				if w.live() != c.live {
					t.Errorf("%d sessions are on the server, want %d", w.live(), c.live)
				}
			})
		})
	}
}

// TestCountingServerAndAlias holds the same for a session that was healed before, whose id the server gives to a new one.
func TestCountingServerAndAlias(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		b := a.second()
		w.countAnew()
		b.list() // s1
		a.list() // s2
		w.countAnew()
		w.minted = 1
		a.second() // s2
		a.restarted()
		a.tool()
		if got := w.calls[len(w.calls)-1].Header.Get("Mcp-Session-Id"); got != "s3" {
			t.Errorf("the call went to %s", got)
		}
	})
}

// TestRestartedTwice holds that a counting server which was restarted twice is not taken for one that gives the same id to all:
// the session that had to leave an id gets it again, and the one that drove it out must leave.
func TestRestartedTwice(t *testing.T) {
	inSession(t, session.HealAll, func(t *testing.T, w *fakeServer, a *agent) {
		b := a.second()
		w.countAnew()
		b.list() // s1, which was a's
		w.countAnew()
		a.list() // s1 again
		b.list()
		if got := w.calls[len(w.calls)-1].Header.Get("Mcp-Session-Id"); got != "s2" || w.live() != 2 {
			t.Errorf("the call went to %s of %d sessions", got, w.live())
		}
	})
}

// TestStandingStream holds that an open GET stream goes to the session's new place when another session gets its id.
func TestStandingStream(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		res := a.get(t.Context(), "")
		got := next(res)
		w.stream(t, 1)
		b := a.second()
		w.mu.Lock()
		clear(w.sessions) // its streams stand on
		w.minted = 0
		w.mu.Unlock()
		b.list()
		w.stream(t, 1).events <- numbered("1")
		if ev, err := (<-got)(); err != nil || serverID(ev) != "1" {
			t.Errorf("got %+v, %v", ev, err)
		}
		if got := w.lastGet(t).Get("Mcp-Session-Id"); got != "s2" {
			t.Errorf("the stream was opened anew at %s", got)
		}
		closed(t, res)
	})
}

// TestOneIDForAll holds that agents of a server which gives the same id to all do not drive each other out.
func TestOneIDForAll(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		a := newAgent(t, w, session.HealAll)
		a.begin() // s1
		w.restart()
		w.same = true
		a.list() // the one id
		b := a.second()
		for range 10 {
			a.list()
			b.list()
		}
		if n := w.count(mcp.LaneRequest, mcp.MethodInitialize); n > 5 {
			t.Errorf("initialize came %d times", n)
		}
	})
}
