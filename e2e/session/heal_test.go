// A session that its server has lost is opened anew, once, and its agent goes on.

package session

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// runHealing starts a sessionServer and a daemon before it. Heal is `sessions.heal`; "" leaves the default.
func runHealing(t *testing.T, heal string) (*sessionServer, *harness.Daemon) {
	t.Helper()
	f := startSessionServer(t)
	keys := "streams: {reopen: 60s}"
	if heal != "" {
		keys += ", sessions: {heal: " + heal + "}"
	}
	return f, harness.Start(t, harness.OneUpstream(f.URL(), keys))
}

// TestSessionHeals: the server loses a session, however it says so. The agent's next read goes on as if nothing had been,
// on a session that was told all that the first one had been told, in that order. Then the first call that is more than a
// read is refused, once, without having been sent.
func TestSessionHeals(t *testing.T) {
	t.Parallel()
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			f.become(func(p *identity) { p.lost = loss })
			k := beginSession(t, d)
			k.right(k.ask("logging/setLevel", `{"level":"error"}`))
			k.right(k.ask("logging/setLevel", `{"level":"debug"}`))
			k.right(k.ask("resources/subscribe", `{"uri":"a://1"}`))
			k.right(k.ask("resources/subscribe", `{"uri":"a://2"}`))
			k.right(k.ask("resources/unsubscribe", `{"uri":"a://1"}`))
			k.right(k.call("before"))
			f.restart()

			before := len(f.received())
			r := k.list()
			k.right(r)
			if !strings.Contains(r.Body, `"from":"s2"`) {
				t.Errorf("the list is not of the new session: %s", r.Body)
			}
			want := []string{"s1 tools/list"}
			if name == "400 -32001" { // words of nobody's: a ping tells
				want = append(want, "s1 ping")
			}
			want = append(want, "- initialize", "s2 notifications/initialized", "s2 logging/setLevel", "s2 resources/subscribe", "s2 tools/list")
			if got := f.received()[before:]; !slices.Equal(got, want) {
				t.Errorf("the server got %q, want %q", got, want)
			}
			if got := f.last("initialize"); got != hello {
				t.Errorf("opened again by %s, want the agent's own %s", got, hello)
			}
			s := f.kept("s2")
			if s == nil || s.level != "debug" || !maps.Equal(s.subscribed, map[string]bool{"a://2": true}) {
				t.Errorf("the new session was told %+v", s)
			}
			k.right(k.ask("resources/read", `{"uri":"a://1"}`))
			if r := k.say(harness.Notification("notifications/roots/list_changed")); r.Status != http.StatusAccepted {
				t.Errorf("a notification: %d %s", r.Status, r.Body)
			}
			k.told(k.call("refused"))
			k.right(k.call("after"))
			k.right(k.call("after that"))
			for token, want := range map[string]int{"before": 1, "refused": 0, "after": 1, "after that": 1} {
				if n := f.runs(token); n != want {
					t.Errorf("the call %q ran %d times, want %d", token, n, want)
				}
			}
			if n := heals(d, "healed"); n != 1 {
				t.Errorf("%d healings are counted, want 1", n)
			}
		})
	}
}

// TestWhatIsNoLoss: answers that look like a loss and are none pass as they are.
func TestWhatIsNoLoss(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"a method that is not there": {404, `{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"Method not found"}}`},
		"a bad request":              {400, `{"jsonrpc":"2.0","id":%d,"error":{"code":-32600,"message":"bad session"}}`},
		"text":                       {400, "session not found (request %d)"},
		"not allowed":                {403, "session not found (request %d)"},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.Replace(c.body, "%d", fmt.Sprint(k.asks+1), 1)
			kind := "text/plain"
			if body[0] == '{' {
				kind = "application/json"
			}
			f.Once(mcptest.Saying(c.status, kind, body))
			if r := k.list(); r.Status != c.status || r.Body != body {
				t.Errorf("got %d %s, want %d %s", r.Status, r.Body, c.status, body)
			}
			k.right(k.call(name))
		})
	}
	if n := f.saw("initialize"); n != 1 {
		t.Errorf("the server got %d initialize, want the agent's alone", n)
	}
}

// TestFirstCallMeetsTheLoss: a call that is more than a read sets the healing off itself. It gets the word, and the next
// one goes through; with heal: all it is sent on the new session at once.
func TestFirstCallMeetsTheLoss(t *testing.T) {
	t.Parallel()
	for heal, refused := range map[string]bool{"reads": true, "all": false} {
		t.Run(heal, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, heal)
			k := beginSession(t, d)
			k.right(k.call("1"))
			f.restart()
			if r := k.call("2"); refused {
				k.told(r)
			} else {
				k.right(r)
			}
			k.right(k.list())
			k.right(k.call("3"))
			want := map[string]int{"1": 1, "2": 1, "3": 1}
			if refused {
				want["2"] = 0
			}
			for token, n := range want {
				if got := f.runs(token); got != n {
					t.Errorf("the call %s ran %d times, want %d", token, got, n)
				}
			}
		})
	}
}

// TestNotificationMeetsTheLoss: it is taken, on the new session, and the word is kept for the first call.
func TestNotificationMeetsTheLoss(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	f.restart()
	if r := k.say(harness.Notification("notifications/roots/list_changed")); r.Status != http.StatusAccepted {
		t.Fatalf("got %d %s", r.Status, r.Body)
	}
	if n := f.saw("s2 notifications/roots/list_changed"); n != 1 {
		t.Errorf("the new session got %d of it, want 1", n)
	}
	k.told(k.call("1"))
	k.right(k.call("2"))
}

// TestManyMeetTheLoss: all who meet it at once wait for one healing. Reads go on; each call is refused or, if it came after
// the first word, sent; none is run twice.
func TestManyMeetTheLoss(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	f.restart()
	const agents = 40
	var wg sync.WaitGroup
	calls := make([]harness.Reply, agents)
	for i := range agents {
		own := k.as()
		own.asks = i
		wg.Go(func() {
			if i%2 == 0 {
				own.right(own.list())
				return
			}
			calls[i] = own.call(fmt.Sprint("agent ", i))
		})
	}
	wg.Wait()
	refused := 0
	for i := 1; i < agents; i += 2 {
		ran := f.runs(fmt.Sprint("agent ", i))
		switch a := calls[i].RPC(t); {
		case a.Error != nil && a.Error.Code == 1410:
			refused++
			if ran != 0 {
				t.Errorf("call %d was refused as not sent, and ran %d times", i, ran)
			}
		case a.Result == nil:
			t.Errorf("call %d: %d %s", i, calls[i].Status, calls[i].Body)
		case ran != 1:
			t.Errorf("call %d was answered, and ran %d times", i, ran)
		}
	}
	if refused == 0 {
		t.Error("no call was told")
	}
	if n := f.saw("initialize"); n != 2 {
		t.Errorf("the server got %d initialize, want the agent's and one more", n)
	}
	k.right(k.call("after"))
}

// TestHealsAgain: three times within a minute; the next loss is passed on.
func TestHealsAgain(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	for range 3 {
		f.forget()
		k.right(k.list())
		k.told(k.call("refused"))
		k.right(k.call("sent"))
	}
	f.forget()
	passedOn(t, k.list())
	passedOn(t, k.call("refused"))
	if n, runs := f.saw("initialize"), f.runs("sent"); n != 4 || runs != 3 || f.runs("refused") != 0 {
		t.Errorf("%d initialize, %d calls were run, %d refused ones: want 4, 3, 0", n, runs, f.runs("refused"))
	}
}

// TestEndOfHealedSession: the agent's DELETE reaches the session that the server knows, and ends the healing.
func TestEndOfHealedSession(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	f.forget()
	k.right(k.list())
	if r := k.Must(http.MethodDelete, "/mcp/s", "", k.with()...); r.Status != http.StatusOK {
		t.Errorf("DELETE: %d %s", r.Status, r.Body)
	}
	if n := f.saw("s2 DELETE"); n != 1 {
		t.Errorf("the new session was ended %d times: %q", n, f.received())
	}
	if r := k.list(); r.Status != http.StatusNotFound {
		t.Errorf("after the end: %d %s", r.Status, r.Body)
	}
	if n := f.saw("initialize"); n != 2 {
		t.Errorf("%d initialize: an ended session was opened again", n)
	}
}
