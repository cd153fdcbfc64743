package session_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestLateLoss holds that a call whose loss comes when another request has healed the session already gets the 1410, and
// that no notice is pending then.
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

// TestLostInitialized holds that a session lost before the agent's notifications/initialized gets it once.
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
			t.Errorf("the new session got it %d times", n)
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

// TestRefusedEnd holds that a DELETE that the server refuses leaves the alias.
func TestRefusedEnd(t *testing.T) {
	for _, status := range []int{400, 401, 403, 405, 429} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := newAgent(t, w, session.HealReads)
				a.begin()
				w.restart()
				a.list()
				w.before = func(c *mcp.Call) (*mcp.Result, error) {
					if c.Lane == mcp.LaneEnd {
						return text(status, "no"), nil
					}
					return nil, nil
				}
				res, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, ""))
				if err != nil || res.Status != status {
					t.Fatalf("got %v, %v", res, err)
				}
				a.list()
			})
		})
	}
}

// TestWhoGetsTheNotice holds that a stranger, whom the server refuses, does not get the pending restart notice, and that the
// agent gets it with a credential that was refreshed.
func TestWhoGetsTheNotice(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Header.Get("Authorization") == "stranger" {
				return text(401, "who are you"), nil
			}
			return nil, nil
		}
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		a.list()
		stranger := *a
		stranger.token = "stranger"
		stranger.wantStatus(401, a.request("tools/call", `{"name":"t"}`))
		refreshed := *a
		refreshed.token = "two"
		refreshed.restarted()
		a.tool()
		if n := w.count(mcp.LaneRequest, mcp.MethodToolsCall); n != 2 {
			t.Errorf("%d calls came to the server, want the stranger's and the last", n)
		}
	})
}

// TestLateStranger holds the same for a stranger who met the loss, and comes when the session is healed.
func TestLateStranger(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		late := true
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			switch {
			case c.Header.Get("Authorization") != "stranger":
				return nil, nil
			case !late:
				return text(401, "who are you"), nil
			}
			late = false
			w.mu.Unlock()
			wait(5 * time.Second)
			w.mu.Lock()
			return text(404, "late"), nil
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			stranger := *a
			stranger.token = "stranger"
			stranger.wantStatus(401, stranger.request("tools/call", `{"name":"t"}`))
		}()
		wait(time.Second)
		a.list()
		<-done
		a.restarted()
	})
}
