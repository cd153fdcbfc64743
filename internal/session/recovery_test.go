package session_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

type healed = map[string]float64

// bubble runs a test in false time, with both framings of the server's answers.
func bubble(t *testing.T, f func(t *testing.T, w *fakeServer)) {
	for name, framed := range map[string]bool{"json": false, "events": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeServer()
				w.framed = framed
				f(t, w)
			})
		})
	}
}

// inSession runs a test in a bubble with an agent that has begun its session.
func inSession(t *testing.T, heal session.Heal, f func(t *testing.T, w *fakeServer, a *agent)) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		a := newAgent(t, w, heal)
		a.begin()
		f(t, w, a)
	})
}

// TestHealReads holds the rule of `reads`: what only reads works, and one restart notice, 1410, is pending.
func TestHealReads(t *testing.T) {
	t.Run("a list first", func(t *testing.T) {
		inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
			a.tool()
			w.restart()
			a.list()
			a.list()
			a.wantStatus(202, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`) // does not get it
			a.restarted()
			a.tool()
			a.tool()
			a.wantHeals(healed{"healed": 1})
			if n := w.count(mcp.LaneRequest, mcp.MethodToolsCall); n != 3 {
				t.Errorf("%d tools/call came to the server, want 3", n)
			}
			if got := a.stage.Status(); got != (session.Status{Sessions: 1, Healed: 1}) {
				t.Errorf("the status is %+v", got)
			}
		})
	})
	t.Run("a call first", func(t *testing.T) {
		inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
			w.restart()
			a.restarted()
			a.tool()
			a.list()
			w.restart()
			a.list()
			a.restarted()
			a.tool()
			a.wantHeals(healed{"healed": 2})
		})
	})
	t.Run("a notification first", func(t *testing.T) {
		inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
			w.restart()
			a.wantStatus(202, `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
			if n := w.count(mcp.LaneNotification, mcp.MethodRootsListChanged); n != 2 {
				t.Errorf("the notification came %d times, want 2", n)
			}
			a.restarted()
			a.tool()
		})
	})
}

// TestHealAll holds that the operator's word lets everything through.
func TestHealAll(t *testing.T) {
	inSession(t, session.HealAll, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		a.tool()
		a.tool()
		if len(w.ran) != 2 {
			t.Errorf("ran %v, want two calls", w.ran)
		}
		for call, n := range w.ran {
			if n != 1 {
				t.Errorf("%s ran %d times", call, n)
			}
		}
		w.restart()
		a.wantStatus(202, `[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`)
	})
}

// TestHealOff holds that everything passes as it is.
func TestHealOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		const body = `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`
		w.loss = func() *mcp.Result { return jsonBody(404, body) }
		a := newAgent(t, w, session.HealOff)
		a.begin()
		w.restart()
		res, err := a.post(t.Context(), a.request("tools/list", `{}`))
		if err != nil || res.Status != 404 || string(res.Body) != body {
			t.Errorf("got %v, %v", res, err)
		}
		a.wantHeals(healed{})
	})
}

// TestGivenUp holds each reason not to heal: the loss is passed on in text, and nothing of a session is left over.
func TestGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeServer)
		agent  func(*agent)
		want   string
	}{
		"version":             {change: func(w *fakeServer) { w.version = "2025-11-25" }, want: "changed"},
		"name":                {change: func(w *fakeServer) { w.name = "other" }, want: "changed"},
		"capabilities":        {change: func(w *fakeServer) { w.capabilities = `{"tools":{}}` }, want: "changed"},
		"credential":          {agent: func(a *agent) { a.token = "two" }, want: "credential"},
		"unknown":             {agent: func(a *agent) { a.id = "never seen" }, want: "unknown"},
		"initialize 400":      {change: refuse(mcp.MethodInitialize, text(400, "no"), nil), want: "refused"},
		"initialized refused": {change: refuse(mcp.MethodInitialized, text(400, "no"), nil), want: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
				w.restart()
				if c.change != nil {
					c.change(w)
				}
				if c.agent != nil {
					c.agent(a)
				}
				if got := a.wantStatus(404, a.request("tools/list", `{}`)); got != "session not found\n" {
					t.Errorf("the body is %q", got)
				}
				synctest.Wait()
				a.wantHeals(healed{c.want: 1})
				if w.live() != 0 {
					t.Errorf("%d sessions are left on the server", w.live())
				}
				if got := a.stage.Status(); got.GaveUp != 1 || got.Healed != 0 {
					t.Errorf("the status is %+v", got)
				}
			})
		})
	}
}

// TestThreeInAMinute holds the bound, and that it is of a minute.
func TestThreeInAMinute(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		for range 3 {
			w.restart()
			a.list()
		}
		w.restart()
		a.wantStatus(404, a.request("tools/list", `{}`))
		wait(time.Minute)
		a.list()
		a.wantHeals(healed{"healed": 4, "too_often": 1})
	})
}

// TestFlapping holds that a server that loses each session at once ends the call.
func TestFlapping(t *testing.T) {
	inSession(t, session.HealAll, func(t *testing.T, w *fakeServer, a *agent) {
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Lane == mcp.LaneRequest && c.Method() != mcp.MethodInitialize {
				return text(404, "gone"), nil
			}
			return nil, nil
		}
		a.wantStatus(404, a.request("tools/list", `{}`))
		if n := w.count(mcp.LaneRequest, mcp.MethodToolsList); n != 4 {
			t.Errorf("the request came %d times", n)
		}
	})
}

// TestWaiters holds that a hundred requests of two credentials that meet one loss make one session.
func TestWaiters(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		a.token = "two"
		a.list()
		w.restart()
		w.slow = time.Second
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				b := *a
				b.token, b.n = [2]string{"one", "two"}[i%2], 1000*(i+1)
				switch i % 4 / 2 {
				case 0:
					b.list()
				default:
					b.restarted()
				}
			})
		}
		wg.Wait()
		a.tool() // all that met the loss have the notice: none is pending
		a.wantHeals(healed{"healed": 1})
		if n := w.count(mcp.LaneRequest, mcp.MethodInitialize); n != 2 {
			t.Errorf("initialize came %d times, want 2", n)
		}
	})
}

// TestOtherCredential holds that a healing that fails for one credential is none for another, and that a new credential
// goes with the new id once there is one.
func TestOtherCredential(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		a.token = "two"
		a.list()
		w.restart()
		w.slow = time.Second
		w.after = func(c *mcp.Call, res *mcp.Result) (*mcp.Result, error) {
			if c.Method() == mcp.MethodInitialize && c.Header.Get("Authorization") == "one" {
				delete(w.sessions, res.Header.Get("Mcp-Session-Id"))
				return text(401, "expired"), nil
			}
			return res, nil
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			b := *a
			b.token = "one"
			b.wantStatus(401, b.request("tools/list", `{}`))
		})
		synctest.Wait()
		a.list()
		wg.Wait()
		a.wantHeals(healed{"healed": 1, "refused": 1})
		a.token = "refreshed"
		a.list()
	})
}

// TestLeaving holds that a healing outlives its callers, and that a notice that nobody got is pending.
func TestLeaving(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		w.slow = 10 * time.Second
		drain := &mcp.Failure{Code: 1503, Reason: mcp.ReasonDraining}
		for _, cause := range []error{nil, drain} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			start := time.Now()
			_, err := a.post(ctx, a.request("tools/call", `{"name":"t"}`))
			var f *mcp.Failure
			if !errors.As(err, &f) || time.Since(start) != time.Second {
				t.Fatalf("got %v after %v", err, time.Since(start))
			}
			if want := map[bool]mcp.Reason{true: mcp.ReasonCanceled, false: mcp.ReasonDraining}[cause == nil]; f.Reason != want {
				t.Errorf("reason %s, want %s", f.Reason, want)
			}
		}
		wait(20 * time.Second)
		a.restarted()
		a.tool()
		a.wantHeals(healed{"healed": 1})
	})
}

// TestInFlight holds the second form of the failure: it ran, and the answer was lost. That is no loss of the session, and
// nothing is sent again.
func TestInFlight(t *testing.T) {
	inSession(t, session.HealAll, func(t *testing.T, w *fakeServer, a *agent) {
		w.after = func(c *mcp.Call, res *mcp.Result) (*mcp.Result, error) {
			if c.Method() == mcp.MethodToolsCall {
				clear(w.sessions)
				return nil, errBroke
			}
			return res, nil
		}
		_, err := a.post(t.Context(), a.request("tools/call", `{"name":"t"}`))
		if err != errBroke {
			t.Errorf("got %v", err)
		}
		a.list()
		if w.ran["tools/call 1"] != 1 {
			t.Errorf("ran %v", w.ran)
		}
	})
}

// TestSameID holds that a server that mints the same id again is healed as well, and not for ever.
func TestSameID(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		w.same = true
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		a.list()
		a.restarted()
		a.tool()
		a.wantHeals(healed{"healed": 1})
	})
}

// TestIdle holds that an alias ends after 24 hours without a call, and not before.
func TestIdle(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		a.list()
		wait(23 * time.Hour)
		a.list()
		wait(23 * time.Hour)
		a.list()
		wait(24*time.Hour + time.Second)
		a.wantStatus(404, a.request("tools/list", `{}`))
	})
}

// TestManySessions holds the bounds of the table.
func TestManySessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeServer()
		a := newAgent(t, w, session.HealReads)
		for range 10_100 {
			a.id = ""
			a.begin()
		}
		if got := a.stage.Status().Sessions; got != 10_000 {
			t.Errorf("%d sessions are known", got)
		}
		w.restart()
		a.list()
		a.id = "s1"
		a.wantStatus(404, a.request("tools/list", `{}`))

		a.id = ""
		res, err := a.post(t.Context(), `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"x":"`+strings.Repeat("x", 64<<10)+`"}}`)
		must(err)
		a.id = res.Header.Get("Mcp-Session-Id")
		a.list()
		w.restart()
		a.wantStatus(404, a.request("tools/list", `{}`))
	})
}

// TestClose holds that a healing ends with the daemon.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeServer()
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		w.slow = time.Hour
		var wg sync.WaitGroup
		wg.Go(func() { a.wantStatus(404, a.request("tools/list", `{}`)) })
		synctest.Wait()
		start := time.Now()
		a.stage.Close()
		wg.Wait()
		if time.Since(start) != 0 {
			t.Errorf("Close took %v", time.Since(start))
		}
		a.wantStatus(404, a.request("tools/list", `{}`))
		a.wantHeals(healed{"ended": 2})
	})
}

// refuse makes a server answer a method so.
func refuse(m mcp.Method, res *mcp.Result, err error) func(*fakeServer) {
	return func(w *fakeServer) {
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Method() == m {
				return res, err
			}
			return nil, nil
		}
	}
}
