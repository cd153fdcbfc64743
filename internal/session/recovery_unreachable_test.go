package session_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestHealLater: a server that cannot be asked for a new session just now has not refused one. The call gets the failure, as
// one that has not run, and the session is healed when the server can be asked.
func TestHealLater(t *testing.T) {
	open := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo, RetryAfter: time.Second}
	for name, c := range map[string]struct {
		change func(*fakeServer)
		want   mcp.Reason
	}{
		"refused":               {refuse(mcp.MethodInitialize, nil, errRefused), mcp.ReasonConnect},
		"circuit open":          {refuse(mcp.MethodInitialize, nil, open), mcp.ReasonBreakerOpen},
		"503":                   {refuse(mcp.MethodInitialize, text(503, "not yet"), nil), mcp.ReasonSessionLost},
		"initialized lost":      {refuse(mcp.MethodInitialized, nil, errBroke), mcp.ReasonBrokeOff},
		"initialized busy":      {refuse(mcp.MethodInitialized, text(429, "not yet"), nil), mcp.ReasonSessionLost},
		"slow":                  {func(w *fakeServer) { w.slow = time.Hour }, mcp.ReasonSessionLost},
		"the subscription lost": {refuse(mcp.MethodResourcesSubscribe, nil, errBroke), mcp.ReasonBrokeOff},
	} {
		t.Run(name, func(t *testing.T) {
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
				a.works("resources/subscribe", `{"uri":"a:"}`)
				w.restart()
				c.change(w)
				_, err := a.post(t.Context(), a.request("tools/list", `{}`))
				var f *mcp.Failure
				if !errors.As(err, &f) || f.Reason != c.want || f.Sent != mcp.SentNo {
					t.Fatalf("got %+v (%v), want %s, not sent", f, err, c.want)
				}
				synctest.Wait()
				if w.live() != 0 {
					t.Errorf("%d sessions are left on the server", w.live())
				}
				w.before, w.slow = nil, 0
				a.list()
				a.wantHeals(healed{"unreachable": 1, "healed": 1})
			})
		})
	}
}

// TestUnaskedHealingsCostNothing: of the three in a minute those do not count in which the server was not asked.
func TestUnaskedHealingsCostNothing(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		refuse(mcp.MethodInitialize, nil, errRefused)(w)
		for range 10 {
			if _, err := a.post(t.Context(), a.request("tools/list", `{}`)); err == nil {
				t.Fatal("answered")
			}
		}
		w.before = nil
		a.list()
		a.wantHeals(healed{"unreachable": 10, "healed": 1})
	})
}

// TestStreamHealsLater: a GET stream whose server is back, but may not be asked for a new session yet, stays open and tries
// again.
func TestStreamHealsLater(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		res := a.get(t.Context(), "")
		event := next(res)
		w.stream(t, 1)
		refuse(mcp.MethodInitialize, nil, errRefused)(w)
		w.restart()
		wait(5 * time.Second)
		w.mu.Lock()
		w.before = nil
		w.mu.Unlock()
		f := w.stream(t, 1)
		f.events <- mcp.Event{Data: []byte(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)}
		if ev, err := (<-event)(); err != nil || len(ev.Data) == 0 {
			t.Errorf("got %+v, %v", ev, err)
		}
		closed(t, res)
	})
}

// TestHealingWakesTheStream: what another request heals wakes the GET stream that waits for its next try, though not before
// the time that the server asked for.
func TestHealingWakesTheStream(t *testing.T) {
	for name, c := range map[string]struct{ retry, least, most time.Duration }{
		"at once":     {0, 0, 0},
		"after retry": {20 * time.Second, 0, 22 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				res := a.get(ctx, "")
				event := next(res)
				f := w.stream(t, 1)
				if c.retry > 0 {
					f.events <- mcp.Event{Retry: []byte("20000")}
					<-event
					event = next(res)
				}
				// The server is away until the stream waits long between tries.
				w.mu.Lock()
				w.before = func(*mcp.Call) (*mcp.Result, error) { return nil, errRefused }
				w.mu.Unlock()
				w.restart()
				wait(40 * time.Second)
				w.mu.Lock()
				w.before = nil
				gets := len(w.calls)
				w.mu.Unlock()
				back := time.Now()
				a.list() // heals
				for {
					synctest.Wait()
					w.mu.Lock()
					streamAsked := false
					for _, call := range w.calls[gets:] {
						streamAsked = streamAsked || call.Lane == mcp.LaneStream
					}
					w.mu.Unlock()
					if streamAsked {
						break
					}
					wait(10 * time.Millisecond)
				}
				if took := time.Since(back); took < c.least || took > c.most {
					t.Errorf("the stream came back after %v, want %v to %v", took, c.least, c.most)
				}
				cancel()
				<-event
				_ = res.Close()
			})
		})
	}
}
