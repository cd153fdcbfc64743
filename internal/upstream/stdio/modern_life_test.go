package stdio_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

// TestUnused holds that a listen keeps a process busy, and is no call to it.
func TestUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{on: func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool { return r.Method != "tools/list" }} // which alone is answered
		u, pool := newUpstream(t, x, nil)
		want := func(what string, state stdio.State, unused time.Time) {
			t.Helper()
			synctest.Wait()
			if use := pool.Uses()[0]; use.State != state || !use.Unused.Equal(unused) {
				t.Errorf("%s: %s, unused since %v, want %v", what, use.State, use.Unused, unused)
			}
		}
		ctx, leave := context.WithCancel(t.Context())
		res, f := do(u, ctx, request("1", "subscriptions/listen", `"notifications":{},`))
		if f != nil {
			t.Fatal(f)
		}
		begun := time.Now()
		time.Sleep(time.Minute) // false time
		want("a listen", stdio.StateBusy, begun)
		var calls sync.WaitGroup
		giveUp, cancel := context.WithCancel(t.Context())
		calls.Go(func() { _, _ = do(u, giveUp, request("2", "tools/call", `"name":"x",`)) })
		want("a call beside it", stdio.StateBusy, time.Time{})
		cancel()
		calls.Wait()
		want("after that", stdio.StateBusy, time.Now())
		ended := time.Now()
		time.Sleep(time.Minute) // false time
		want("a minute later", stdio.StateBusy, ended)
		leave()
		_ = res.Events.Close()
		want("nobody", stdio.StateIdle, time.Now())
	})
}

// TestEndUnused holds which processes are ended that nobody calls, and that the next call has another one at once, also while the ended
// one does not end.
func TestEndUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Params.Name == "slow" {
				<-answer
			}
			return r.Method == "subscriptions/listen"
		}}
		u, pool := newUpstream(t, x, nil)
		begun := time.Now()
		for n := range 3 {
			listen, f := do(u, t.Context(), request("1", "subscriptions/listen", `"notifications":{},`))
			if f != nil {
				t.Fatal(f)
			}
			var calls sync.WaitGroup
			calls.Go(func() {
				if res, f := do(u, t.Context(), request("2", "tools/call", `"name":"slow",`)); f != nil || res.Status != 200 {
					t.Errorf("a call: %+v, %v", res, f)
				}
			})
			synctest.Wait()
			one := x.last()
			one.IgnoreStop = true
			defer one.End("signal: killed")
			if pool.EndUnused(one) {
				t.Error("it was ended in a call")
			}
			answer <- struct{}{}
			calls.Wait()
			if !pool.EndUnused(one) || pool.EndUnused(one) {
				t.Error("a listen alone: it was not ended, or twice")
			}
			if _, err := listen.Events.Next(); err == nil {
				t.Error("the listen goes on")
			}
			_ = listen.Events.Close()
			if res, f := do(u, t.Context(), request("3", "tools/list", "")); f != nil || res.Status != 200 || x.started() != n+2 {
				t.Errorf("after that: %+v, %v, %d starts", res, f, x.started())
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("it was counted as an end of its own: %v", took)
		}
	})
}

// TestEndUnusedSessions holds that a session's process is the session's, also where several share it, and that a spare which was ended is
// given to nobody.
func TestEndUnusedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			time.Sleep(time.Minute) // longer than an agent waits
			return false
		}}
		_, pool := newUpstream(t, x, nil)
		initialize := []byte(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)
		var lease *stdio.Lease
		open := func() *mcp.Failure {
			var m mcp.Message
			if err := mcp.Scan(initialize, &m); err != nil {
				t.Fatal(err)
			}
			var f *mcp.Failure
			if lease, _, f = pool.Open(t.Context(), initialize, &m, func([]byte, *mcp.Message) {}); f == nil {
				lease.Leave() // nothing is under way
			}
			return f
		}
		if f := open(); f == nil || f.Reason != mcp.ReasonStillStarting {
			t.Fatal(f)
		}
		time.Sleep(time.Minute) // false time
		spare := x.last()
		spare.IgnoreStop = true
		defer spare.End("signal: killed")
		if n := pool.Status().Spare; n != 1 || !pool.EndUnused(spare) || pool.Status().Spare != 0 {
			t.Errorf("%d spares; one was not ended", n)
		}
		x.on = nil
		if f := open(); f != nil || x.last() == spare {
			t.Errorf("%v, and has it the one that was ended: %v", f, x.last() == spare)
		}
		if pool.EndUnused(x.last()) {
			t.Error("a session's process was ended")
		}
		lease.Share(1)
		if pool.EndUnused(x.last()) {
			t.Error("a process was ended that a session shares")
		}
		lease.Share(0)
		if !pool.EndUnused(x.last()) {
			t.Error("a process was not ended that sessions have shared")
		}
	})
}

// TestLeavingCancels holds that the server is told when an agent leaves, under the id that it knows.
func TestLeavingCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{on: func(*mcptest.Stdio, mcptest.StdioRequest) bool { return true }}
		u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.Call = time.Minute })
		ctx, leave := context.WithTimeout(t.Context(), 11*time.Second)
		defer leave()
		_, f := do(u, ctx, request("1", "tools/call", `"name":"x",`))
		if f == nil || f.Reason != mcp.ReasonCanceled || !f.Silent || f.Waited != 11*time.Second {
			t.Errorf("%+v", f)
		}
		synctest.Wait()
		if got := x.methods(); got != "server/discover tools/call notifications/cancelled server/discover" && // in either order
			got != "server/discover tools/call server/discover notifications/cancelled" {
			t.Errorf("the server got %s", got)
		}
		u, _ = newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.FirstByte, o.Call = 5*time.Second, time.Minute })
		_, f = do(u, t.Context(), request("1", "tools/list", ""))
		if f == nil || f.Reason != mcp.ReasonFirstByte || !f.Silent {
			t.Errorf("%+v", f)
		}
		begun := time.Now()
		res, f := do(u, t.Context(), request("1", "tools/call", `"name":"x",`))
		if f != nil || res.Events == nil || time.Since(begun) != 15*time.Second {
			t.Fatalf("%+v, %v", res, f)
		}
		for range 2 {
			if ev, err := res.Events.Next(); err != nil || string(ev.Raw) != ":\n\n" {
				t.Errorf("%q, %v", ev.Raw, err)
			}
		}
		var late *mcp.Failure
		if _, err := res.Events.Next(); !errors.As(err, &late) || late.Reason != mcp.ReasonCallTimeout || time.Since(begun) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		_ = res.Close()
	})
}

// TestProcessEnds holds that calls under way get an error when the process ends, that the next one starts another, and that
// an unused one goes.
func TestProcessEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{}
		x.on = func(s *mcptest.Stdio, r mcptest.StdioRequest) bool { return r.Params.Name == "hang" }
		u, pool := newUpstream(t, x, nil)
		failed := make(chan *mcp.Failure, 3)
		for range 3 {
			go func() {
				_, f := do(u, t.Context(), request("1", "tools/call", `"name":"hang",`))
				failed <- f
			}()
		}
		synctest.Wait()
		x.last().End("signal: killed")
		for range 3 {
			if f := <-failed; f == nil || f.Code != 1502 || f.Reason != mcp.ReasonBrokeOff || !strings.Contains(f.Message, "signal: killed") {
				t.Errorf("%v", f)
			}
		}
		for range 2 {
			if _, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil {
				t.Errorf("the next call: %v", f)
			}
		}
		if n := x.started(); n != 2 {
			t.Errorf("%d processes", n)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if st := pool.Status(); st.Processes != 0 {
			t.Errorf("%+v after idle_timeout", st)
		}
		if _, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil {
			t.Errorf("after it: %v", f)
		}
	})
}

// TestHung holds that a process which is silent is asked again for server/discover after a call has timed out, and ended where it
// stays silent: the next call has another one. One that answers stays.
func TestHung(t *testing.T) {
	for _, answers := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var hung, asked atomic.Bool
			x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
				asked.Store(hung.Load())
				if answers || !hung.Load() {
					s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
				}
			}}
			x.on = func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
				hung.Store(x.started() == 1)
				return hung.Load()
			}
			u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.Call = time.Minute })
			for _, one := range []struct {
				method string
				reason mcp.Reason
			}{{"tools/list", mcp.ReasonFirstByte}, {"tools/call", mcp.ReasonCallTimeout}} {
				res, f := do(u, t.Context(), request("1", one.method, `"name":"x",`))
				for f == nil && res.Events != nil {
					if _, err := res.Events.Next(); err != nil {
						_ = res.Close()
						f = mcp.AsFailure(err)
					}
				}
				if timedOut := f != nil && f.Reason == one.reason; timedOut != (answers || one.method == "tools/list") {
					t.Errorf("answers: %v: %s: %v", answers, one.method, f)
				}
				time.Sleep(6 * time.Second)
				synctest.Wait()
			}
			if n := x.started(); !asked.Load() && answers || (n == 1) != answers {
				t.Errorf("answers: %v: %d processes, asked: %v", answers, n, asked.Load())
			}
		})
	}
}
