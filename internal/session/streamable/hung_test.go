package streamable_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/session/streamable"
)

// TestHung holds that a process which is silent is asked once after calls have timed out, and ended where it stays silent: what is
// under way fails, and the session heals.
func TestHung(t *testing.T) {
	x := &scripted{}
	world(t, x, options{front: func(o *streamable.Options) { o.Call = time.Minute }}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		x.seen()
		begun := time.Now()
		failed := make(chan said, 2)
		for i := range 2 {
			go func() { failed <- a.call(toolCall(i, "mute", "x")) }()
		}
		time.Sleep(30 * time.Second)
		underWay := a.call(list)
		for range 2 {
			if got := <-failed; got.failure == nil || got.failure.Reason != mcp.ReasonCallTimeout {
				t.Errorf("the calls: %+v", got)
			}
		}
		if f := underWay.failure; f == nil || f.Code != 1502 || f.Reason != mcp.ReasonBrokeOff || f.Sent != mcp.SentUnknown || time.Since(begun) != 65*time.Second {
			t.Errorf("what was under way: %v after %v", f, time.Since(begun))
		}
		if got := x.seen(); strings.Count(got, "ping") != 1 {
			t.Errorf("the server got %s", got)
		}
		if got := a.call(list); got.failure != nil || !strings.Contains(got.body, `"from":2`) {
			t.Errorf("a list afterwards: %+v", got)
		}
		if got := a.call(toolCall(3, "echo", "x")); got.failure == nil || got.failure.Code != 1410 {
			t.Errorf("a call afterwards: %+v", got)
		}
		if got := a.call(toolCall(4, "echo", "x")); got.failure != nil {
			t.Errorf("the next one: %v", got.failure)
		}
	})
}

// TestBusyProcess holds that a process is not asked, and nothing held back, while a call that was sent before is within its own bound,
// and that one which hangs is found out when that bound has passed.
func TestBusyProcess(t *testing.T) {
	x := &scripted{}
	world(t, x, options{front: func(o *streamable.Options) { o.Call = 3 * time.Minute }}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		server, begun := x.last(), time.Now()
		tool := make(chan said)
		go func() { tool <- a.call(toolCall(1, "mute", "x")) }()
		synctest.Wait()
		for i := range 3 { // one by one: each is sent, and has its own timeout
			if got := a.call(list); got.failure == nil || got.failure.Reason != mcp.ReasonFirstByte || time.Since(begun) != time.Duration(i+1)*55*time.Second {
				t.Errorf("list %d: %+v after %v", i, got, time.Since(begun))
			}
		}
		if got := x.seen(); strings.Contains(got, "ping") {
			t.Errorf("the server got %s", got)
		}
		if got := <-tool; got.failure == nil || got.failure.Reason != mcp.ReasonCallTimeout || time.Since(begun) != 3*time.Minute {
			t.Errorf("the tool: %+v after %v", got, time.Since(begun))
		}
		<-server.Stopped
		if took := time.Since(begun); took != 3*time.Minute+5*time.Second {
			t.Errorf("it was ended after %v", took)
		}
	})
}

// TestSignsOfLife holds that a process stays which answers the ping, or sends anything else, and that none is asked that has sent
// something while the call waited.
func TestSignsOfLife(t *testing.T) {
	for _, c := range []struct {
		tool, text string
		asked      bool
	}{{"hang", "x", true}, {"mute", "log", true}, {"hang", "then list", false}} {
		x := &scripted{}
		world(t, x, options{front: func(o *streamable.Options) { o.Call = time.Minute }}, func(t *testing.T, r *rig, a *agent) {
			a.open(mcp.Version20251125)
			x.seen()
			if c.text == "then list" {
				time.AfterFunc(time.Second, func() { a.call(list) })
			}
			if got := a.call(toolCall(1, c.tool, c.text)); got.failure == nil || got.failure.Reason != mcp.ReasonCallTimeout {
				t.Errorf("%+v: %+v", c, got)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if asked := strings.Contains(x.seen(), "ping"); asked != c.asked {
				t.Errorf("%+v: asked: %v", c, asked)
			}
			if st := r.pool.Status(); st.Processes != 1 || x.started() != 1 {
				t.Errorf("%+v: %+v, %d started", c, st, x.started())
			}
		})
	}
}

// TestSlowAgentIsNoSilence holds that a process is neither asked nor ended while its agent does not read: what it has written waits.
func TestSlowAgentIsNoSilence(t *testing.T) {
	x := &scripted{}
	world(t, x, options{front: func(o *streamable.Options) { o.Call = time.Minute }}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		stream, f := a.do(t.Context(), mcp.LaneStream, "")
		if f != nil {
			t.Fatal(f)
		}
		const lines = 20
		line := fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"x":%q}}`+"\n", strings.Repeat("x", 100<<10))
		go x.last().Write("%s", strings.Repeat(line, lines))
		synctest.Wait()
		if got := a.call(toolCall(1, "mute", "x")); got.failure == nil || got.failure.Reason != mcp.ReasonCallTimeout {
			t.Errorf("a tool: %+v", got)
		}
		time.Sleep(10 * time.Second)
		if got := x.seen(); strings.Contains(got, "ping") || isStopped(x.last()) {
			t.Fatalf("the server got %s; ended: %v", got, isStopped(x.last()))
		}
		for n := range lines {
			if _, err := stream.Events.Next(); err != nil {
				t.Fatalf("event %d: %v", n, err)
			}
		}
		closeResult(t, stream)
	})
}

func isStopped(s *mcptest.Stdio) bool {
	select {
	case <-s.Stopped:
		return true
	default:
		return false
	}
}

// TestHeldBack holds that what is called while a process is being asked whether it answers waits, and goes to that process where it does,
// else to the next one, as after any loss.
func TestHeldBack(t *testing.T) {
	for _, c := range []struct {
		mute, from string
		after      time.Duration
		code       int // of a call that may change something
	}{{"x", `"from":2`, 5 * time.Second, mcp.CodeSessionRestart}, {"wakes", `"from":1`, 3 * time.Second, 0}} {
		x := &scripted{}
		world(t, x, options{front: func(o *streamable.Options) { o.Call = time.Minute }}, func(t *testing.T, r *rig, a *agent) {
			a.open(mcp.Version20251125)
			if got := a.call(toolCall(1, "mute", c.mute)); got.failure == nil || got.failure.Reason != mcp.ReasonCallTimeout {
				t.Errorf("%s: %+v", c.mute, got)
			}
			begun := time.Now()
			time.Sleep(time.Second)
			x.seen()
			reads, changes := make(chan said), make(chan said)
			go func() { reads <- a.call(list) }()
			go func() { changes <- a.call(toolCall(2, "echo", "x")) }()
			synctest.Wait()
			if got := x.seen(); got != "" {
				t.Errorf("%s: the process that is asked got %s", c.mute, got)
			}
			if got := <-reads; got.failure != nil || !strings.Contains(got.body, c.from) || time.Since(begun) != c.after {
				t.Errorf("%s: a list: %+v after %v", c.mute, got, time.Since(begun))
			}
			code := 0
			if got := <-changes; got.failure != nil {
				code = got.failure.Code
			}
			if code != c.code {
				t.Errorf("%s: a call got the code %d", c.mute, code)
			}
		})
	}
}

// TestCancelledWhileItWaits holds that a call which its agent cancels before its process is there, or while that is being asked whether
// it answers, is never sent.
func TestCancelledWhileItWaits(t *testing.T) {
	for _, gone := range []bool{false, true} {
		x := &scripted{slow: time.Second}
		o := options{front: func(o *streamable.Options) { o.Call, o.Heal = time.Minute, streamable.HealAll }}
		world(t, x, o, func(t *testing.T, r *rig, a *agent) {
			a.open(mcp.Version20251125)
			if gone {
				x.last().End("signal: killed")
			} else {
				a.call(toolCall(1, "mute", "x")) // until it times out
			}
			synctest.Wait()
			x.seen()
			begun, got := time.Now(), make(chan said)
			go func() { got <- a.call(toolCall(2, "echo", "x")) }()
			synctest.Wait()
			a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`))
			if f := (<-got).failure; f == nil || f.Reason != mcp.ReasonCanceled || f.Sent != mcp.SentNo || time.Since(begun) != 0 {
				t.Errorf("gone: %v: %v after %v", gone, f, time.Since(begun))
			}
			time.Sleep(10 * time.Second)
			a.call(list)
			if got := x.seen(); strings.Contains(got, "tools/call") {
				t.Errorf("gone: %v: the servers got %s", gone, got)
			}
		})
	}
}

// giveUps are the ways in which an agent gives up call 1, with when it does so.
var giveUps = map[string]func(a *agent, after time.Duration){
	"leaves": func(a *agent, after time.Duration) {
		ctx, leave := context.WithTimeout(a.t.Context(), after)
		defer leave()
		a.read(a.do(ctx, mcp.LaneRequest, toolCall(1, "mute", "x")))
	},
	"cancels": func(a *agent, after time.Duration) {
		go a.call(toolCall(1, "mute", "x"))
		time.Sleep(after)
		a.read(a.do(a.t.Context(), 0, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`))
	},
}

// TestGivenUpCalls holds when a process is asked whether it answers after an agent gave a call up, and when it is ended: no sooner than
// where agents wait for the timeout.
func TestGivenUpCalls(t *testing.T) {
	for _, c := range []struct{ after, ends time.Duration }{
		{9 * time.Second, 0}, // it has changed its mind
		{12 * time.Second, 55 * time.Second},
		{20 * time.Second, 55 * time.Second}, // the answer is a stream by then
		{54 * time.Second, 59 * time.Second},
	} {
		for how, giveUp := range giveUps {
			x := &scripted{}
			world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
				a.open(mcp.Version20251125)
				server, begun := x.last(), time.Now()
				giveUp(a, c.after)
				time.Sleep(time.Minute - time.Since(begun))
				if n := strings.Count(x.seen(), "ping"); (n == 1) != (c.ends > 0) {
					t.Errorf("%s after %v: asked %d times", how, c.after, n)
				}
				select {
				case <-server.Stopped:
					if c.ends == 0 {
						t.Errorf("%s after %v: the process was ended", how, c.after)
					}
				default:
					if c.ends > 0 {
						t.Errorf("%s after %v: the process goes on", how, c.after)
					}
				}
			})
			world(t, x, options{}, func(t *testing.T, r *rig, a *agent) { // a call that comes meanwhile
				a.open(mcp.Version20251125)
				begun := time.Now()
				giveUp(a, c.after)
				ctx, leave := context.WithTimeout(t.Context(), 50*time.Second)
				defer leave()
				got := a.read(a.do(ctx, mcp.LaneRequest, list))
				if served := got.failure == nil; served != (c.ends > 0) || served && time.Since(begun) != c.ends {
					t.Errorf("%s after %v: a list got %+v after %v", how, c.after, got, time.Since(begun))
				}
			})
		}
	}
}

// TestAskedOnce holds that a process which answers is asked once in a silence, however many calls are given up in it.
func TestAskedOnce(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		id := 0
		hang := func(after ...time.Duration) (asked int) {
			done := make(chan said)
			for _, d := range after {
				id++
				body := toolCall(id, "hang", "x")
				go func() {
					ctx, leave := context.WithTimeout(t.Context(), d)
					defer leave()
					done <- a.read(a.do(ctx, mcp.LaneRequest, body))
				}()
			}
			for range after {
				<-done
			}
			synctest.Wait()
			return strings.Count(x.seen(), "ping")
		}
		if n := hang(11*time.Second, 11*time.Second, 12*time.Second, 30*time.Second); n != 1 {
			t.Errorf("asked %d times", n)
		}
		cancel := time.AfterFunc(2*time.Second, func() {
			a.call(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`)
		})
		defer cancel.Stop()
		if n := hang(11500 * time.Millisecond); n != 0 {
			t.Errorf("asked %d times after a call that was cancelled in time, and then left", n)
		}
		for range 20 {
			if n := hang(50 * time.Millisecond); n != 0 {
				t.Errorf("asked %d times after a moment", n)
			}
		}
		if n := hang(11 * time.Second); n != 1 {
			t.Errorf("in the next silence it was asked %d times", n)
		}
		if x.started() != 1 {
			t.Errorf("%d processes", x.started())
		}
	})
}
