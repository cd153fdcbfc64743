package streamable_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/streamable"
)

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
