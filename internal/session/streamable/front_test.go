package streamable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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

// TestOnWhichStream holds where a message goes that names no request, and that it can be had again.
func TestOnWhichStream(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		note := func(text string) {
			x.last().Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"text":%q}}`+"\n", text)
			synctest.Wait()
		}
		note("early") // waits
		ctx, leave := context.WithCancel(t.Context())
		events, _ := a.get(ctx, "")
		first := <-events
		if !strings.Contains(string(first.Data), "early") {
			t.Errorf("first on GET: %s", first.Data)
		}
		hang := func(id int) (chan said, context.CancelFunc) {
			got := make(chan said, 1)
			ctx, leave := context.WithCancel(t.Context())
			go func() { got <- a.read(a.do(ctx, mcp.LaneRequest, toolCall(id, "hang", ""))) }()
			synctest.Wait()
			return got, leave
		}
		one, leaveOne := hang(1)
		note("with one call")
		two, leaveTwo := hang(2)
		note("with two calls")
		if ev := <-events; !strings.Contains(string(ev.Data), "with two calls") {
			t.Errorf("on GET: %s", ev.Data)
		}
		leave()
		synctest.Wait()
		note("oldest")
		leaveOne()
		leaveTwo()
		for i, got := range []said{<-one, <-two} {
			var texts []string
			for _, ev := range got.events {
				texts = append(texts, string(ev.Data))
			}
			all := strings.Join(texts, "\n")
			if isFirst := i == 0; strings.Contains(all, "with one call") != isFirst || strings.Contains(all, "oldest") != isFirst || strings.Contains(all, "with two calls") {
				t.Errorf("call %d got %s", i+1, all)
			}
		}
		note("afterwards")
		events, _ = a.get(t.Context(), string(first.ID))
		for _, want := range []string{"with two calls", "afterwards"} {
			if ev := <-events; !strings.Contains(string(ev.Data), want) {
				t.Errorf("resumed: %s, want %s", ev.Data, want)
			}
		}
		if _, res := a.get(t.Context(), ""); res.Status != 409 {
			t.Errorf("a second GET: %d", res.Status)
		}
		a.read(a.do(t.Context(), mcp.LaneEnd, ""))
		if _, open := <-events; open {
			t.Error("the GET stream outlives its session")
		}
	})
}

// TestWithdrawnWhereItWasAsked holds that the cancellation of a server's request goes on the stream on which the request went, and one of
// nothing that waits as any message.
func TestWithdrawnWhereItWasAsked(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		got := make([]chan said, 2)
		leave := make([]context.CancelFunc, 2)
		hang := func(i int) {
			var ctx context.Context
			ctx, leave[i] = context.WithCancel(t.Context())
			got[i] = make(chan said, 1)
			go func() { got[i] <- a.read(a.do(ctx, mcp.LaneRequest, toolCall(i, "hang", ""))) }()
			synctest.Wait()
		}
		write := func(message string) {
			x.last().Write("%s\n", message)
			synctest.Wait()
		}
		hang(0)
		write(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}`)
		hang(1)
		events, _ := a.get(t.Context(), "")
		write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"r"}}`)
		write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"unknown"}}`)
		if ev := <-events; !strings.Contains(string(ev.Data), `"unknown"`) || len(events) != 0 {
			t.Errorf("on GET: %s, and %d more", ev.Data, len(events))
		}
		for i, want := range []int{2, 0} {
			leave[i]()
			if got := <-got[i]; len(got.events) != want || want > 0 && !strings.Contains(string(got.events[1].Data), `"requestId":"r"`) {
				t.Errorf("call %d got %+v", i, got.events)
			}
		}
	})
}

// TestNextStream holds that what finds no stream waits for the agent's next one, whichever that is: for an agent that never opens GET, on
// that of its next request, in order, before the answer, and nowhere else.
func TestNextStream(t *testing.T) {
	for version, body := range map[string]string{mcp.Version20251125: list, mcp.Version20250326: "[" + list + "," + list + "]"} {
		x := &scripted{version: version}
		world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
			a.open(version)
			write := func(message string) {
				x.last().Write("%s\n", message)
				synctest.Wait()
			}
			write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"text":"one"}}`)
			write(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}`)
			x.seen()
			got := a.call(body)
			if n := strings.Count(body, "tools/list"); got.failure != nil || len(got.events) != 2+n {
				t.Fatalf("%s: %+v", version, got)
			}
			for i, want := range []string{`"one"`, "roots/list", `"result"`} {
				if !strings.Contains(string(got.events[i].Data), want) {
					t.Errorf("%s: event %d is %s, want %s", version, i, got.events[i].Data, want)
				}
			}
			time.Sleep(2 * time.Minute) // it has been given to its agent, who may wait for a person
			if got := a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":"r","result":{"roots":[]}}`)); got.status != 202 {
				t.Errorf("%s: the answer to the server: %+v", version, got)
			}
			synctest.Wait()
			if got := x.seen(); !strings.HasSuffix(got, `{"roots":[]}`) {
				t.Errorf("%s: the server got %s", version, got)
			}
			if got := a.call(body); got.isStream {
				t.Errorf("%s: nothing waits: %+v", version, got)
			}
			again, _ := a.get(t.Context(), string(got.events[0].ID))
			for _, want := range got.events[1:] {
				if ev := <-again; string(ev.ID) != string(want.ID) || string(ev.Data) != string(want.Data) {
					t.Errorf("%s: resumed: %s, want %s", version, ev.Data, want.Data)
				}
			}
			ctx, leave := context.WithCancel(t.Context())
			events, _ := a.get(ctx, "")
			write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"text":"two"}}`)
			if ev := <-events; !strings.Contains(string(ev.Data), "two") || len(events) != 0 {
				t.Errorf("%s: on GET: %s, and %d more", version, ev.Data, len(events))
			}
			leave()
			synctest.Wait()
			if got := a.call(body); got.isStream {
				t.Errorf("%s: after a GET stream: %+v", version, got)
			}
		})
	}
}

// TestResume holds that a POST's stream can be had again after its agent has left, and that its end is told.
func TestResume(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		ctx, leave := context.WithCancel(t.Context())
		res, f := a.do(ctx, mcp.LaneRequest, toolCall(1, "ask", "x"))
		if f != nil {
			t.Fatal(f)
		}
		ev, err := res.Events.Next()
		if err != nil || !strings.Contains(string(ev.Data), "roots/list") {
			t.Fatalf("%s, %v", ev.Data, err)
		}
		last := string(ev.ID)
		x.last().Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"text":"unread"}}` + "\n")
		synctest.Wait()
		leave()
		closeResult(t, res)
		if got := a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":1,"result":{"roots":["mine"]}}`)); got.status != 202 {
			t.Fatalf("the answer: %+v", got)
		}
		events, _ := a.get(t.Context(), last)
		if ev := <-events; !strings.Contains(string(ev.Data), "unread") {
			t.Errorf("resumed: %s", ev.Data)
		}
		if ev := <-events; !strings.Contains(string(ev.Data), `"id":1`) || !strings.Contains(string(ev.Data), "mine") {
			t.Errorf("resumed: %s", ev.Data)
		} else {
			last = string(ev.ID)
		}
		if _, open := <-events; open {
			t.Error("the stream goes on after the answer")
		}
		if _, res := a.get(t.Context(), last); res.Status != 405 {
			t.Errorf("once more: %d", res.Status)
		}
	})
}

// TestSaidBeforeTheSession holds that of much that a process says before it has a session the latest is kept, as later.
func TestSaidBeforeTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newVersioned()
		x.before = 300
		r := x.rig(t, options{}, nil, &recalls{})
		a := newAgent(t, r.up)
		openAt(a)
		events, _ := a.get(t.Context(), "")
		for i := 300 - 256; i < 300; i++ {
			if ev := <-events; !strings.Contains(string(ev.Data), fmt.Sprintf(`"%d."`, i)) {
				t.Fatalf("got %s, want %d", ev.Data, i)
			}
		}
	})
}

// TestServersRequests holds that a ping is answered here, that a request which no agent takes is refused after a minute, and
// that an answer to what was not asked goes nowhere.
func TestServersRequests(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		synctest.Wait()
		x.seen()
		x.last().Write(`{"jsonrpc":"2.0","id":"p","method":"ping"}` + "\n")
		synctest.Wait()
		if got := x.seen(); got != "{}" {
			t.Errorf("a ping got %s", got)
		}
		x.last().Write(`{"jsonrpc":"2.0","id":"r","method":"roots/list"}` + "\n")
		time.Sleep(59 * time.Second)
		if got := x.seen(); got != "" {
			t.Errorf("early: %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := x.seen(); !strings.Contains(got, "-32603") {
			t.Errorf("a request that nobody took got %s", got)
		}
		a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":"r","result":{}}`))
		synctest.Wait()
		if got := x.seen(); got != "" {
			t.Errorf("the server got %s", got)
		}
	})
}

// TestSlowAnswer holds that an answer that takes its time becomes a stream that is not silent, and that a call which hangs
// ends by its timeout, the server being told.
func TestSlowAnswer(t *testing.T) {
	x := &scripted{}
	world(t, x, options{front: func(o *streamable.Options) { o.Call = time.Minute }}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		begun := time.Now()
		res, f := a.do(t.Context(), mcp.LaneRequest, toolCall(1, "slow", "x"))
		if f != nil || res.Events == nil || time.Since(begun) != 15*time.Second {
			t.Fatalf("%+v, %v after %v", res, f, time.Since(begun))
		}
		got := a.read(res, nil)
		if n := len(got.events); n != 2 || got.events[0].Data != nil || !got.events[1].Answer || !got.events[1].Exact {
			t.Errorf("%d events: %+v", n, got.events)
		}
		x.seen()
		begun = time.Now()
		got = a.call(toolCall(2, "hang", ""))
		if got.failure == nil || got.failure.Reason != mcp.ReasonCallTimeout || !got.failure.Silent || time.Since(begun) != time.Minute {
			t.Errorf("a call that hangs: %+v after %v", got, time.Since(begun))
		}
		synctest.Wait()
		if got := x.seen(); got != "tools/call notifications/cancelled ping" && got != "tools/call ping notifications/cancelled" {
			t.Errorf("the server got %s", got)
		}
	})
}

// TestCancelled holds that a cancellation reaches the server under the id that it knows.
func TestCancelled(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		got := make(chan said)
		go func() { got <- a.call(toolCall(1, "hang", "")) }()
		time.Sleep(12 * time.Second)
		cancel := a.make(0, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
		if f := r.front.GivenUp(cancel, 10*time.Second); f == nil || !f.Silent || f.Waited != 12*time.Second {
			t.Errorf("given up: %+v", f)
		}
		if f := r.front.GivenUp(cancel, 10*time.Second); f != nil {
			t.Errorf("given up again: %+v", f)
		}
		for _, id := range []string{"1", "2"} {
			if got := a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`)); got.status != 202 {
				t.Errorf("%+v", got)
			}
		}
		synctest.Wait()
		x.mu.Lock()
		lines := x.lines[len(x.lines)-3:] // the last is a ping
		x.mu.Unlock()
		var id string
		if _, err := fmt.Sscanf(lines[0], `{"jsonrpc":"2.0","id":%16s,`, &id); err != nil || !strings.Contains(lines[1], `"requestId":`+id+`}`) {
			t.Errorf("%s then %s: %v", lines[0], lines[1], err)
		}
		if f := (<-got).failure; f == nil || f.Reason != mcp.ReasonCanceled || !f.Counted {
			t.Errorf("the call ended by %v", f)
		}
	})
}

// stalling is a server of that version which does not read from when it is initialized until gate is closed, and what came after that.
func stalling(version string, gate <-chan struct{}) (start stdio.Start, received func() []mcptest.StdioRequest) {
	var mu sync.Mutex
	var all []mcptest.StdioRequest
	return func(context.Context) (stdio.Process, func(), error) {
			return mcptest.NewStdio(func(s *mcptest.Stdio) {
				for {
					r, ok := s.Next()
					switch {
					case !ok:
						return
					case r.Method == "initialize":
						s.Initialize(r, version)
						continue
					case r.Method == "notifications/initialized":
						<-gate
						continue
					case r.ID != nil:
						s.Result(r, `{"name":"`+r.Params.Name+`"}`)
					}
					mu.Lock()
					all = append(all, r)
					mu.Unlock()
				}
			}), nil, nil
		}, func() []mcptest.StdioRequest {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
}

// TestCancelledBeforeItIsWritten holds that a call which its agent cancels while it waits to be written is never sent, and that one which is
// being written is followed by its cancellation. Other requests of an array go on.
func TestCancelledBeforeItIsWritten(t *testing.T) {
	cancel := func(id int) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, id)
	}
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		start, received := stalling(mcp.Version20251125, gate)
		a := newAgent(t, newRig(t, options{start: start}).up)
		a.open(mcp.Version20251125)
		written, waits := make(chan said, 1), make(chan said, 1)
		go func() { written <- a.call(toolCall(1, "written", "")) }()
		synctest.Wait()
		go func() { waits <- a.call(toolCall(2, "waits", "")) }()
		synctest.Wait()
		begun := time.Now()
		if got := a.read(a.do(t.Context(), 0, cancel(2))); got.status != 202 {
			t.Errorf("the cancellation: %+v", got)
		}
		if f := (<-waits).failure; f == nil || f.Reason != mcp.ReasonCanceled || f.Sent != mcp.SentNo || time.Since(begun) != 0 {
			t.Errorf("what waits: %v after %v", f, time.Since(begun))
		}
		go a.do(t.Context(), 0, cancel(1)) // until it is written
		synctest.Wait()
		close(gate)
		if got := <-written; got.failure != nil || !strings.Contains(got.body, "written") {
			t.Errorf("what is being written: %+v", got)
		}
		synctest.Wait()
		if got := received(); len(got) != 2 || got[0].Params.Name != "written" || got[1].Method != "notifications/cancelled" || string(got[1].Params.RequestID) != string(got[0].ID) {
			t.Errorf("the server got %+v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		start, received := stalling(mcp.Version20250326, gate)
		a := newAgent(t, newRig(t, options{start: start}).up)
		a.open(mcp.Version20250326)
		first, array := make(chan said, 1), make(chan said, 1)
		go func() { first <- a.call(toolCall(1, "first", "")) }()
		synctest.Wait()
		go func() { array <- a.call(`[` + toolCall(2, "waits", "") + `,` + toolCall(3, "goes on", "") + `]`) }()
		synctest.Wait()
		a.read(a.do(t.Context(), 0, cancel(2)))
		close(gate)
		<-first
		if got := <-array; got.failure != nil || len(got.events) != 1 || !strings.Contains(string(got.events[0].Data), "goes on") {
			t.Errorf("the array: %+v", got)
		}
		synctest.Wait()
		if got := received(); len(got) != 2 || got[1].Params.Name != "goes on" {
			t.Errorf("the server got %+v", got)
		}
	})
}

// TestArrays holds that an array is answered as one in a session of 2025-03-26, and nowhere else.
func TestArrays(t *testing.T) {
	array := `[` + toolCall(1, "echo", "a") + `,{"jsonrpc":"2.0","method":"notifications/x"},` + list + `]`
	x := &scripted{version: mcp.Version20250326}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20250326)
		got := a.call(array)
		elements, err := mcp.Elements(nil, []byte(got.body), 10)
		if err != nil || len(elements) != 2 || !strings.Contains(got.body, `"id":1,`) || !strings.Contains(got.body, `"id":7,`) {
			t.Errorf("%+v: %v", got, err)
		}
		if got := a.call(`[{"jsonrpc":"2.0","method":"notifications/x"}]`); got.status != 202 {
			t.Errorf("of notifications: %+v", got)
		}
		if got := a.call(`[` + toolCall(1, "log", "a") + `,` + list + `]`); len(got.events) != 3 {
			t.Errorf("with a log message: %+v", got)
		}
		x.seen()
		for _, body := range []string{
			`[1]`, `[]`, `[` + list + `,[` + list + `]]`, `[[]]`,
			`[` + list + `,{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26"}}]`,
		} {
			if got := a.call(body); got.failure == nil || got.failure.Code != -32600 || got.failure.Sent != mcp.SentNo {
				t.Errorf("%s: %+v", body, got)
			}
		}
		if got := x.seen(); got != "" {
			t.Errorf("the server got %s", got)
		}
	})
	y := &scripted{}
	world(t, y, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		if got := a.call(array); got.failure == nil || got.failure.Code != -32600 {
			t.Errorf("in 2025-11-25: %+v", got)
		}
		if got := a.call(`{"jsonrpc":`); got.failure == nil || got.failure.Code != -32700 {
			t.Errorf("no JSON: %+v", got)
		}
	})
}

// TestArrayFailures holds that a failure which comes first on the stream of an array takes nothing from its other elements, and that of
// an element which was cancelled nothing is said.
func TestArrayFailures(t *testing.T) {
	for tool, want := range map[string][]string{"slow": {"2"}, "die": {"1 broke_off", "2 broke_off"}} {
		x := &scripted{version: mcp.Version20250326}
		world(t, x, options{}, func(t *testing.T, _ *rig, a *agent) {
			a.open(mcp.Version20250326)
			cancel := time.AfterFunc(time.Second, func() {
				a.call(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
			})
			defer cancel.Stop()
			res, f := a.do(t.Context(), mcp.LaneRequest, `[`+toolCall(1, "hang", "a")+`,`+toolCall(2, tool, "b")+`]`)
			if f != nil || res.Events == nil {
				t.Fatalf("%s: %+v, %v", tool, res, f)
			}
			defer closeResult(t, res)
			var got []string
			ev, err := res.Events.Next()
			for ; err == nil; ev, err = res.Events.Next() {
				switch {
				case ev.Failure != nil:
					got = append(got, string(ev.FailedID)+" "+string(ev.Failure.Reason))
				case ev.Answer:
					got = append(got, string(ev.Message.ID.Of(ev.Data)))
				}
			}
			if err != io.EOF || !slices.Equal(got, want) {
				t.Errorf("%s: got %q and %v, want %q", tool, got, err, want)
			}
			time.Sleep(20 * time.Second) // the tools end
		})
	}
}

// TestReaping holds that sessions without state give way at once, that one with state does after a rest, and that a call
// waits where none can.
func TestReaping(t *testing.T) {
	x := &scripted{}
	o := options{pool: func(o *stdio.PoolOptions) { o.Max = 2; o.QueueWait = 20 * time.Second }}
	world(t, x, o, func(t *testing.T, r *rig, _ *agent) {
		agents := make([]*agent, 20)
		for i := range agents {
			agents[i] = newAgent(t, r.up)
			agents[i].open(mcp.Version20251125)
			if got := agents[i].call(list); got.status != 200 {
				t.Fatalf("%d: %+v", i, got)
			}
		}
		for i, a := range agents {
			if got := a.call(list); got.failure != nil {
				t.Fatalf("%d again: %v", i, got.failure)
			}
		}
		if n := r.pool.Status().Processes; n != 2 {
			t.Errorf("%d processes", n)
		}
		for _, a := range agents[:2] {
			if got := a.call(toolCall(1, "count", "")); got.failure != nil {
				t.Fatalf("with state: %v", got.failure)
			}
			time.Sleep(time.Second)
		}
		begun := time.Now()
		if got := agents[3].call(list); got.failure == nil || got.failure.Reason != mcp.ReasonProcesses || time.Since(begun) != 20*time.Second {
			t.Errorf("all have state: %+v after %v", got, time.Since(begun))
		}
		if got := agents[3].call(list); got.failure != nil || time.Since(begun) != 28*time.Second { // 30 s after its last call
			t.Errorf("later: %+v after %v", got, time.Since(begun))
		}
		if got := agents[0].call(toolCall(2, "count", "")); got.failure == nil || got.failure.Code != 1410 {
			t.Errorf("the one that gave way: %+v", got)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if n := r.pool.Status().Processes; n != 0 {
			t.Errorf("%d processes after idle_timeout", n)
		}
		if got := agents[5].call(list); got.failure != nil {
			t.Errorf("after it: %v", got.failure)
		}
	})
}

// TestWhichGoesFirst holds which process gives way: one without state before one with, and of those the one that was idle for longest.
func TestWhichGoesFirst(t *testing.T) {
	x := &scripted{}
	world(t, x, options{pool: func(o *stdio.PoolOptions) { o.Max = 4 }}, func(t *testing.T, r *rig, _ *agent) {
		open := func() *agent {
			a := newAgent(t, r.up)
			a.open(mcp.Version20251125)
			return a
		}
		agents := []*agent{open(), open(), open(), open()}
		x.mu.Lock()
		processes := slices.Clone(x.all)
		x.mu.Unlock()
		for _, use := range []struct {
			agent int
			after time.Duration
			body  string
		}{{1, 0, toolCall(1, "count", "")}, {0, 5 * time.Second, toolCall(1, "count", "")}, {3, 40 * time.Second, list}, {2, time.Second, list}} {
			time.Sleep(use.after)
			if got := agents[use.agent].call(use.body); got.failure != nil {
				t.Fatal(got.failure)
			}
		}
		time.Sleep(time.Second)
		for others := range processes {
			open()
			synctest.Wait()
			for i, p := range processes {
				if gone := i >= len(processes)-1-others; isStopped(p) != gone {
					t.Errorf("after %d others: process %d ended: %v", others+1, i, !gone)
				}
			}
		}
	})
}

// TestStreamHolds holds that a session with state and an open GET stream keeps its process, and one without state does not.
func TestStreamHolds(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		b := newAgent(t, r.up)
		b.open(mcp.Version20251125)
		ctx, leave := context.WithCancel(t.Context())
		_, _ = a.get(ctx, "")
		_, _ = b.get(ctx, "")
		a.call(toolCall(1, "count", ""))
		time.Sleep(time.Hour)
		if n := r.pool.Status().Processes; n != 1 {
			t.Errorf("%d processes", n)
		}
		leave()
		time.Sleep(time.Hour)
		if n := r.pool.Status().Processes; n != 0 {
			t.Errorf("%d processes after the stream", n)
		}
	})
}

// TestSubscriptionHolds holds that a process in which nothing is left but a subscription, made again after a loss, stays for as long as
// its agent has a stream open, gives way to others after 30 s only, and goes like any other when it is unsubscribed, or nobody could be told.
func TestSubscriptionHolds(t *testing.T) {
	subscribe := func(verb string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"resources/` + verb + `","params":{"uri":"a://b"}}`
	}
	healed := func(t *testing.T, r *rig, x *scripted, a *agent) {
		a.open(mcp.Version20251125)
		a.call(subscribe("subscribe"))
		x.last().End("signal: killed")
		synctest.Wait()
		if got := a.call(list); got.failure != nil || x.started() != 2 {
			t.Fatalf("after the loss: %+v, %d processes", got, x.started())
		}
	}
	running := func(t *testing.T, what string, r *rig, want int) {
		t.Helper()
		synctest.Wait()
		if n := r.pool.Status().Processes; n != want {
			t.Errorf("%s: %d processes", what, n)
		}
	}
	for verb, want := range map[string]int{"list": 1, "unsubscribe": 0} {
		x := &scripted{}
		world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
			healed(t, r, x, a)
			ctx, leave := context.WithCancel(t.Context())
			_, _ = a.get(ctx, "")
			a.call(subscribe(verb))
			time.Sleep(time.Hour)
			running(t, verb+", an hour later", r, want)
			leave()
			time.Sleep(11 * time.Minute)
			running(t, verb+", without a stream", r, 0)
		})
	}
	x := &scripted{}
	world(t, x, options{pool: func(o *stdio.PoolOptions) { o.Max, o.QueueWait = 1, time.Minute }}, func(t *testing.T, r *rig, a *agent) {
		healed(t, r, x, a)
		_, _ = a.get(t.Context(), "")
		begun := time.Now()
		newAgent(t, r.up).open(mcp.Version20251125)
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("it gave way after %v", took)
		}
	})
}

// TestStillStarting holds that an agent does not wait for ever for a start, and that the start is not in vain.
func TestStillStarting(t *testing.T) {
	x := &scripted{slow: 90 * time.Second}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		initialize := `{"jsonrpc":"2.0","id":%d,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`
		begun := time.Now()
		got := a.call(fmt.Sprintf(initialize, 1))
		if got.failure == nil || got.failure.Reason != mcp.ReasonStillStarting || got.failure.Sent != mcp.SentNo || time.Since(begun) != 55*time.Second {
			t.Fatalf("%+v after %v", got, time.Since(begun))
		}
		time.Sleep(40 * time.Second)
		got = a.call(fmt.Sprintf(initialize, 2))
		if got.failure != nil || !strings.Contains(got.body, `"id":2,`) || x.started() != 1 || time.Since(begun) != 95*time.Second {
			t.Errorf("%+v, %d starts, after %v", got, x.started(), time.Since(begun))
		}
	})
}

// TestRestart holds that sessions outlive the daemon, also one that was killed, and go on as after a reaped process.
func TestRestart(t *testing.T) {
	o := options{path: filepath.Join(t.TempDir(), "sessions")}
	x := &scripted{}
	var session string
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		session = a.session
		a.call(toolCall(1, "count", ""))
		time.Sleep(time.Second)
	})
	if info, err := os.Stat(o.path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("the file: %v, %v", info, err)
	}
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.session = session
		if got := a.call(list); got.failure != nil || got.status != 200 {
			t.Fatalf("a list: %+v", got)
		}
		time.Sleep(time.Second)
	})
	world(t, x, o, func(t *testing.T, r *rig, a *agent) { // the notice is pending still
		a.session = session
		if got := a.call(toolCall(2, "count", "")); got.failure == nil || got.failure.Code != 1410 {
			t.Errorf("a call: %+v", got)
		}
		if got := a.call(toolCall(3, "count", "")); got.failure != nil {
			t.Errorf("the next: %v", got.failure)
		}
		a.read(a.do(t.Context(), mcp.LaneEnd, ""))
		a.session = ""
		a.open(mcp.Version20251125)
		r.store.Close()
	})
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.session = session
		if got := a.call(list); got.status != 404 {
			t.Errorf("a session that was ended: %+v", got)
		}
		if n := r.store.Len(); n != 1 {
			t.Errorf("%d sessions", n)
		}
		time.Sleep(25 * time.Hour)
		if n := r.store.Len(); n != 0 {
			t.Errorf("%d sessions after a day", n)
		}
	})
}

// TestStreamOutlivesTheDay holds that a session with an open stream is in use, however long nothing comes: its record outlives the day.
func TestStreamOutlivesTheDay(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		other := newAgent(t, r.up)
		other.open(mcp.Version20251125)
		ctx, leave := context.WithCancel(t.Context())
		_, _ = a.get(ctx, "")
		time.Sleep(100 * time.Hour)
		if n := r.store.Len(); n != 1 {
			t.Errorf("%d sessions", n)
		}
		if got := a.call(list); got.failure != nil || got.status != 200 {
			t.Errorf("after days: %+v", got)
		}
		leave()
		time.Sleep(25 * time.Hour)
		if n := r.store.Len(); n != 0 {
			t.Errorf("%d sessions a day after the stream", n)
		}
	})
}

// TestOverlap holds that a daemon which drains leaves its last sessions to the one that takes its place, and takes none of that one's.
func TestOverlap(t *testing.T) {
	o := options{path: filepath.Join(t.TempDir(), "sessions")}
	x := &scripted{}
	world(t, x, o, func(t *testing.T, old *rig, a *agent) {
		a.open(mcp.Version20251125)
		a.call(toolCall(1, "count", ""))
		old.store.Drain()
		next := streamable.NewStore(streamable.StoreOptions{Path: o.path})
		file, err := os.ReadFile(o.path)
		if err != nil || !strings.Contains(string(file), a.session) || !strings.Contains(string(file), `"State":true`) {
			t.Errorf("of the last moment there is %s, %v", file, err)
		}
		next.Close()
		a.session = ""
		a.open(mcp.Version20251125) // where it had a connection still
		old.store.Close()
		if file, _ := os.ReadFile(o.path); !strings.Contains(string(file), a.session) {
			t.Error("a session of the drain is lost, and nobody else has written the file")
		}
	})
	world(t, x, o, func(t *testing.T, old *rig, a *agent) {
		old.store.Drain()
		before, err := os.ReadFile(o.path)
		if err != nil {
			t.Fatal(err)
		}
		next := streamable.NewStore(streamable.StoreOptions{Path: o.path, Waits: true})
		next.Drain()
		next.Close()
		if file, _ := os.ReadFile(o.path); !bytes.Equal(file, before) {
			t.Errorf("one that waits has written: %s", file)
		}
	})
}

// TestFileFaults holds that a file which cannot be used is said, dropped, and no failure.
func TestFileFaults(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions")
	x := &scripted{}
	world(t, x, options{path: path}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		r.store.Close()
	})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		said    bool
	}{
		"as it was":      {string(good), 0o600, false},
		"truncated":      {string(good[:len(good)/2]), 0o600, true},
		"empty":          {"", 0o600, true},
		"another format": {strings.Replace(string(good), `"Format":1`, `"Format":2`, 1), 0o600, true},
		"no form":        {strings.Replace(string(good), `"Form":0`, `"Form":7`, 1), 0o600, true},
		"open to others": {string(good), 0o644, true},
	} {
		t.Run(name, func(t *testing.T) {
			one := filepath.Join(t.TempDir(), "sessions")
			if err := errors.Join(os.WriteFile(one, []byte(c.content), 0o600), os.Chmod(one, c.mode)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			world(t, x, options{path: one, log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, r *rig, a *agent) {
				if n := r.store.Len(); (n == 0) != c.said || strings.Contains(log.String(), "cannot be used") != c.said {
					t.Errorf("%d sessions; said %q", n, log.String())
				}
				a.open(mcp.Version20251125)
				r.store.Close()
			})
		})
	}
}

// TestProgressAfterTheAnswer holds that late progress goes no further, since its token is the daemon's by then; that of a task goes on
// under the token that the agent gave; and what a server made up passes.
func TestProgressAfterTheAnswer(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		events, _ := a.get(t.Context(), "")
		progress := func(token string) {
			x.last().Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`+"\n", token)
			synctest.Wait()
		}
		x.seen()
		a.call(toolCall(1, "echo", "a"))
		a.call(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","task":{},"_meta":{"progressToken":"mine"}}}`)
		tokens := x.tokens()
		progress(tokens[0])
		progress(`"` + tokens[0] + `"`)
		if n := len(events); n != 0 {
			t.Fatalf("late: %s", (<-events).Data)
		}
		for _, c := range [][2]string{{tokens[1], `"mine"`}, {`"made up"`, `"made up"`}, {"7", "7"}} {
			progress(c[0])
			if len(events) != 1 {
				t.Fatalf("%s: %d events", c[0], len(events))
			}
			if ev := <-events; !strings.Contains(string(ev.Data), `"progressToken":`+c[1]+`,`) {
				t.Errorf("%s: %s", c[0], ev.Data)
			}
		}
	})
}

// TestLargeArray holds that answers to an array which are large together come as they come, and not when the time for them is over.
func TestLargeArray(t *testing.T) {
	x := &scripted{version: mcp.Version20250326}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20250326)
		begun, large := time.Now(), strings.Repeat("x", 2<<20)
		got := a.call(`[` + toolCall(1, "echo", large) + `,` + toolCall(2, "echo", large) + `,` + toolCall(3, "echo", large) + `]`)
		if took := time.Since(begun); took > time.Second || got.failure != nil || len(got.events) != 3 {
			t.Errorf("%d events after %v: %v", len(got.events), took, got.failure)
		}
	})
}

// TestUnknownNotificationIsState holds that a server which got a notification that nobody knows may keep something of it.
func TestUnknownNotificationIsState(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		a.read(a.do(t.Context(), mcp.LaneNotification, `{"jsonrpc":"2.0","method":"notifications/select","params":{"project":"a"}}`))
		x.last().End("signal: killed")
		synctest.Wait()
		if got := a.call(toolCall(1, "echo", "a")); got.failure == nil || got.failure.Code != mcp.CodeSessionRestart {
			t.Errorf("after the process went: %+v", got)
		}
	})
}

// TestGoneAgentHoldsNothing holds that a request of a server's which its agent took and never answered does not keep the process for
// ever, and that an agent which is there has all the time that a person takes.
func TestGoneAgentHoldsNothing(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		ctx, leave := context.WithCancel(t.Context())
		events, _ := a.get(ctx, "")
		x.last().Write(`{"jsonrpc":"2.0","id":"e","method":"elicitation/create"}` + "\n")
		<-events
		x.seen()
		time.Sleep(3 * time.Hour)
		if got := x.seen(); got != "" || r.pool.Status().Processes != 1 {
			t.Errorf("with its agent there: %q", got)
		}
		leave()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := x.seen(); !strings.Contains(got, "-32603") || r.pool.Status().Processes != 0 {
			t.Errorf("an hour after the agent left: %q, %d processes", got, r.pool.Status().Processes)
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
