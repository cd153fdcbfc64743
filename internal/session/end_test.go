package session_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestEnd holds that DELETE goes to the session's new place and ends the alias, and that a healing that is going on ends
// with it.
func TestEnd(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
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

// TestFailedEnd holds that a DELETE that the server refuses, or that does not come through, leaves the alias for the next.
func TestFailedEnd(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		err    error
	}{
		"400": {400, nil}, "401": {401, nil}, "403": {403, nil}, "405": {405, nil}, "429": {429, nil}, "503": {503, nil},
		"refused": {0, errRefused},
	} {
		t.Run(name, func(t *testing.T) {
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
				w.restart()
				a.list()
				w.before = func(call *mcp.Call) (*mcp.Result, error) {
					switch {
					case call.Lane != mcp.LaneEnd:
						return nil, nil
					case c.err != nil:
						return nil, c.err
					}
					return text(c.status, "no"), nil
				}
				end := func() (int, error) {
					res, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, ""))
					if err != nil {
						return 0, err
					}
					return res.Status, nil
				}
				if status, err := end(); err != c.err || status != c.status {
					t.Fatalf("got %v, %v", status, err)
				}
				a.list()
				a.restarted()
				w.before = nil
				if status, err := end(); err != nil || status != 204 || w.live() != 0 {
					t.Errorf("got %v, %v, %d sessions left", status, err, w.live())
				}
			})
		})
	}
}

// TestEndEndsStreams holds that a session that its agent ends ends with its streams.
func TestEndEndsStreams(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		res := a.get(t.Context(), "")
		got := next(res)
		w.stream(t, 1)
		if res, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, "")); err != nil || res.Status != 204 {
			t.Fatalf("%v, %v", res, err)
		}
		if _, err := (<-got)(); err != io.EOF {
			t.Errorf("ended with %v", err)
		}
		closed(t, res)
		if strings.Contains(a.log.String(), "re-opening") {
			t.Error("the stream was opened again")
		}
	})
}
