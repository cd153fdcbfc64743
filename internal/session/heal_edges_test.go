package session_test

import (
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestLateLoss holds that a call whose loss comes when another request has healed the session already gets the 1410, and
// that nothing is owed then.
func TestLateLoss(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Method() != mcp.MethodToolsCall {
				return nil, nil
			}
			w.before = nil
			w.mu.Unlock()
			wait(5 * time.Second)
			w.mu.Lock()
			return text(404, "late"), nil
		}
		var wg sync.WaitGroup
		wg.Go(func() { b := *a; b.n = 100; b.restarted() })
		wait(time.Second)
		a.list()
		wg.Wait()
		a.tool()
		a.wantHeals(healed{"healed": 1})
	})
}

// TestHealingHeaders holds with which headers a healing goes: those of the request that set it off, less what is that
// request's alone.
func TestHealingHeaders(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
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

// TestLostInitialized holds that a session lost before the agent's notifications/initialized is told of it once.
func TestLostInitialized(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		a.wantStatus(202, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		n := 0
		for _, c := range w.calls {
			if c.Method() == mcp.MethodInitialized && c.Header.Get("Mcp-Session-Id") == "s2" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("the new session was told %d times", n)
		}
	})
}

// TestFailedEnd holds that a DELETE that did not come through leaves the alias for the next.
func TestFailedEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		a.list()
		for _, c := range []struct {
			res *mcp.Result
			err error
		}{{text(503, "busy"), nil}, {nil, errRefused}} {
			w.before = func(*mcp.Call) (*mcp.Result, error) { w.before = nil; return c.res, c.err }
			if _, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, "")); err != c.err {
				t.Error(err)
			}
		}
		a.restarted()
		res, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, ""))
		if err != nil || res.Status != 204 || w.live() != 0 {
			t.Errorf("got %v, %v, %d sessions left", res, err, w.live())
		}
	})
}

// TestLostAnswer holds that an answer to the server in a session that cannot be healed is no success.
func TestLostAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		w.name = "other"
		a.wantStatus(404, `{"jsonrpc":"2.0","id":0,"result":{}}`)
	})
}
