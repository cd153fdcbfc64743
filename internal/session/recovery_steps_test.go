package session_test

import (
	"fmt"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestReplay holds what a healing says again: what the server accepted last, and nothing else.
func TestReplay(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		a.works("logging/setLevel", `{"level":"debug"}`)
		a.works("logging/setLevel", `{"level":"error","_meta":{"x":1}}`)
		for i := range 40 {
			a.works("resources/subscribe", fmt.Sprintf(`{"uri":"test://%d"}`, i))
		}
		a.works("resources/unsubscribe", `{"uri":"test:\/\/7"}`)
		w.restart()
		a.list()
		if len(w.sessions) != 1 {
			t.Fatalf("%d sessions", len(w.sessions))
		}
		for _, l := range w.sessions {
			if !l.initialized || l.level != `{"level":"error"}` || len(l.uris) != 39 || l.uris[`"test://7"`] {
				t.Errorf("the new session is %+v", l)
			}
		}
	})
}

// TestSpelling holds that the order of members in capabilities is no difference.
func TestSpelling(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		w.capabilities = `{"resources": {"subscribe":true}, "tools":{"listChanged":true}}`
		a.list()
	})
}

// TestHealingHeaders holds with which headers a healing goes: those of the request that set it off, less what is that
// request's alone.
func TestHealingHeaders(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		n := len(w.calls)
		c := a.call(mcp.LaneRequest, `{"jsonrpc":"2.0","id":9,"method":"tools/list"}`)
		c.Header.Set("Mcp-Name", "x")
		c.Header.Set("X-Trace", "kept")
		res, err := a.stage.Call(t.Context(), c)
		must(err)
		body(t, res)
		opening, initialized := w.calls[n+1], w.calls[n+2]
		for _, name := range []string{"Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Name"} {
			if got := opening.Header.Get(name); got != "" {
				t.Errorf("initialize went with %s: %s", name, got)
			}
		}
		if opening.Method() != mcp.MethodInitialize || string(opening.Body) != string(w.calls[0].Body) ||
			opening.Header.Get("X-Trace") != "kept" || opening.Header.Get("Authorization") != "one" {
			t.Errorf("initialize was %s with %v", opening.Body, opening.Header)
		}
		if initialized.Method() != mcp.MethodInitialized || initialized.Header.Get("Mcp-Session-Id") != "s2" ||
			initialized.Header.Get("Mcp-Protocol-Version") != "2025-06-18" {
			t.Errorf("then %s with %v", initialized.Body, initialized.Header)
		}
	})
}

// TestLostInitialized holds that a session lost before the agent's notifications/initialized gets it once.
func TestLostInitialized(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		a.wantStatus(202, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		n := 0
		for _, c := range w.calls {
			if c.Method() == mcp.MethodInitialized && c.Header.Get("Mcp-Session-Id") == "s2" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the new session got it %d times", n)
		}
	})
}
