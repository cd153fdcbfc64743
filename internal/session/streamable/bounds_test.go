package streamable_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
)

// TestBufferBounds holds that what nobody reads is kept up to the bounds, the newest of it, and that a server whose request
// does not fit is told.
func TestBufferBounds(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		synctest.Wait()
		x.seen()
		x.last().Write(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}` + "\n")
		for i := range 300 {
			x.last().Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d}}`+"\n", i)
		}
		synctest.Wait()
		if got := x.seen(); !strings.Contains(got, "-32603") {
			t.Errorf("the request that did not fit got %s", got)
		}
		events, _ := a.get(t.Context(), "")
		for i := 300 - 256; i < 300; i++ {
			if ev := <-events; !strings.Contains(string(ev.Data), fmt.Sprintf(`"n":%d}`, i)) {
				t.Fatalf("event %d is %s", i, ev.Data)
			}
		}
		b := newAgent(t, r.up)
		b.open(mcp.Version20251125)
		for i := range 40 {
			x.last().Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d,"x":%q}}`+"\n", i, strings.Repeat("x", 100<<10))
		}
		synctest.Wait()
		events, _ = b.get(t.Context(), "")
		if ev := <-events; !strings.Contains(string(ev.Data), `"n":30,`) {
			t.Errorf("of 4 MB the first that is kept is %.80s", ev.Data)
		}
		a.read(a.do(t.Context(), mcp.LaneEnd, ""))
		b.read(b.do(t.Context(), mcp.LaneEnd, ""))
	})
}

// TestSlowAgent holds that an agent which does not read gets everything in the end, and that its server waits meanwhile
// instead of filling memory; other sessions go on.
func TestSlowAgent(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		server := x.last()
		res, f := a.do(t.Context(), mcp.LaneRequest, toolCall(1, "ask", "x"))
		if f != nil {
			t.Fatal(f)
		}
		const messages = 40
		written := 0
		go func() {
			for range messages {
				server.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d,"x":%q}}`+"\n", written, strings.Repeat("x", 100<<10))
				written++
			}
		}()
		synctest.Wait()
		if written < 5 || written > 15 {
			t.Errorf("%d messages of 100 KiB were taken from the server", written)
		}
		b := newAgent(t, r.up)
		b.open(mcp.Version20251125)
		if got := b.call(list); got.status != 200 {
			t.Errorf("another session: %+v", got)
		}
		for n := -1; n < messages; n++ { // the first is the server's request
			ev, err := res.Events.Next()
			if err != nil || n >= 0 && !strings.Contains(string(ev.Data), fmt.Sprintf(`"n":%d,`, n)) {
				t.Fatalf("event %d is %.80s, %v", n, ev.Data, err)
			}
		}
		a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":1,"result":{}}`))
		if ev, err := res.Events.Next(); err != nil || !ev.Answer {
			t.Errorf("%s, %v", ev.Data, err)
		}
		if _, err := res.Events.Next(); err != io.EOF {
			t.Error(err)
		}
		closeResult(t, res)
	})
}

// TestManyRequests holds that a process has at most so many requests without an answer, and that there is room again for one answered.
func TestManyRequests(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		events, _ := a.get(t.Context(), "")
		synctest.Wait()
		x.seen()
		ask := func(id int) {
			x.last().Write(`{"jsonrpc":"2.0","id":"%d","method":"roots/list"}`+"\n", id)
			synctest.Wait()
		}
		for id := range 256 {
			ask(id)
		}
		if got := x.seen(); got != "" || len(events) != 256 {
			t.Errorf("%d received, the server got %s", len(events), got)
		}
		ask(256)
		if got := x.seen(); !strings.Contains(got, "-32603") || !strings.Contains(got, "too many") || len(events) != 256 {
			t.Errorf("one more: %d received, the server got %s", len(events), got)
		}
		a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":"7","result":{}}`))
		ask(257)
		if got := x.seen(); strings.Contains(got, "-32603") || len(events) != 257 {
			t.Errorf("after an answer: %d received, the server got %s", len(events), got)
		}
	})
}

// TestManyPings holds that what the daemon says by itself to a process which asks and does not read is bounded, and that it answers again
// when that reads.
func TestManyPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		start, received := stalling(mcp.Version20251125, gate)
		var server *mcptest.Stdio
		a := newAgent(t, newRig(t, options{start: func(ctx context.Context) (stdio.Process, func(), error) {
			p, settled, err := start(ctx)
			server, _ = p.(*mcptest.Stdio)
			return p, settled, err
		}}).up)
		a.open(mcp.Version20251125)
		ping := func(n int) {
			for range n {
				server.Write(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n")
			}
			synctest.Wait()
		}
		ping(500)
		close(gate)
		synctest.Wait()
		if n := len(received()); n != 64 {
			t.Errorf("%d answers were on their way", n)
		}
		ping(10)
		if n := len(received()); n != 74 {
			t.Errorf("%d answers in all", n)
		}
	})
}

// TestSpareThatWrites holds that what a process writes before a session has it is given to that first, and has a bound, at which it ends.
func TestSpareThatWrites(t *testing.T) {
	for lines, ends := range map[int]bool{6: false, 7: true} {
		x := &scripted{slow: time.Minute}
		world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
			if got := a.call(initializeCall); got.failure == nil || got.failure.Reason != mcp.ReasonStillStarting {
				t.Fatalf("%+v", got)
			}
			time.Sleep(10 * time.Second)
			server := x.last()
			for n := range lines {
				server.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d,"x":%q}}`+"\n", n, strings.Repeat("x", 10<<10))
			}
			synctest.Wait()
			if isStopped(server) != ends {
				t.Fatalf("%d lines of 10 KiB: ended: %v", lines, !ends)
			}
			if ends {
				return
			}
			a.open(mcp.Version20251125)
			got := a.call(list)
			if len(got.events) != lines+1 || x.last() != server {
				t.Fatalf("%+v", got)
			}
			for n := range lines {
				if !strings.Contains(string(got.events[n].Data), fmt.Sprintf(`"n":%d,`, n)) {
					t.Errorf("event %d: %.80s", n, got.events[n].Data)
				}
			}
		})
	}
}

// TestManyTasks holds that the progress tokens of the last 256 tasks are known.
func TestManyTasks(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		events, _ := a.get(t.Context(), "")
		x.seen()
		for n := range 257 {
			a.call(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","task":{},"_meta":{"progressToken":"t%d"}}}`, n, n))
		}
		tokens := x.tokens()
		for _, n := range []int{0, 1, 256} {
			x.last().Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`+"\n", tokens[n])
		}
		synctest.Wait()
		for _, want := range []string{`"t1"`, `"t256"`} {
			if len(events) == 0 {
				t.Fatalf("no progress of %s", want)
			}
			if ev := <-events; !strings.Contains(string(ev.Data), want) {
				t.Errorf("%s, want that of %s", ev.Data, want)
			}
		}
	})
}

// TestTotal holds that the bound over all entries takes processes from any of them.
func TestTotal(t *testing.T) {
	x := &scripted{version: mcp.Version20251125}
	y := &scripted{version: mcp.Version20251125}
	synctest.Test(t, func(t *testing.T) {
		total := &stdio.Total{Max: 3}
		pool := func(o *stdio.PoolOptions) { o.Total = total }
		one := newRig(t, options{start: x.start, pool: pool})
		two := newRig(t, options{start: y.start, pool: pool})
		for range 3 {
			newAgent(t, one.up).open(mcp.Version20251125)
		}
		begun := time.Now()
		for range 3 {
			newAgent(t, two.up).open(mcp.Version20251125)
		}
		synctest.Wait()
		if a, b := one.pool.Status().Processes, two.pool.Status().Processes; a+b != 3 || b == 0 || time.Since(begun) > 5*time.Second {
			t.Errorf("%d and %d processes after %v", a, b, time.Since(begun))
		}
	})
}

// TestStreamOfLostCall holds what becomes of a POST's stream whose process ends: the call's error at once, and once more for an
// agent that asks for the rest, with the daemon or with the next one.
func TestStreamOfLostCall(t *testing.T) {
	o := options{path: filepath.Join(t.TempDir(), "sessions")}
	x := &scripted{}
	var session, last string
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		session = a.session
		res, f := a.do(t.Context(), mcp.LaneRequest, toolCall(1, "ask", "x"))
		if f != nil {
			t.Fatal(f)
		}
		ev, err := res.Events.Next()
		if err != nil {
			t.Fatal(err)
		}
		last = string(ev.ID)
		x.last().End("signal: killed")
		if ev, err := res.Events.Next(); err != nil || ev.Failure == nil || ev.Failure.Code != 1502 || string(ev.FailedID) != "1" {
			t.Errorf("%+v, %v", ev, err)
		}
		if _, err := res.Events.Next(); err != io.EOF {
			t.Errorf("then %v", err)
		}
		closeResult(t, res)
		events, _ := a.get(t.Context(), last)
		if ev := <-events; ev.Failure == nil || string(ev.FailedID) != "1" {
			t.Errorf("resumed: %+v", ev)
		}
		time.Sleep(time.Second)
	})
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.session = session
		events, _ := a.get(t.Context(), last)
		if ev := <-events; ev.Failure == nil || ev.Failure.Reason != mcp.ReasonSessionLost || string(ev.FailedID) != "1" {
			t.Errorf("after the restart: %+v", ev)
		}
		if _, open := <-events; open {
			t.Error("the stream goes on")
		}
		if _, res := a.get(t.Context(), last); res.Status != 405 {
			t.Errorf("once more: %d", res.Status)
		}
		if events, res := a.get(t.Context(), strings.Replace(last, "-1-0-MQ", "-0-0", 1)); events == nil {
			t.Errorf("the GET stream: %d", res.Status)
		}
		a.read(a.do(t.Context(), mcp.LaneEnd, ""))
		time.Sleep(time.Second)
	})
}

// TestHealAll holds that nobody is told where the operator says that there is no state.
func TestHealAll(t *testing.T) {
	x := &scripted{}
	world(t, x, options{front: func(o *streamable.Options) { o.Heal = streamable.HealAll }}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		a.call(toolCall(1, "count", ""))
		x.last().End("")
		synctest.Wait()
		if got := a.call(toolCall(2, "count", "")); got.failure != nil {
			t.Errorf("%v", got.failure)
		}
	})
}

// TestWhatNeedsNoProcess holds what is answered without a process: a ping, and what only a former process could have asked for.
func TestWhatNeedsNoProcess(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		x.last().End("")
		synctest.Wait()
		if got := a.call(`{"jsonrpc":"2.0","id":"p","method":"ping"}`); got.body != `{"jsonrpc":"2.0","id":"p","result":{}}` {
			t.Errorf("ping: %+v", got)
		}
		for _, body := range []string{
			`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
			`{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}`,
		} {
			if got := a.read(a.do(t.Context(), 0, body)); got.status != 202 {
				t.Errorf("%s: %+v", body, got)
			}
		}
		if n := x.started(); n != 1 {
			t.Errorf("%d processes", n)
		}
	})
}

// TestAbandonedSessions holds that a thousand sessions, opened one after another and abandoned, are all served by few processes
// beside four with state, that one of them goes on later, and that nothing is left after a day.
func TestAbandonedSessions(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, _ *agent) {
		stop := make(chan struct{})
		var beside sync.WaitGroup
		for range 4 {
			beside.Go(func() {
				a := newAgent(t, r.up)
				a.open(mcp.Version20251125)
				for n := 1; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Second):
					}
					if got := a.call(toolCall(n, "count", "")); got.failure != nil {
						t.Errorf("beside: %v", got.failure)
					}
				}
			})
		}
		time.Sleep(6 * time.Second) // they have state
		begun := time.Now()
		var abandoned []*agent
		for i := range 1000 {
			a := newAgent(t, r.up)
			a.open(mcp.Version20251125)
			if got := a.call(list); got.failure != nil || got.status != 200 {
				t.Fatalf("%d: %+v", i, got)
			}
			abandoned = append(abandoned, a)
		}
		if took := time.Since(begun); took > 2*time.Minute {
			t.Errorf("a thousand took %v", took)
		}
		if n := r.pool.Status().Processes; n > 16 {
			t.Errorf("%d processes", n)
		}
		close(stop)
		beside.Wait()
		if got := abandoned[3].call(toolCall(1, "count", "")); got.failure != nil {
			t.Errorf("one of them, later: %v", got.failure)
		}
		time.Sleep(26 * time.Hour)
		synctest.Wait()
		if n, m := r.pool.Status().Processes, r.store.Len(); n != 0 || m != 0 {
			t.Errorf("%d processes and %d sessions are left", n, m)
		}
	})
}

// TestReload holds that sessions go on in the Front that takes the place of theirs, while what is under way ends in the old one.
func TestReload(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		idle := newAgent(t, r.up)
		idle.open(mcp.Version20251125)
		events, _ := a.get(t.Context(), "")
		others, _ := idle.get(t.Context(), "")
		slow := make(chan said)
		go func() { slow <- a.call(toolCall(1, "slow", "")) }()
		synctest.Wait()
		next := newRig(t, options{start: x.start, store: r.store})
		a.caller = next.up
		if got := a.call(toolCall(2, "count", "")); got.failure == nil || got.failure.Code != 1410 {
			t.Errorf("in the new one: %+v", got)
		}
		if got := a.call(toolCall(3, "count", "")); got.failure != nil || !strings.Contains(got.body, `"from":3`) {
			t.Errorf("and then: %+v", got)
		}
		if _, open := <-events; open {
			t.Error("the GET stream stays at the old one")
		}
		if got := <-slow; got.failure != nil || len(got.events) == 0 {
			t.Errorf("what was under way: %+v", got)
		}
		begun := time.Now()
		r.front.Close()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the old one's end took %v", took)
		}
		if _, open := <-others; open {
			t.Error("the GET stream outlives the old one")
		}
		idle.caller = next.up
		if got := idle.call(list); got.failure != nil || got.status != 200 {
			t.Errorf("after the old one's end: %+v", got)
		}
		if n := r.store.Len(); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

// TestLargeInitialize holds that an initialize which is too long for the session to be opened again is not kept for nothing.
func TestLargeInitialize(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		held := func() int64 {
			x.seen()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := held()
		pad := strings.Repeat("x", 1<<19)
		for range 8 {
			one := newAgent(t, r.up)
			res, f := one.do(t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","pad":"`+pad+`"}}`)
			if f != nil || res.Header.Get("Mcp-Session-Id") == "" {
				t.Fatalf("%v", f)
			}
		}
		synctest.Wait()
		if grown := held() - before; grown > 2<<20 {
			t.Errorf("8 sessions hold %d KiB", grown>>10)
		}
	})
}
