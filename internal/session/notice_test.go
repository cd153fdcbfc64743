package session_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestNoticeOfWhatIsNotUnderstood holds that what may have been a request that changes something gets the notice.
func TestNoticeOfWhatIsNotUnderstood(t *testing.T) {
	t.Run("an array", func(t *testing.T) {
		inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
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
		inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
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

// loseLate makes the first call of a kind meet a loss that comes after five seconds; then says what becomes of later ones.
func (w *fakeServer) loseLate(is func(*mcp.Call) bool, then func(*mcp.Call) (*mcp.Result, error)) {
	late := true
	w.before = func(c *mcp.Call) (*mcp.Result, error) {
		switch {
		case !is(c):
			return nil, nil
		case !late:
			return then(c)
		}
		late = false
		w.mu.Unlock()
		wait(5 * time.Second)
		w.mu.Lock()
		return text(404, "late"), nil
	}
}

// TestLateLoss holds that a call whose loss comes when another request has healed the session already gets the 1410, and
// that no notice is pending then.
func TestLateLoss(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		w.loseLate(func(c *mcp.Call) bool { return c.Method() == mcp.MethodToolsCall },
			func(*mcp.Call) (*mcp.Result, error) { return nil, nil })
		var wg sync.WaitGroup
		wg.Go(func() { b := *a; b.n = 100; b.restarted() })
		wait(time.Second)
		a.list()
		wg.Wait()
		a.tool()
		a.wantHeals(healed{"healed": 1})
	})
}

// TestWhoGetsTheNotice holds that a stranger, whom the server refuses, does not get the pending restart notice, and that the
// agent gets it with a credential that was refreshed.
func TestWhoGetsTheNotice(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
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
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		w.loseLate(func(c *mcp.Call) bool { return c.Header.Get("Authorization") == "stranger" },
			func(*mcp.Call) (*mcp.Result, error) { return text(401, "who are you"), nil })
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

// TestOneOfTwoLeaves holds that the notice is used up by one of two requests that waited for the recovery, if the other has left.
func TestOneOfTwoLeaves(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		w.slow = 10 * time.Second
		var wg sync.WaitGroup
		b := *a
		b.n = 100
		wg.Go(func() {
			ctx, leave := context.WithTimeout(t.Context(), time.Second)
			defer leave()
			if _, err := b.post(ctx, b.request("tools/call", `{"name":"t"}`)); mcp.AsFailure(err).Reason != mcp.ReasonCanceled {
				t.Errorf("who left got %v", err)
			}
		})
		a.restarted()
		wg.Wait()
		a.tool()
		a.wantHeals(healed{"healed": 1})
	})
}
