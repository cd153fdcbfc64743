package session_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestStress restarts a server again and again under the requests and streams of many sessions, in both forms: before it
// ran, and after. Nothing runs twice, no answer is another's, every call ends, and all of it works in the end.
func TestStress(t *testing.T) {
	for name, heal := range map[string]session.Heal{"reads": session.HealReads, "all": session.HealAll} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *fakeServer) {
				w.slow = 50 * time.Millisecond
				w.after = func(c *mcp.Call, res *mcp.Result) (*mcp.Result, error) {
					if c.Lane == mcp.LaneRequest && c.Method() == mcp.MethodToolsCall && rand.N(20) == 0 {
						return nil, errBroke
					}
					return res, nil
				}
				first := newAgent(t, w, heal)
				first.begin()
				var wg sync.WaitGroup
				var streams []*mcp.Result
				for i := range 5 {
					a := *first
					if i > 0 {
						a.id = ""
						a.begin()
					}
					res := a.get(t.Context(), "")
					streams = append(streams, res)
					wg.Go(func() {
						if _, err := res.Events.Next(); err != nil && err != io.EOF && !errors.Is(err, t.Context().Err()) {
							t.Errorf("a stream ended with %v", err)
						}
					})
					for j := range 6 {
						b := a
						b.n = 1_000_000*(i+1) + 10_000*j
						wg.Go(b.work)
					}
				}
				for range 10 {
					wait(rand.N(30 * time.Second))
					w.restart()
				}
				wait(2 * time.Minute)
				w.mu.Lock()
				for _, l := range w.sessions {
					for _, f := range l.streams {
						f.end <- io.EOF
					}
				}
				w.mu.Unlock()
				wg.Wait()
				for _, res := range streams {
					closed(t, res)
				}
				for call, n := range w.ran {
					if n != 1 && call[:4] != "heal" {
						t.Errorf("%s ran %d times", call, n)
					}
				}
				if live := w.live(); live > 5 {
					t.Errorf("%d sessions on the server", live)
				}
				first.list()
			})
		})
	}
}

// work sends requests for five minutes.
func (a *agent) work() {
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); wait(rand.N(4 * time.Second)) {
		text := a.request("tools/call", `{"name":"t"}`)
		if rand.N(2) == 0 {
			text = a.request("resources/read", `{"uri":"test://1"}`)
		}
		res, err := a.post(a.t.Context(), text)
		var f *mcp.Failure
		switch {
		case errors.As(err, &f) && (f.Reason == mcp.ReasonBrokeOff || f.Reason == mcp.ReasonSessionRestarted):
		case err != nil:
			a.t.Errorf("%s: %v", text, err)
		case res.Status == 404:
			must(res.Close())
		default:
			if got, want := body(a.t, res), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{}}`, a.n); got != want {
				a.t.Errorf("%s: got %s", text, got)
			}
		}
	}
}
