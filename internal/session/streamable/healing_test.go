package streamable_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/streamable"
)

// world is a rig of scripted servers in false time.
func world(t *testing.T, x *scripted, o options, f func(t *testing.T, r *rig, a *agent)) {
	t.Helper()
	if x.version == "" {
		x.version = mcp.Version20251125
	}
	synctest.Test(t, func(t *testing.T) {
		o := o
		o.start = x.start
		r := newRig(t, o)
		f(t, r, newAgent(t, r.up))
	})
}

func toolCall(id int, name, text string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{"text":%q},"_meta":{"progressToken":"t%d"}}}`, id, name, text, id)
}

const list = `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`

// TestHealing holds that a session goes on in another process: with a notice where it had state, once, and not for requests that
// only read; and that the process is told again what the first one was.
func TestHealing(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		a.call(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}`)
		a.call(list)
		x.last().End("signal: killed")
		synctest.Wait()
		x.seen()
		if got := a.call(list); !strings.Contains(got.body, `"from":2`) || got.failure != nil {
			t.Fatalf("without state: %+v", got)
		}
		if got, want := x.seen(), "initialize notifications/initialized logging/setLevel tools/list"; got != want {
			t.Errorf("the new process got %s, want %s", got, want)
		}
		if got := a.call(toolCall(2, "echo", "x")); got.failure != nil {
			t.Fatalf("a call after it: %v", got.failure)
		}
		a.call(`{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"a://\u0062"}}`)
		x.last().End("signal: killed")
		synctest.Wait()
		x.seen()
		if got := a.call(list); got.failure != nil {
			t.Fatalf("a list after the loss: %v", got.failure)
		}
		if got := x.seen(); got != "initialize notifications/initialized logging/setLevel resources/subscribe tools/list" {
			t.Errorf("the third process got %s", got)
		}
		if got := a.call(toolCall(4, "echo", "x")); got.failure == nil || got.failure.Code != 1410 || got.failure.Sent != mcp.SentNo {
			t.Errorf("the first call after the loss: %+v", got)
		}
		if got := a.call(toolCall(5, "echo", "x")); got.failure != nil || !strings.Contains(got.body, `"from":3`) {
			t.Errorf("the second call: %+v", got)
		}
	})
}

// TestCallsMeetTheLoss holds that a call under way gets an error when its process ends, and that all that come during the
// healing and may change something get the notice.
func TestCallsMeetTheLoss(t *testing.T) {
	x := &scripted{slow: time.Second}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		if got := a.call(toolCall(1, "die", "")); got.failure == nil || got.failure.Code != 1502 || got.failure.Reason != mcp.ReasonBrokeOff || got.failure.Sent == mcp.SentNo {
			t.Fatalf("the call in the process that ended: %+v", got)
		}
		results := make(chan said)
		for i := range 2 {
			go func() { results <- a.call(toolCall(10+i, "echo", "x")) }()
		}
		for range 2 {
			if got := <-results; got.failure == nil || got.failure.Code != 1410 {
				t.Errorf("a call during the healing: %+v", got)
			}
		}
		if got := a.call(toolCall(12, "echo", "x")); got.failure != nil {
			t.Errorf("the one after: %v", got.failure)
		}
	})
}

// TestGivenUp holds when a session is lost: another name, too many ends, or no healing at all.
func TestGivenUp(t *testing.T) {
	lost := func(t *testing.T, a *agent, r *rig) {
		t.Helper()
		if got := a.call(list); got.status != 404 || !strings.Contains(got.body, "session not found") || r.store.Len() != 0 {
			t.Errorf("got %+v, %d sessions", got, r.store.Len())
		}
	}
	t.Run("another server", func(t *testing.T) {
		x := &scripted{}
		world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
			a.open(mcp.Version20251125)
			x.name = "other"
			x.last().End("")
			synctest.Wait()
			lost(t, a, r)
		})
	})
	t.Run("too often", func(t *testing.T) {
		x := &scripted{}
		world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
			a.open(mcp.Version20251125)
			for i := range 4 {
				if got := a.call(list); got.status != 200 {
					t.Fatalf("%d: %+v", i, got)
				}
				x.last().End("")
				synctest.Wait()
			}
			lost(t, a, r)
		})
	})
	t.Run("off", func(t *testing.T) {
		x := &scripted{}
		world(t, x, options{front: func(o *streamable.Options) { o.Heal = streamable.HealOff }}, func(t *testing.T, r *rig, a *agent) {
			a.open(mcp.Version20251125)
			x.last().End("")
			synctest.Wait()
			lost(t, a, r)
		})
	})
}

// TestWhoseSession holds that a session is its credential's, and that there is no other way in.
func TestWhoseSession(t *testing.T) {
	x := &scripted{}
	partition := func(c *mcp.Call) (p [32]byte) { copy(p[:], c.Header.Get("Authorization")); return p }
	world(t, x, options{front: func(o *streamable.Options) { o.Partition = partition }}, func(t *testing.T, r *rig, a *agent) {
		a.header.Set("Authorization", "one")
		a.open(mcp.Version20251125)
		other := newAgent(t, r.up)
		other.session = a.session
		if got := other.call(list); got.status != 404 {
			t.Errorf("another credential: %+v", got)
		}
		if got := other.read(other.do(t.Context(), mcp.LaneEnd, "")); got.status != 404 {
			t.Errorf("another credential's DELETE: %+v", got)
		}
		if got := a.call(list); got.status != 200 {
			t.Errorf("its own: %+v", got)
		}
		if got := a.read(a.do(t.Context(), mcp.LaneEnd, "")); got.status != 204 {
			t.Errorf("DELETE: %+v", got)
		}
		if got := a.call(list); got.status != 404 {
			t.Errorf("after the DELETE: %+v", got)
		}
		a.session = ""
		if got := a.call(list); got.status != 400 {
			t.Errorf("without a session: %+v", got)
		}
		synctest.Wait()
		if n := r.pool.Status().Processes; n != 0 {
			t.Errorf("%d processes after the DELETE", n)
		}
	})
}

// TestTriesAgain holds that an agent which did not wait for a slow start waits for the same one when it tries again.
func TestTriesAgain(t *testing.T) {
	x := &scripted{slow: 2 * time.Minute}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		initialize := func(id int) said {
			return a.call(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`, id))
		}
		for id := range 2 {
			if got := initialize(id); got.failure == nil || got.failure.Reason != mcp.ReasonStillStarting {
				t.Errorf("%d: %+v", id, got)
			}
		}
		if got := initialize(2); got.failure != nil || !strings.Contains(got.body, `"id":2,`) {
			t.Errorf("the third: %+v", got)
		}
		if n := x.started(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}
