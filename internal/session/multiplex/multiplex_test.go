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
	"fluentd-perf/internal/session/multiplex"
	"fluentd-perf/internal/upstream/stdio"
)

// TestOneProcess holds that the sessions of one version have one process, which the daemon initialises as itself; that each has the
// answer under its own id; and that another version has another process.
func TestOneProcess(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		const want = `{"jsonrpc":"2.0","id":7,"result":{"protocolVersion":"2025-11-25","capabilities":` + capabilities + `,"serverInfo":{"name":"scripted","version":"1"}}}`
		if a.answer != want || b.answer != want {
			t.Errorf("the answers are\n%s\n%s\nwant\n%s", a.answer, b.answer, want)
		}
		w.wants("a start", `initialize{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"fluentd-perf","version":"test"}}`)
		a.sends(initialized)
		b.sends(initialized)
		w.wants("two sessions that are ready", "notifications/initialized")
		c := w.open("2025-06-18")
		w.wants("another version", `initialize{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"fluentd-perf","version":"test"}}`)
		if n := w.started(); n != 2 || len(w.joined) != 1 {
			t.Errorf("%d processes were started, want 2; %d joined, want 1", n, len(w.joined))
		}
		c.answers("tools/list", "{}", ok)
	})
}

// TestReadyOnce holds that no session is ready before the server knows that its client is, and that one tries again for all where the
// first one has left.
func TestReadyOnce(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		w.got()
		held := make(chan struct{})
		w.held = held
		ctx, leave := context.WithCancel(t.Context())
		ready := make(chan *mcp.Failure, 2)
		body := []byte(initialized)
		go func() { ready <- a.Send(ctx, body, scan(t, body)) }()
		synctest.Wait()
		go func() { ready <- b.Send(t.Context(), body, scan(t, body)) }()
		synctest.Wait()
		if len(ready) > 0 {
			t.Error("a session was ready before the server knew it")
		}
		leave()
		close(held)
		for range 2 {
			if f := <-ready; f != nil && f.Reason != mcp.ReasonCanceled {
				t.Error(f)
			}
		}
		w.wants("two sessions that are ready", "notifications/initialized")
	})
}

// TestOneClient holds that what the sessions say of themselves as clients does not reach the server, and that none initialises it again.
func TestOneClient(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		w.got()
		a.sends(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`)
		a.sends(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
		a.sends(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		a.answers("initialize", `{"protocolVersion":"2025-11-25"}`, `"error":{"code":-32600,"message":"the session is initialized already"}`)
		w.wants("what is the client's", "")
		a.sends(`{"jsonrpc":"2.0","method":"notifications/of/ours","params":{"a":1}}`)
		a.answers("ping", "{}", ok)
		w.wants("what is not", `notifications/of/ours{"a":1} ping{}`)
	})
}

// TestRefusedInitialize holds that the server's refusal of a version is the answer to all who wait, and that nothing is left of the
// process; and what becomes of an initialize without a version.
func TestRefusedInitialize(t *testing.T) {
	refuses := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method != "initialize" {
			return false
		}
		time.Sleep(time.Second)
		s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"Unsupported protocol version"}}`+"\n", r.ID)
		return true
	}
	run(t, options{on: refuses}, func(t *testing.T, w *world) {
		answers := make(chan string, 2)
		for i := range 2 {
			go func() {
				a, f := w.tryOpen(t.Context(), initialize(fmt.Sprint(i), "1999"))
				if f != nil {
					t.Error(f)
					return
				}
				a.Leave()
				a.Release()
				answers <- a.answer
			}()
		}
		got := <-answers + <-answers
		for i := range 2 {
			want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"error":{"code":-32602,"message":"Unsupported protocol version"}}`, i)
			if !strings.Contains(got, want) {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		synctest.Wait()
		if n := w.pool.Status().Processes; n != 0 || w.started() != 1 {
			t.Errorf("%d processes, %d started", n, w.started())
		}
		for _, params := range []string{`{}`, `{"protocolVersion":1}`, `{"protocolVersion":"` + strings.Repeat("x", 65) + `"}`} {
			a, f := w.tryOpen(t.Context(), request("1", "initialize", params))
			if f != nil || !strings.HasPrefix(a.answer, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,`) || w.started() != 1 {
				t.Errorf("%s: %s, %v, %d started", params, a.answer, f, w.started())
			}
		}
	})
}

// TestUnknownVersions holds that agents which ask for what is no version of the protocol have the process of the latest that has an
// initialize, and that each of those which are versions has its own.
func TestUnknownVersions(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		for _, version := range []string{"2025-11-25", "1999", "", "2024-10-07", "2026-07-28", "2030-01-01", "latest"} {
			w.open(version)
		}
		w.wants("versions that are none", `initialize{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"fluentd-perf","version":"test"}}`)
		for i, version := range []string{"2024-11-05", "2025-03-26", "2025-06-18"} {
			w.open(version)
			w.open(version)
			if got := w.got(); w.started() != i+2 || !strings.Contains(got, version) {
				t.Errorf("%s: %d processes, the server got %s", version, w.started(), got)
			}
		}
	})
}

// TestServerRequests holds that a ping of the server's is answered here, before there is a session too, that all else is refused,
// and that the log says once that a server wants roots.
func TestServerRequests(t *testing.T) {
	early := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "initialize" {
			s.Write(`{"jsonrpc":"2.0","id":"early","method":"ping"}` + "\n")
		}
		return false
	}
	const refusal = `{"code":-32601,"message":"Method not found"}`
	run(t, options{on: early}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		if got := w.got(); !strings.HasSuffix(got, "} {}") {
			t.Errorf("the server got %s", got)
		}
		w.writes(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		w.wants("a ping", "{}")
		w.writes(`{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}`)
		w.wants("sampling", refusal)
		w.logs("method=sampling/createMessage", true)
		w.writes(`{"jsonrpc":"2.0","id":1,"method":"of/theirs"}`)
		w.wants("of theirs", refusal)
		w.logs("asks its client", false)
		for _, first := range []bool{true, false} {
			w.writes(`{"jsonrpc":"2.0","id":1,"method":"roots/list"}`)
			w.wants("roots", refusal)
			w.logs("method=roots/list", first)
		}
		a.gets("all of them", "")
	})
}

// TestServerThatAsksAndDoesNotRead holds that few answers wait for it.
func TestServerThatAsksAndDoesNotRead(t *testing.T) {
	read := make(chan struct{})
	stops := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Params.Name != "stop" {
			return false
		}
		for range 1000 {
			s.Write(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n")
		}
		<-read
		s.Result(r, "{}")
		return true
	}
	run(t, options{on: stops}, func(t *testing.T, w *world) {
		read = make(chan struct{})
		done := w.open("2025-11-25").begin(t.Context(), "tools/call", `{"name":"stop"}`)
		w.got()
		close(read)
		<-done
		if n := strings.Count(w.got(), "{}"); n != 64 {
			t.Errorf("%d answers", n)
		}
	})
}

// TestChangesOfLists holds that these reach every session.
func TestChangesOfLists(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		agents := []*agent{w.open("2025-11-25"), w.open("2025-11-25"), w.open("2025-11-25")}
		other := w.open("2025-06-18") // has another process, which is the last one
		w.all[0], w.all[1] = w.all[1], w.all[0]
		for _, of := range []string{"tools", "prompts", "resources"} {
			change := `{"jsonrpc":"2.0","method":"notifications/` + of + `/list_changed"}`
			w.writes("%s", change)
			for i, a := range agents {
				a.gets(fmt.Sprint(of, " of session ", i), change)
			}
		}
		agents[0].Release()
		w.writes(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		agents[0].gets("one that has gone", "")
		other.gets("another process", "")
	})
}

// TestSaidBeforeTheFirstSession holds that what the server says before there is a session is the first one's, if it could be one's at
// all.
func TestSaidBeforeTheFirstSession(t *testing.T) {
	const line = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"begins"}}`
	early := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "initialize" {
			s.Write("%s\n", `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
			s.Write("%s\n", updateOf("x:1"))
			s.Write("%s\n", line)
		}
		return false
	}
	run(t, options{on: early}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		a.gets("the first", line)
		b.gets("the second", "")
	})
}

// TestWhatBelongsToOneSession holds that answers and progress are the session's that asked, whatever ids and tokens the others have; and
// that a token which no agent gave goes nowhere.
func TestWhatBelongsToOneSession(t *testing.T) {
	var asked []mcptest.StdioRequest
	collects := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "tools/call" {
			asked = append(asked, r)
		}
		return r.Method == "tools/call"
	}
	run(t, options{on: collects}, func(t *testing.T, w *world) {
		agents := []*agent{w.open("2025-11-25"), w.open("2025-11-25")}
		var replies []<-chan reply
		for i, a := range agents {
			replies = append(replies, a.begin(t.Context(), "tools/call", fmt.Sprintf(`{"name":"%d","_meta":{"progressToken":"same"}}`, i)))
			synctest.Wait()
		}
		s := w.last()
		for i := range asked {
			r := asked[len(asked)-1-i]
			s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1,"message":"%s"}}`+"\n", r.Params.Meta.ProgressToken, r.Params.Name)
			s.Result(r, `{"of":"`+r.Params.Name+`"}`)
			s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":2,"message":"late"}}`+"\n", r.Params.Meta.ProgressToken)
		}
		w.writes(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"same","progress":3}}`)
		for i, r := range replies {
			got := strings.Join((<-r).messages, " ")
			want := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"same","progress":1,"message":"%d"}} {"jsonrpc":"2.0","id":1,"result":{"of":"%d"}}`, i, i)
			if got != want {
				t.Errorf("session %d got\n%s\nwant\n%s", i, got, want)
			}
			agents[i].gets("besides", "")
		}
	})
}

// TestUnknownNotifications holds that what nobody can be told to own is given to a session that has the process to itself, and to no
// other.
func TestUnknownNotifications(t *testing.T) {
	const line = `{"jsonrpc":"2.0","method":"notifications/of/theirs","params":{}}`
	run(t, options{}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		w.writes(line)
		a.gets("alone", line)
		w.writes(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
		a.gets("the end of a request that was refused", "")
		b := w.open("2025-11-25")
		w.writes(line)
		a.gets("with another", "")
		b.gets("with another", "")
		w.logs("notifications/of/theirs", true)
	})
}

// TestRelease holds that the end of a session cancels its calls in the process and touches nobody else's.
func TestRelease(t *testing.T) {
	hangs := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool { return r.Method == "tools/call" }
	run(t, options{on: hangs}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		w.got()
		of, ofOther := a.begin(t.Context(), "tools/call", `{"name":"a"}`), b.begin(t.Context(), "tools/call", `{"name":"b"}`)
		w.got()
		a.Release()
		a.Release()
		if r := <-of; r.failure == nil || r.failure.Reason != mcp.ReasonCanceled {
			t.Errorf("its call: %+v", r)
		}
		w.wants("the end of a session", `notifications/cancelled{"requestId":N,"reason":"the session has ended"}`)
		if a.Enter() {
			t.Error("a session was entered that has gone")
		}
		b.answers("tools/list", "{}", ok)
		select {
		case r := <-ofOther:
			t.Errorf("the other's call has ended: %+v", r)
		default:
		}
		w.last().End("signal: killed")
		<-ofOther
	})
}

// TestReleaseDuringWrite holds that a request is cancelled which is being written when its session ends.
func TestReleaseDuringWrite(t *testing.T) {
	read := make(chan struct{})
	stops := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Params.Name == "stop" {
			<-read
		}
		return r.Method == "tools/call"
	}
	run(t, options{on: stops}, func(t *testing.T, w *world) {
		read = make(chan struct{})
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		ofOther := b.begin(t.Context(), "tools/call", `{"name":"stop"}`)
		w.got()
		of := a.begin(t.Context(), "tools/call", `{"name":"a"}`)
		synctest.Wait()
		a.Release()
		close(read)
		w.wants("what was being written", `tools/call{"name":"a"} notifications/cancelled{"requestId":N,"reason":"the session has ended"}`)
		<-of
		w.last().End("signal: killed")
		<-ofOther
	})
}

// TestAgentThatDoesNotRead holds that it holds back no other: its notifications are bounded, and all answers are there in the end.
func TestAgentThatDoesNotRead(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		a := &agent{w: w}
		reads := make(chan struct{})
		s, _, f := w.x.Open(t.Context(), initialize("1", "2025-11-25"), scan(t, initialize("1", "2025-11-25")), func(data []byte, m *mcp.Message) {
			<-reads
			a.other(data, m)
		})
		if f != nil {
			t.Fatal(f)
		}
		a.Session = s
		b := w.open("2025-11-25")
		for range 1000 {
			w.last().Write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` + "\n")
		}
		var replies []<-chan reply
		for range 300 {
			replies = append(replies, a.begin(t.Context(), "tools/list", "{}"))
		}
		synctest.Wait()
		if n := strings.Count(b.received(), "list_changed"); n == 0 {
			t.Error("the other session got nothing")
		}
		b.answers("tools/list", "{}", ok)
		close(reads)
		for _, r := range replies {
			if got := <-r; got.failure != nil || len(got.messages) != 1 {
				t.Fatalf("%+v", got)
			}
		}
		if n := strings.Count(a.received(), "list_changed"); n == 0 || n > 257 {
			t.Errorf("%d notifications waited", n)
		}
		a.Leave()
	})
}

// TestEndOfTheProcess holds that all sessions end with their process, when they have got what it had sent; and that the next ones have
// another.
func TestEndOfTheProcess(t *testing.T) {
	dies := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Params.Name != "die" {
			return r.Params.Name == "hang"
		}
		s.Result(r, `{"dies":true}`)
		s.End("signal: killed")
		return true
	}
	run(t, options{on: dies}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		hangs := b.begin(t.Context(), "tools/call", `{"name":"hang"}`)
		synctest.Wait()
		a.answers("tools/call", `{"name":"die"}`, `"result":{"dies":true}`)
		if r := <-hangs; r.failure == nil || r.failure.Reason != mcp.ReasonBrokeOff || r.failure.Code != 1502 {
			t.Errorf("a call under way: %+v", r)
		}
		<-a.Ended()
		if a.Enter() || b.Enter() {
			t.Error("a session was entered whose process has ended")
		}
		a.Release()
		c, d := w.open("2025-11-25"), w.open("2025-11-25")
		c.answers("tools/list", "{}", ok)
		d.answers("tools/list", "{}", ok)
		if n := w.started(); n != 2 {
			t.Errorf("%d processes were started", n)
		}
	})
}

// TestDeliveredBeforeTheEnd holds that a session ends when it has got all that its process had sent, and that a new call waits for that,
// but not long.
func TestDeliveredBeforeTheEnd(t *testing.T) {
	dies := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method != "tools/call" {
			return false
		}
		s.Result(r, "{}")
		s.End("signal: killed")
		return true
	}
	run(t, options{on: dies}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		body, reads, got := request("1", "tools/call", "{}"), make(chan struct{}), 0
		if _, f := a.Request(t.Context(), body, scan(t, body), func([]byte, *mcp.Message) {
			<-reads
			got++
		}); f != nil && f.Sent == mcp.SentNo { // or the end of the process came before it was known to have gone
			t.Error(f)
		}
		<-b.Ended()
		synctest.Wait()
		select {
		case <-a.Ended():
			t.Error("the session has ended before its answer")
		default:
		}
		begun := time.Now()
		if a.Enter() || time.Since(begun) != time.Second {
			t.Errorf("a call waited %v", time.Since(begun))
		}
		close(reads)
		<-a.Ended()
		if got != 1 {
			t.Errorf("%d answers", got)
		}
	})
}

// TestReplicas holds that sessions are spread over as many processes as may be, and stay where they are.
func TestReplicas(t *testing.T) {
	var w *world
	says := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method != "tools/call" {
			return false
		}
		for i, other := range w.all {
			if other == s {
				s.Result(r, fmt.Sprintf(`{"of":%d}`, i))
			}
		}
		return true
	}
	run(t, options{on: says, mux: func(o *multiplex.Options) { o.Replicas = 3 }}, func(t *testing.T, own *world) {
		w = own
		var agents []*agent
		for i := range 9 {
			a := w.open("2025-11-25")
			agents = append(agents, a)
			a.answers("tools/call", "{}", fmt.Sprintf(`"result":{"of":%d}`, i%3))
		}
		for i, a := range agents {
			a.answers("tools/call", "{}", fmt.Sprintf(`"result":{"of":%d}`, i%3))
		}
		if n := w.started(); n != 3 {
			t.Errorf("%d processes", n)
		}
		agents[1].Release()
		agents[4].Release()
		w.open("2025-11-25").answers("tools/call", "{}", `"result":{"of":1}`)
		w.all[2].End("signal: killed")
		synctest.Wait()
		w.open("2025-11-25").answers("tools/call", "{}", `"result":{"of":3}`)
	})
}

// TestIdle holds that a process goes idle_timeout after the last call, stream or session, and not before.
func TestIdle(t *testing.T) {
	const timeout = 10 * time.Minute
	run(t, options{pool: func(o *stdio.PoolOptions) { o.IdleTimeout = timeout }}, func(t *testing.T, w *world) {
		left := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			return w.pool.Status().Processes
		}
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		a.Note(false, true)
		if left(3*timeout) != 1 {
			t.Fatal("it went while a session had a stream open")
		}
		b.Note(true, true)
		a.Note(false, false)
		if left(3*timeout) != 1 {
			t.Fatal("it went while the other session had a stream open")
		}
		b.Note(true, false)
		if left(timeout-time.Second) != 1 {
			t.Fatal("it went too early after the last stream")
		}
		a.answers("tools/list", "{}", ok)
		if left(timeout-time.Second) != 1 {
			t.Fatal("it went too early after a call")
		}
		a.Release()
		if left(timeout-time.Second) != 1 {
			t.Fatal("it went too early after a session")
		}
		if left(2*time.Second) != 0 {
			t.Error("it stayed")
		}
		<-b.Ended()
		if f := b.Failure(); f.Reason != mcp.ReasonCanceled {
			t.Errorf("the session that was left: %v", f)
		}
		b.Release()
	})
}

// TestGivesWay holds that a shared process that is in use goes for no other, and one that is not goes after half a minute.
func TestGivesWay(t *testing.T) {
	run(t, options{pool: func(o *stdio.PoolOptions) { o.Max, o.QueueWait = 1, time.Minute }}, func(t *testing.T, w *world) {
		a := w.open("2025-11-25")
		begun := time.Now()
		w.open("2025-06-18")
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("another version waited %v", took)
		}
		<-a.Ended()
	})
}

// TestSlowStart holds that a start goes on which takes longer than agents wait, that each is told so in its own time, and that there
// is no second one.
func TestSlowStart(t *testing.T) {
	slow := func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "initialize" {
			time.Sleep(100 * time.Second)
		}
		return false
	}
	o := options{on: slow, pool: func(o *stdio.PoolOptions) { o.Handshake = 30 * time.Second }, mux: func(o *multiplex.Options) { o.Handshake = 30 * time.Second }}
	run(t, o, func(t *testing.T, w *world) {
		begun := time.Now()
		waits := func(after time.Duration) {
			time.Sleep(time.Until(begun.Add(after)))
			own := time.Now()
			_, f := w.tryOpen(t.Context(), initialize("1", "2025-11-25"))
			if f == nil || f.Reason != mcp.ReasonStillStarting || f.Code != 1504 || f.Sent != mcp.SentNo || time.Since(own) != 30*time.Second {
				t.Errorf("after %v: %v, waited %v", after, f, time.Since(own))
			}
		}
		done := make(chan struct{})
		for _, after := range []time.Duration{0, 10 * time.Second, 40 * time.Second} {
			go func() {
				waits(after)
				done <- struct{}{}
			}()
		}
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, f := w.tryOpen(ctx, initialize("1", "2025-11-25")); f == nil || f.Reason != mcp.ReasonCanceled {
			t.Errorf("one that left: %v", f)
		}
		for range 3 {
			<-done
		}
		time.Sleep(time.Until(begun.Add(90 * time.Second)))
		w.open("2025-11-25").answers("tools/list", "{}", ok)
		if took := time.Since(begun); took != 100*time.Second || w.started() != 1 {
			t.Errorf("it was there after %v; %d were started", took, w.started())
		}
	})
}

// TestStartFails holds that a start that fails does so for all who wait, and that the next session tries again.
func TestStartFails(t *testing.T) {
	fails := true
	ends := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "initialize" && fails {
			time.Sleep(time.Second)
			s.End("exit status 3")
			return true
		}
		return false
	}
	run(t, options{on: ends}, func(t *testing.T, w *world) {
		failed := make(chan *mcp.Failure)
		for range 3 {
			go func() {
				_, f := w.tryOpen(t.Context(), initialize("1", "2025-11-25"))
				failed <- f
			}()
		}
		for range 3 {
			if f := <-failed; f == nil || f.Reason != mcp.ReasonStartFailed {
				t.Error(f)
			}
		}
		fails = false
		w.open("2025-11-25").answers("tools/list", "{}", ok)
		if n := w.started(); n != 2 {
			t.Errorf("%d processes were started", n)
		}
	})
}

// TestClosed holds that nothing is opened any more.
func TestClosed(t *testing.T) {
	run(t, options{}, func(t *testing.T, w *world) {
		w.open("2025-11-25")
		w.x.Close()
		if _, f := w.tryOpen(t.Context(), initialize("1", "2025-11-25")); f == nil || f.Reason != mcp.ReasonDraining {
			t.Error(f)
		}
		if n := w.pool.Status().Processes; n != 0 {
			synctest.Wait()
			if n = w.pool.Status().Processes; n != 0 {
				t.Errorf("%d processes", n)
			}
		}
	})
}

// TestWarnsOfTools holds that the log says once that the names of tools speak of what a server keeps for one client.
func TestWarnsOfTools(t *testing.T) {
	lists := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "tools/list" {
			s.Result(r, `{"tools":[{"name":"echo"},{"name":"browser_click"},{"name":"listPages"}]}`)
		}
		return r.Method == "tools/list"
	}
	run(t, options{on: lists}, func(t *testing.T, w *world) {
		a, b := w.open("2025-11-25"), w.open("2025-11-25")
		for i, a := range []*agent{a, a, b} {
			a.ask("tools/list", "{}")
			w.logs(`tools="browser_click, listPages"`, i == 0)
		}
	})
}

// TestStateWord holds which names speak of a state.
func TestStateWord(t *testing.T) {
	for name, want := range map[string]string{
		"browser_navigate": "browser", "@playwright/mcp@latest": "playwright", "listPages": "page", "new-tab": "tab", "TextEditor": "editor",
		"start_process": "process", "listProcesses": "process", "read_terminal": "terminal", "server-memory": "memory", "chrome-devtools-mcp": "chrome",
		"echo": "", "homepage": "", "table": "", "read_file": "", "stable": "", "memorable": "", "": "",
	} {
		if got := multiplex.StateWord(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
