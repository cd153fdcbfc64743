package streamable_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
)

// TestRecalled: a session whose initialize and lists are remembered has them, byte for byte, without a process. Its first call has the
// spare, to which all is said in order, and which is asked for the lists that the agent was given; from then on lists are that process's.
func TestRecalled(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		before := x.started()
		a := newAgent(t, r.up)
		res := openAt(a)
		if want := `{"jsonrpc":"2.0","id":"i","result":` + x.initialize + `}`; string(res.Body) != want || !res.Remembered || !res.Checked {
			t.Errorf("initialize: %s, %+v", res.Body, res)
		}
		for i, method := range []string{"tools/list", "prompts/list"} {
			want := fmt.Sprintf(`{"jsonrpc":"2.0","id":"list-%d","result":%s}`, i, x.lists[method])
			if got := a.call(lists()[i]); got.body != want {
				t.Errorf("%s: %+v", method, got)
			}
		}
		if got := a.call(`{"jsonrpc":"2.0","id":8,"method":"ping"}`); got.body != `{"jsonrpc":"2.0","id":8,"result":{}}` {
			t.Errorf("ping: %+v", got)
		}
		for _, method := range []string{"notifications/roots/list_changed", "notifications/cancelled"} {
			if res, f := a.do(t.Context(), 0, notification(method)); f != nil || res.Status != 202 {
				t.Errorf("%s: %+v, %v", method, res, f)
			}
		}
		events, _ := a.get(t.Context(), "")
		if x.started() != before || r.pool.Status().Used != 0 || r.front.Recalled() != 1 || n.recalled != 1 {
			t.Fatalf("%d processes were started, %+v, %d sessions need none", x.started()-before, r.pool.Status(), r.front.Recalled())
		}
		if got := a.call(someCall); got.body != fmt.Sprintf(`{"jsonrpc":"2.0","id":9,"result":{"process":%d}}`, before-1) {
			t.Errorf("the first call: %+v", got)
		}
		if got := x.got(before - 1); got != "initialize notifications/initialized "+all+" tools/call" {
			t.Errorf("the process got %s", got)
		}
		if r.front.Recalled() != 0 || n.healed != 0 || len(events) != 0 {
			t.Errorf("%d sessions need no process, %d were healed, %d events", r.front.Recalled(), n.healed, len(events))
		}
		a.call(lists()[0])
		if got := x.got(before - 1); !strings.HasSuffix(got, "tools/call tools/list") {
			t.Errorf("the process got %s", got)
		}
		if res, f := a.do(t.Context(), mcp.LaneEnd, ""); f != nil || res.Status != 204 || n.unneeded != 0 {
			t.Errorf("the end: %+v, %v, %d", res, f, n.unneeded)
		}
		b := newAgent(t, r.up)
		openAt(b)
		if b.do(t.Context(), mcp.LaneEnd, ""); n.unneeded != 1 {
			t.Errorf("%d sessions have ended without a process", n.unneeded)
		}
	})
}

// TestRecalledOnlyWhatWasAsked: another version, capability or client, and a list with a cursor or `_meta`, are not remembered.
func TestRecalledOnlyWhatWasAsked(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		for _, params := range []string{
			`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}`,
			`{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"a","version":"1"}}`,
			`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"2"}}`,
			`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"},"_meta":{"progressToken":1}}`,
		} {
			openWith(newAgent(t, r.up), params, true)
			if n.recalled != 0 {
				t.Fatalf("%s is remembered", params)
			}
		}
		for i, params := range []string{`{"cursor":"1"}`, `{"_meta":{"progressToken":1}}`, `{"_meta":{"a":1}}`, `{"a":{}}`} {
			a := newAgent(t, r.up)
			openWith(a, `{"clientInfo":{"version":"1","name":"a"},"capabilities":{},"protocolVersion":"2025-11-25"}`, true) // the same in another order
			a.call(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":` + params + `}`)
			if n.recalled != i+1 || r.front.Recalled() != 0 {
				t.Errorf("%s has no process (%d)", params, n.recalled)
			}
		}
		for _, params := range []string{`{}`, `{"_meta":{}}`} {
			a := newAgent(t, r.up)
			openAt(a)
			a.call(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":` + params + `}`)
			if r.front.Recalled() != 1 {
				t.Errorf("%s needs a process", params)
			}
			a.do(t.Context(), mcp.LaneEnd, "")
		}
	})
}

// TestRecalledWaits: what asks for more than is remembered waits for the process, and nothing is said in its name before.
func TestRecalledWaits(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		x.slow = 3 * time.Second
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		begun := time.Now()
		results := make(chan said, 2)
		go func() {
			results <- a.call(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}`)
		}()
		synctest.Wait()
		go func() { results <- a.call(someCall) }()
		synctest.Wait()
		if got := a.call(lists()[0]); time.Since(begun) != 0 || !strings.Contains(got.body, "one") { // it has no process yet
			t.Errorf("a list while its process starts: %+v", got)
		}
		if got := a.call(`{"jsonrpc":"2.0","id":8,"method":"ping"}`); time.Since(begun) != 0 || got.failure != nil {
			t.Errorf("a ping while its process starts: %+v", got)
		}
		for range 2 {
			if got := <-results; got.failure != nil || time.Since(begun) != x.slow {
				t.Errorf("after %v: %+v", time.Since(begun), got)
			}
		}
		if got := x.got(2); got != "initialize notifications/initialized "+all+" logging/setLevel tools/call" && got != "initialize notifications/initialized "+all+" tools/call logging/setLevel" {
			t.Errorf("the process got %s", got)
		}
	})
}

// TestRecalledBeforeInitialized: a process is told that the agent is initialized when it is, once, and asked for lists after that only.
func TestRecalledBeforeInitialized(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openWith(a, `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}`, false)
		a.call(lists()[0])
		a.call(someCall)
		a.do(t.Context(), 0, notification("notifications/initialized"))
		if got := x.got(2); got != "initialize tools/call notifications/initialized "+all {
			t.Errorf("the process got %s", got)
		}
	})
}

// TestInitializedOnce: a process that starts while the agent says that it is initialized is told so once.
func TestInitializedOnce(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		x.slow = 3 * time.Second
		a := newAgent(t, r.up)
		openWith(a, `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"another","version":"1"}}`, false)
		x.all[2].End("signal: killed")
		synctest.Wait()
		go a.call(lists()[0])
		time.Sleep(time.Second)
		for range 2 { // the second one is the agent's own matter
			a.do(t.Context(), 0, notification("notifications/initialized"))
		}
		if got := x.got(3); got != "initialize notifications/initialized tools/list notifications/initialized" &&
			got != "initialize notifications/initialized notifications/initialized tools/list" {
			t.Errorf("the process got %s", got)
		}
	})
}

// TestEager: with `processes.lazy: false` the process is there behind the session, and told what comes meanwhile once.
func TestEager(t *testing.T) {
	x := newVersioned()
	o := options{front: func(o *streamable.Options) { o.Eager = true }, pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}
	remembering(t, x, o, func(t *testing.T, r *rig, n *recalls) {
		x.slow = 3 * time.Second
		begun := time.Now()
		a := newAgent(t, r.up)
		openAt(a)
		if got := a.call(lists()[0]); time.Since(begun) != 0 || !strings.Contains(got.body, "one") {
			t.Errorf("after %v: %+v", time.Since(begun), got)
		}
		time.Sleep(4 * time.Second)
		if got := x.got(2); got != "initialize notifications/initialized "+all || r.front.Recalled() != 0 {
			t.Errorf("the process got %s", got)
		}
		if got := a.call(someCall); got.failure != nil || x.started() != 3 {
			t.Errorf("the first call: %+v, %d processes", got, x.started())
		}
	})
}

// TestRecalledStartFails: a start that fails is its request's error, the session stays, and nothing is given from memory until one
// succeeds.
func TestRecalledStartFails(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		x.change(func() { x.fails = true })
		if got := a.call(lists()[0]); got.failure != nil {
			t.Fatalf("a list before: %+v", got)
		}
		fails := func(what string, f *mcp.Failure) {
			t.Helper()
			if f == nil || f.Code != 1502 || f.Sent != mcp.SentNo || !strings.Contains(f.Message, "the token is missing") {
				t.Errorf("%s: %v", what, f)
			}
		}
		fails("the first call", a.call(someCall).failure)
		fails("a list after it", a.call(lists()[0]).failure)
		time.Sleep(5 * time.Second)
		_, f := newAgent(t, r.up).do(t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
		fails("another session", f)
		x.change(func() { x.fails = false })
		time.Sleep(time.Minute)
		if got := a.call(someCall); got.failure != nil || n.healed != 0 {
			t.Errorf("when it starts again: %+v, healed %d", got, n.healed)
		}
		openAt(newAgent(t, r.up))
		if n.recalled != 1 { // its processes end by themselves, as far as is known
			t.Errorf("%d sessions were opened from memory", n.recalled)
		}
		time.Sleep(time.Minute)
		openAt(newAgent(t, r.up))
		if n.recalled != 2 {
			t.Errorf("a minute later %d sessions were opened from memory", n.recalled)
		}
	})
}
