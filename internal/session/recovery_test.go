package session_test

import (
	"context"
	"errors"
	"fmt"
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
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	for name, framed := range map[string]bool{"json": false, "events": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.framed = framed
				f(t, w)
			})
		})
	}
}

// TestHealReads holds the rule of `reads`: what only reads works, and one restart notice, 1410, is pending.
func TestHealReads(t *testing.T) {
	t.Run("a list first", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			a := newAgent(t, w, session.HealReads)
			a.begin()
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
		bubble(t, func(t *testing.T, w *world) {
			a := newAgent(t, w, session.HealReads)
			a.begin()
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
		bubble(t, func(t *testing.T, w *world) {
			a := newAgent(t, w, session.HealReads)
			a.begin()
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

// TestNoticeOfWhatIsNotUnderstood holds that what may have been a request that changes something gets the notice.
func TestNoticeOfWhatIsNotUnderstood(t *testing.T) {
	t.Run("an array", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			a := newAgent(t, w, session.HealReads)
			a.begin()
			w.restart()
			const array = `[{"jsonrpc":"2.0","method":"notifications/progress"}]`
			_, err := a.post(t.Context(), array)
			wantRestarted(t, err)
			a.wantStatus(202, array)
			w.restart()
			a.list()
			_, err = a.post(t.Context(), array)
			wantRestarted(t, err)
			a.wantStatus(202, array)
			a.tool()
			if n := w.count(mcp.LaneOpaque, mcp.MethodOther); n != 3 {
				t.Errorf("it came to the server %d times, want 3", n)
			}
		})
	})
	t.Run("what is loose", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			a := newAgent(t, w, session.HealReads)
			a.begin()
			w.restart()
			const loose = `{"jsonrpc":"2.0","id":9,"method":"tools/list","params":null}`
			_, err := a.post(t.Context(), loose)
			wantRestarted(t, err)
			a.wantStatus(200, loose)
			if n := w.ran["tools/list 9"]; n != 1 {
				t.Errorf("it ran %d times", n)
			}
		})
	})
}

// TestHealAll holds that the operator's word lets everything through.
func TestHealAll(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealAll)
		a.begin()
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
	bubble(t, func(t *testing.T, w *world) {
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
		change func(*world)
		agent  func(*agent)
		want   string
	}{
		"version":             {change: func(w *world) { w.version = "2025-11-25" }, want: "changed"},
		"name":                {change: func(w *world) { w.name = "other" }, want: "changed"},
		"capabilities":        {change: func(w *world) { w.capabilities = `{"tools":{}}` }, want: "changed"},
		"credential":          {agent: func(a *agent) { a.token = "two" }, want: "credential"},
		"unknown":             {agent: func(a *agent) { a.id = "never seen" }, want: "unknown"},
		"initialize 400":      {change: refuse(mcp.MethodInitialize, text(400, "no"), nil), want: "refused"},
		"initialized refused": {change: refuse(mcp.MethodInitialized, text(400, "no"), nil), want: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := newAgent(t, w, session.HealReads)
				a.begin()
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

// TestSpelling holds that the order of members in capabilities is no difference.
func TestSpelling(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		w.capabilities = `{"resources": {"subscribe":true}, "tools":{"listChanged":true}}`
		a.list()
	})
}

// TestThreeInAMinute holds the bound, and that it is of a minute.
func TestThreeInAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
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
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealAll)
		a.begin()
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
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
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
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
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
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
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

// TestReplay holds what a healing says again: what the server accepted last, and nothing else.
func TestReplay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
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

// TestInFlight holds the second form of the failure: it ran, and the answer was lost. That is no loss of the session, and
// nothing is sent again.
func TestInFlight(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealAll)
		a.begin()
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
	bubble(t, func(t *testing.T, w *world) {
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

// TestEnd holds that DELETE goes to the session's new place and ends the alias, and that a healing that is going on ends
// with it.
func TestEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		a.list()
		end := func() int {
			res, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, ""))
			must(err)
			return res.Status
		}
		if status := end(); status != 204 || w.live() != 0 {
			t.Errorf("DELETE: %d, %d sessions left", status, w.live())
		}
		a.wantStatus(404, a.request("tools/list", `{}`))
		if status := end(); status != 404 {
			t.Errorf("a second DELETE: %d", status)
		}

		a.id = ""
		a.begin()
		w.restart()
		w.slow = time.Second
		var wg sync.WaitGroup
		wg.Go(func() { a.wantStatus(404, a.request("tools/list", `{}`)) })
		synctest.Wait()
		if status := end(); status != 404 {
			t.Errorf("DELETE of a lost session: %d", status)
		}
		wg.Wait()
		wait(time.Second)
		if w.live() != 0 || a.stage.Status().Sessions != 0 {
			t.Errorf("%d sessions left on the server, %+v", w.live(), a.stage.Status())
		}
	})
}

// TestIdle holds that an alias ends after 24 hours without a call, and not before.
func TestIdle(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
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
		w := newWorld()
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
		w := newWorld()
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

// TestUnknownSession: whether there ever was a session that this daemon did not see begin only the server knows, so its own
// words pass, for a POST and for a GET.
func TestUnknownSession(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const body = `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`
		w.loss = func() *mcp.Result { return jsonBody(400, body) }
		a := newAgent(t, w, session.HealReads)
		a.id = "never seen"
		if got := a.wantStatus(400, a.request("tools/list", `{}`)); got != body {
			t.Errorf("the body is %q", got)
		}
		a.wantHeals(healed{"unknown": 1})
	})
}

// refuse makes a server answer a method so.
func refuse(m mcp.Method, res *mcp.Result, err error) func(*world) {
	return func(w *world) {
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Method() == m {
				return res, err
			}
			return nil, nil
		}
	}
}
