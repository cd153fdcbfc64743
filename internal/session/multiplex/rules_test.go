package multiplex_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

func logLine(level, data string) string {
	return `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"` + level + `","data":"` + data + `"}}`
}

// TestLogMessages holds that a session gets them while it has the process to itself, and has had for a while; that the daemon's log
// gets the rest at debug; and that secrets are taken out there.
func TestLogMessages(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		w.writes("%s", logLine("debug", "one"))
		a.gets("alone", logLine("debug", "one"))
		w.logs("one", false)
		b := w.open("2025-11-25")
		w.writes("%s", logLine("emergency", "of a secret"))
		a.gets("with another", "")
		b.gets("with another", "")
		w.logs("of a ***", true)
		a.Release()
		time.Sleep(29 * time.Second)
		w.writes("%s", logLine("info", "two"))
		b.gets("soon after the other has gone", "")
		w.logs("two", true)
		time.Sleep(2 * time.Second)
		w.writes("%s", logLine("info", "three"))
		b.gets("long after the other has gone", logLine("info", "three"))
	})
}

// TestLogMessagesOfTheLastSession holds that one that begins right after the only other one has gone does not get what that one's calls
// still say.
func TestLogMessagesOfTheLastSession(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		w.open("2025-11-25").Release()
		b := w.open("2025-11-25")
		w.writes("%s", logLine("info", "of the one before"))
		b.gets("soon", "")
	})
}

// TestLevels holds that the most verbose level of all goes up and is the server's to answer, that each session gets its own or above,
// and that it goes down when sessions go.
func TestLevels(t *testing.T) {
	set := func(level string) string { return `{"level":"` + level + `","_meta":{"a":1}}` }
	run(t, options{}, func(t *testing.T, w *world) {
		a, b, c := w.open("2025-11-25"), w.open("2025-11-25"), w.open("2025-11-25")
		w.got()
		for _, step := range []struct {
			a         *agent
			level, up string
		}{{a, "error", "error"}, {b, "info", "info"}, {a, "warning", "info"}, {a, "error", "info"}, {b, "critical", "error"}, {b, "info", "info"}} {
			step.a.answers("logging/setLevel", set(step.level), ok)
			w.wants("the level "+step.level, "logging/setLevel"+set(step.up))
		}
		c.Release()
		w.wants("the end of a session without a level", "")
		b.Release()
		w.wants("the end of the most verbose one", `logging/setLevel{"level":"error"}`)
		time.Sleep(time.Minute)
		w.writes("%s", logLine("warning", "x"))
		a.gets("below its level", "")
		w.writes("%s", logLine("error", "x"))
		a.gets("its level", logLine("error", "x"))
		w.writes("%s", logLine("alert", "x"))
		a.gets("above its level", logLine("alert", "x"))
		w.writes("%s", logLine("of ours", "x"))
		a.gets("a level that nobody knows", logLine("of ours", "x"))
		a.Release()
		w.wants("the end of the last one", "")
	})
}

// TestOrderOfLevels holds that levels reach the server in the order in which they were reckoned.
func TestOrderOfLevels(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		w.got()
		held := make(chan struct{})
		w.held = held
		first := a.begin(t.Context(), "logging/setLevel", `{"level":"error"}`)
		synctest.Wait()
		second := b.begin(t.Context(), "logging/setLevel", `{"level":"debug"}`)
		synctest.Wait()
		close(held)
		<-first
		<-second
		w.wants("two levels", `logging/setLevel{"level":"error"} logging/setLevel{"level":"debug"}`)
	})
}

// TestRefusedLevel holds that a level which the server refuses, and one that is none, leave the session the one that it had.
func TestRefusedLevel(t *testing.T) {
	refuses := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if !strings.Contains(r.Line, `"debug"`) {
			return false
		}
		s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"no"}}`+"\n", r.ID)
		return true
	}
	run(t, options{on: refuses}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		a.answers("logging/setLevel", `{"level":"error"}`, ok)
		w.got()
		a.answers("logging/setLevel", `{"level":"debug"}`, `"error":{"code":-32000,"message":"no"}`)
		w.wants("a refusal", `logging/setLevel{"level":"debug"} logging/setLevel{"level":"error"}`)
		for _, params := range []string{`{"level":"loud"}`, `{}`, `{"level":3}`, `[]`} {
			a.answers("logging/setLevel", params, `"error":{"code":-32602,"message":"Invalid log level"}`)
		}
		w.wants("what is no level", "")
		w.writes("%s", logLine("info", "x"))
		a.gets("below its level", "")
		b := w.open("2025-11-25")
		b.answers("logging/setLevel", `{"level":"alert"}`, ok)
		w.wants("another's", `logging/setLevel{"level":"error"}`)
	})
}

// TestRefusedLevelComesLate holds that a refusal does not touch a level that was set after it was asked for.
func TestRefusedLevelComesLate(t *testing.T) {
	refuses := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if !strings.Contains(r.Line, `"alert"`) {
			return false
		}
		time.AfterFunc(time.Second, func() {
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"no"}}`+"\n", r.ID)
		})
		return true
	}
	run(t, options{on: refuses}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		late := a.begin(t.Context(), "logging/setLevel", `{"level":"alert"}`)
		synctest.Wait()
		a.answers("logging/setLevel", `{"level":"error"}`, ok)
		<-late
		w.writes("%s", logLine("info", "x"))
		a.gets("below its level", "")
	})
}

func updateOf(uri string) string {
	return `{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"` + uri + `"}}`
}

// TestSubscriptions holds that the first session that subscribes asks the server and the last one that unsubscribes does, that the
// server's answer is that of all, and that updates reach those alone who have subscribed.
func TestSubscriptions(t *testing.T) {
	says := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "resources/subscribe" {
			s.Result(r, `{"_meta":{"of":"`+r.Params.URI+`"}}`)
		}
		return r.Method == "resources/subscribe"
	}
	run(t, options{on: says}, func(t *testing.T, w *world) {
		a, b, c := w.open("2025-11-25"), w.open("2025-11-25"), w.open("2025-11-25")
		w.got()
		a.answers("resources/subscribe", `{"uri":"x:1"}`, `"result":{"_meta":{"of":"x:1"}}`)
		w.wants("the first", `resources/subscribe{"uri":"x:1"}`)
		b.answers("resources/subscribe", `{"uri":"\u0078:1"}`, `"result":{"_meta":{"of":"x:1"}}`)
		a.answers("resources/subscribe", `{"uri":"x:1"}`, `"result":{"_meta":{"of":"x:1"}}`)
		w.wants("others", "")
		update := func(uri string, of ...*agent) {
			t.Helper()
			w.writes("%s", updateOf(uri))
			for i, one := range []*agent{a, b, c} {
				want := ""
				for _, x := range of {
					if x == one {
						want = updateOf(uri)
					}
				}
				one.gets(fmt.Sprint(uri, " at ", i), want)
			}
		}
		update("x:1", a, b)
		update("x:2")
		c.answers("resources/unsubscribe", `{"uri":"x:1"}`, ok)
		a.answers("resources/unsubscribe", `{"uri":"x:1"}`, ok)
		w.wants("while others are subscribed", "")
		update("x:1", b)
		b.answers("resources/unsubscribe", `{"uri":"x:1"}`, ok)
		w.wants("the last", `resources/unsubscribe{"uri":"x:1"}`)
		update("x:1")
		b.answers("resources/unsubscribe", `{"uri":"x:1"}`, ok)
		w.wants("what nobody has subscribed to", `resources/unsubscribe{"uri":"x:1"}`)
		c.answers("resources/subscribe", `{"uri":"x:1"}`, `"result":{"_meta":{"of":"x:1"}}`)
		w.wants("the first again", `resources/subscribe{"uri":"x:1"}`)
	})
}

// TestSubscriptionsEndWithTheirSession holds that the server is told of what nobody is subscribed to any more, and a session that
// subscribes meanwhile asks after that.
func TestSubscriptionsEndWithTheirSession(t *testing.T) {
	slow := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "resources/unsubscribe" {
			time.Sleep(time.Second)
		}
		return false
	}
	run(t, options{on: slow}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		for _, uri := range []string{"x:1", `x:\"2`} {
			a.ask("resources/subscribe", `{"uri":"`+uri+`"}`)
		}
		b.ask("resources/subscribe", `{"uri":"x:1"}`)
		w.got()
		a.Release()
		synctest.Wait()
		b.answers("resources/subscribe", `{"uri":"x:\"2"}`, ok)
		w.wants("its end", `resources/unsubscribe{"uri":"x:\"2"} resources/subscribe{"uri":"x:\"2"}`)
		for _, uri := range []string{"x:1", `x:\"2`} {
			w.writes("%s", updateOf(uri))
			b.gets(uri, updateOf(uri))
		}
	})
}

// TestRefusedSubscriptions holds that sessions which subscribe at the same time wait for the first one, and that the next one asks the
// server where that was refused.
func TestRefusedSubscriptions(t *testing.T) {
	asked := 0
	refuses := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method != "resources/subscribe" {
			return false
		}
		time.Sleep(time.Second)
		if asked++; asked < 3 {
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32002,"message":"no %d"}}`+"\n", r.ID, asked)
			return true
		}
		return false
	}
	run(t, options{on: refuses}, func(t *testing.T, w *world) {
		var replies []<-chan reply
		for range 5 {
			replies = append(replies, w.open("2025-11-25").begin(t.Context(), "resources/subscribe", `{"uri":"x:1"}`))
		}
		counts := map[string]int{}
		for _, r := range replies {
			counts[(<-r).messages[0]]++
		}
		for _, want := range []string{`"error":{"code":-32002,"message":"no 1"}`, `"error":{"code":-32002,"message":"no 2"}`} {
			if counts[`{"jsonrpc":"2.0","id":1,`+want+`}`] != 1 {
				t.Errorf("answers: %v", counts)
			}
		}
		if counts[`{"jsonrpc":"2.0","id":1,"result":{}}`] != 3 || asked != 3 {
			t.Errorf("%d asked; answers: %v", asked, counts)
		}
	})
}

// TestForgottenSubscriptions holds that a request which was given up lets others ask, and that of an unsubscribe nobody knows what came
// of it.
func TestForgottenSubscriptions(t *testing.T) {
	hangs := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		return strings.Contains(r.Line, `"hang"`)
	}
	run(t, options{on: hangs}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		w.got()
		givesUp := func(a *agent, method string) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if r := <-a.begin(ctx, method, `{"uri":"x:1","_meta":{"hang":1}}`); len(r.messages) > 0 {
				t.Errorf("%s was answered: %v", method, r)
			}
		}
		go givesUp(a, "resources/subscribe")
		synctest.Wait()
		b.answers("resources/subscribe", `{"uri":"x:1"}`, ok)
		w.wants("one that was given up", `resources/subscribe{"uri":"x:1","_meta":{"hang":1}} resources/subscribe{"uri":"x:1"}`)
		givesUp(b, "resources/unsubscribe")
		a.answers("resources/subscribe", `{"uri":"x:1"}`, ok)
		w.wants("after an unsubscribe", `resources/unsubscribe{"uri":"x:1","_meta":{"hang":1}} resources/subscribe{"uri":"x:1"}`)
		w.writes("%s", updateOf("x:1"))
		a.gets("one that subscribed", updateOf("x:1"))
		b.gets("one that does not know", updateOf("x:1"))
		b.answers("resources/unsubscribe", `{"uri":"x:1"}`, ok)
		ctx, cancel := context.WithCancel(t.Context())
		go givesUp(a, "resources/unsubscribe")
		synctest.Wait()
		waits := b.begin(ctx, "resources/subscribe", `{"uri":"x:1"}`)
		synctest.Wait()
		cancel()
		if r := <-waits; r.failure == nil || r.failure.Reason != mcp.ReasonCanceled || r.failure.Sent != mcp.SentNo {
			t.Errorf("one that waits and leaves: %+v", r)
		}
	})
}

// TestGivenUpSubscriptions holds that a subscription is undone at the server that its session gave up, or ended in, while it was being
// made: the server may have made it. While others want the same, it stays; what was never sent is not undone.
func TestGivenUpSubscriptions(t *testing.T) {
	var muted chan struct{}
	hangs := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "notifications/mute" {
			<-muted
		}
		return strings.Contains(r.Line, `"hang"`)
	}
	const hang, subscribe, unsubscribe = `resources/subscribe{"uri":"x:1","_meta":{"hang":1}}`, `resources/subscribe{"uri":"x:1"}`, `resources/unsubscribe{"uri":"x:1"}`
	run(t, options{on: hangs}, func(t *testing.T, w *world) {
		muted = make(chan struct{})
		a, b, c := w.open("2025-11-25"), w.open("2025-11-25"), w.open("2025-11-25")
		w.got()
		begin := func(a *agent, ctx context.Context) <-chan reply {
			defer synctest.Wait()
			return a.begin(ctx, "resources/subscribe", `{"uri":"x:1","_meta":{"hang":1}}`)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begin(a, ctx)
		cancel()
		w.wants("given up", hang+" "+unsubscribe)
		b.answers("resources/subscribe", `{"uri":"x:1"}`, ok)
		w.wants("the next one", subscribe)
		b.answers("resources/unsubscribe", `{"uri":"x:1"}`, ok)
		w.wants("its end", unsubscribe)

		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		begin(a, ctx)
		waiting, leave := context.WithCancel(t.Context())
		defer leave()
		begin(b, waiting)
		cancel()
		w.wants("with another one that waits", hang+" "+hang) // the other one's own, which hangs as well
		waitingToo, leaveToo := context.WithCancel(t.Context())
		defer leaveToo()
		begin(c, waitingToo)
		leaveToo()
		synctest.Wait()
		leave()
		w.wants("all have gone", unsubscribe)

		begin(a, t.Context())
		a.Release()
		if got := w.got(); !strings.HasPrefix(got, hang+" ") || !strings.Contains(got, unsubscribe) || strings.Count(got, "resources/") != 2 {
			t.Errorf("an ended session: the server got %s", got)
		}

		b.sends(`{"jsonrpc":"2.0","method":"notifications/mute"}`)
		behind := []byte(`{"jsonrpc":"2.0","method":"notifications/behind"}`)
		go b.Send(t.Context(), behind, scan(t, behind)) // which is being written
		synctest.Wait()
		ctx, cancel = context.WithCancel(t.Context())
		begin(b, ctx)
		cancel()
		synctest.Wait()
		close(muted)
		w.wants("never sent", "notifications/mute notifications/behind")
	})
}

// TestReleasedWhileSubscribing holds that nothing is left of a subscription whose session ends before the server has answered.
func TestReleasedWhileSubscribing(t *testing.T) {
	slow := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "resources/subscribe" {
			time.Sleep(time.Second)
		}
		return false
	}
	run(t, options{on: slow}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		of := a.begin(t.Context(), "resources/subscribe", `{"uri":"x:1"}`)
		synctest.Wait()
		a.Release()
		<-of
		b.answers("resources/subscribe", `{"uri":"x:1"}`, ok)
		w.writes("%s", updateOf("x:1"))
		b.gets("another one", updateOf("x:1"))
		a.gets("the one that has gone", "")
	})
}

// TestParts holds that the update of a part of a resource reaches those who have subscribed to the whole, where its uri says so, or
// where there is one session alone.
func TestParts(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		w.writes("%s", updateOf("z:1"))
		a.gets("alone, without a subscription", "")
		a.ask("resources/subscribe", `{"uri":"file:///a"}`)
		w.writes("%s", updateOf("z:1"))
		a.gets("alone", updateOf("z:1"))
		b := w.open("2025-11-25")
		b.ask("resources/subscribe", `{"uri":"file:///b/"}`)
		for uri, of := range map[string]*agent{
			"file:///a": a, "file:///a/c": a, "file:///a#x": a, "file:///a?x/y": a, "file:///b/c": b, "file:///b/": b, "file:///ab": nil, "file:///b": nil, "z:1": nil,
		} {
			w.writes("%s", updateOf(uri))
			for _, one := range []*agent{a, b} {
				want := ""
				if one == of {
					want = updateOf(uri)
				}
				one.gets(uri, want)
			}
		}
	})
}

// TestTooManySubscriptions holds the bounds.
func TestTooManySubscriptions(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		fails := func(a *agent, uri string) {
			t.Helper()
			r := <-a.begin(t.Context(), "resources/subscribe", `{"uri":"`+uri+`"}`)
			if r.failure == nil || r.failure.Code != 1429 || r.failure.Reason != mcp.ReasonSubscriptions || r.failure.Sent != mcp.SentNo {
				t.Errorf("%+v", r)
			}
		}
		a := w.open("2025-11-25")
		fails(a, strings.Repeat("x", 2049))
		agents := []*agent{a}
		for n := range 10 {
			for i := range 1000 {
				agents[n].ask("resources/subscribe", fmt.Sprintf(`{"uri":"x:%d"}`, i))
			}
			agents = append(agents, w.open("2025-11-25"))
		}
		fails(a, "x:of one")
		fails(agents[10], "x:of all")
		a.Release()
		agents[10].answers("resources/subscribe", `{"uri":"x:of all"}`, ok)
	})
}

// taskServer gives tasks, and answers each method with its own name.
func taskServer(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
	switch {
	case r.Method == "tools/call" && strings.Contains(r.Line, `"task":`):
		s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`+"\n", r.Params.Meta.ProgressToken)
		s.Result(r, `{"task":{"taskId":"`+r.Params.Name+`","status":"working"}}`)
		s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":2}}`+"\n", r.Params.Meta.ProgressToken)
	case r.Method == "tasks/list":
		s.Result(r, `{"nextCursor":"c","tasks":[{"taskId":"a","status":"working"}, {"taskId":"b","of":[1]},{"taskId":"c"}],"more":1}`)
	case strings.HasPrefix(r.Method, "tasks/"):
		s.Result(r, `{"of":"`+r.Method+`"}`)
	default:
		return false
	}
	return true
}

// TestTasks holds that a task is its session's alone: it is not listed, told, given nor cancelled for another one, and its progress
// goes on after the call.
func TestTasks(t *testing.T) {
	run(t, options{on: taskServer}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		progress := func(n int) string {
			return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"same","progress":%d}}`, n)
		}
		for name, one := range map[string]*agent{"a": a, "b": b} {
			r := <-one.begin(t.Context(), "tools/call", `{"name":"`+name+`","task":{"ttl":1},"_meta":{"progressToken":"same"}}`)
			want := progress(1) + ` {"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"` + name + `","status":"working"}}}`
			if got := strings.Join(r.messages, " "); got != want {
				t.Errorf("the call of %s: %s, want %s", name, got, want)
			}
			one.gets("progress of "+name, progress(2))
			w.writes(`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"%s"}}`, name)
			one.gets("status of "+name, `{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"`+name+`"}}`)
		}
		a.gets("status of b", "")
		w.writes(`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"c"}}`)
		for _, one := range []*agent{a, b} {
			one.gets("status of nobody's", "")
		}
		w.got()
		for _, method := range []string{"tasks/get", "tasks/result", "tasks/cancel"} {
			a.answers(method, `{"taskId":"\u0061"}`, `"result":{"of":"`+method+`"}`)
			for _, params := range []string{`{"taskId":"b"}`, `{"taskId":"c"}`, `{}`, `{"taskId":["a"]}`} {
				a.answers(method, params, `"error":{"code":-32602,"message":"Task not found"}`)
			}
		}
		w.wants("tasks of others", `tasks/get{"taskId":"\u0061"} tasks/result{"taskId":"\u0061"} tasks/cancel{"taskId":"\u0061"}`)
		a.answers("tasks/list", "{}", `"result":{"nextCursor":"c","tasks":[{"taskId":"a","status":"working"}],"more":1}`)
		b.answers("tasks/list", "{}", `"result":{"nextCursor":"c","tasks":[{"taskId":"b","of":[1]}],"more":1}`)
		w.open("2025-11-25").answers("tasks/list", "{}", `"result":{"nextCursor":"c","tasks":[],"more":1}`)
		a.Release()
		w.writes(`{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"a"}}`)
		a.gets("one that has gone", "")
	})
}

// TestTasksThatAreNone holds that the progress of a call ends with its answer where that is no task, and that a task with an id which
// is too long to be remembered is nobody's.
func TestTasksThatAreNone(t *testing.T) {
	long := strings.Repeat("x", 1025)
	says := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		switch r.Params.Name {
		case "plain":
			s.Result(r, "{}")
			s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":2}}`+"\n", r.Params.Meta.ProgressToken)
		case "long":
			s.Result(r, `{"task":{"taskId":"`+long+`"}}`)
		default:
			return false
		}
		return true
	}
	run(t, options{on: says}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		a.answers("tools/call", `{"name":"plain","task":{},"_meta":{"progressToken":1}}`, ok)
		a.gets("late progress", "")
		a.ask("tools/call", `{"name":"long","task":{}}`)
		a.answers("tasks/get", `{"taskId":"`+long+`"}`, `"error":{"code":-32602,"message":"Task not found"}`)
	})
}

// TestTaskLists holds that of a list of tasks which cannot be read nothing passes.
func TestTaskLists(t *testing.T) {
	for list, want := range map[string]string{
		`{"tasks":[{"taskId":"a"}],"tasks":[{"taskId":"x"}]}`: `{"tasks":[]}`,
		`{"tasks":{"taskId":"x"}}`:                            `{"tasks":[]}`,
		`{"tasks":[]}`:                                        `{"tasks":[]}`,
		`{"tasks":["x",{"taskId":"a","taskId":"x"}]}`:         `{"tasks":[]}`,
		`{"other":1}`:                                         `{"other":1}`,
	} {
		says := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Method == "tasks/list" {
				s.Result(r, list)
				return true
			}
			return taskServer(s, r)
		}
		run(t, options{on: says}, func(t *testing.T, w *world) {
			a := w.open("2025-11-25")
			a.ask("tools/call", `{"name":"a","task":{}}`)
			a.answers("tasks/list", "{}", `"result":`+want)
		})
	}
}

// TestServerWithoutTasks holds that a server which declares none says by itself that it has none.
func TestServerWithoutTasks(t *testing.T) {
	none := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "initialize" {
			s.Initialize(r, "2025-11-25")
		}
		return r.Method == "initialize"
	}
	run(t, options{on: none}, func(t *testing.T, w *world) {
		w.open("2025-11-25").answers("tasks/get", `{"taskId":"a"}`, ok)
	})
}
