package stdio_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
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

// hanging is a server whose first process answers nothing once a tool was called in it, but for server/discover after so long, where
// that is not 0. Each says its number with everything.
func hanging(wakes time.Duration) *server {
	x := &server{}
	var hangs atomic.Bool
	x.discover = func(s *mcptest.Stdio, r mcptest.StdioRequest) {
		if x.index(s) == 0 && hangs.Load() {
			if wakes == 0 {
				return
			}
			time.Sleep(wakes)
			hangs.Store(false)
		}
		s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
	}
	x.on = func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method == "tools/call" {
			hangs.Store(true)
		}
		if r.ID != nil && r.Method != "" && (x.index(s) > 0 || !hangs.Load()) {
			s.Result(r, fmt.Sprintf(`{"resultType":"complete","process":%d}`, x.index(s)))
		}
		return true
	}
	return x
}

// leave calls a tool and gives the call up after a while.
func leave(t *testing.T, u mcp.Caller, after time.Duration) {
	t.Helper()
	ctx, leave := context.WithTimeout(t.Context(), after)
	defer leave()
	res, f := do(u, ctx, request("1", "tools/call", `"name":"x",`))
	if f == nil && res.Events != nil {
		for err := error(nil); err == nil; {
			_, err = res.Events.Next()
		}
		_ = res.Close()
	}
}

// TestGivenUpCalls holds when the process is asked whether it answers after an agent has left, when it is ended, and that what is called
// meanwhile waits, and goes to it where it answers, else to the next one.
func TestGivenUpCalls(t *testing.T) {
	for _, c := range []struct {
		after, wakes time.Duration
		process      int // that answers a later call
		at           time.Duration
	}{
		{12 * time.Second, 0, 1, 55 * time.Second},
		{20 * time.Second, 0, 1, 55 * time.Second}, // the answer is a stream by then
		{54 * time.Second, 0, 1, 59 * time.Second},
		{12 * time.Second, 3 * time.Second, 0, 15 * time.Second},
		{12 * time.Second, 42 * time.Second, 0, 54 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := hanging(c.wakes)
			u, _ := newUpstream(t, x, nil)
			begun := time.Now()
			leave(t, u, c.after)
			time.Sleep(time.Second)
			res, f := do(u, t.Context(), request("2", "tools/list", ""))
			if f != nil || !strings.Contains(string(res.Body), fmt.Sprintf(`"process":%d`, c.process)) || time.Since(begun) != max(c.at, c.after+time.Second) {
				t.Errorf("%+v: %+v, %v after %v", c, res, f, time.Since(begun))
			}
			if n := strings.Count(x.methods(), "server/discover"); n != 2+c.process {
				t.Errorf("%+v: the processes were asked %d times", c, n)
			}
		})
	}
}

// TestChangedItsMind holds that nothing is asked after a call that was given up within 10 s.
func TestChangedItsMind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := hanging(0)
		u, _ := newUpstream(t, x, nil)
		for _, after := range []time.Duration{50 * time.Millisecond, 9 * time.Second} {
			leave(t, u, after)
			time.Sleep(time.Minute)
			synctest.Wait()
			if n := strings.Count(x.methods(), "server/discover"); n != 1 || x.started() != 1 {
				t.Errorf("left after %v: asked %d times, %d processes", after, n, x.started())
			}
		}
	})
}

// TestLeavesWhileItWaits holds that a call whose agent leaves while the process is being asked is not sent.
func TestLeavesWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := hanging(0)
		u, _ := newUpstream(t, x, nil)
		leave(t, u, 12*time.Second)
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, f := do(u, ctx, request("2", "tools/list", "")); f == nil || f.Reason != mcp.ReasonCanceled || f.Sent != mcp.SentNo {
			t.Errorf("%+v", f)
		}
		time.Sleep(time.Minute)
		if got := x.methods(); strings.Contains(got, "tools/list") {
			t.Errorf("the server got %s", got)
		}
	})
}

// TestReplicaThatIsAsked holds that calls go to another process while one is being asked whether it answers.
func TestReplicaThatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := hanging(0)
		u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.Replicas = 2 })
		leave(t, u, 12*time.Second)
		leave(t, u, time.Second) // it waits for the process that is asked, and another is started
		begun := time.Now()
		res, f := do(u, t.Context(), request("2", "tools/list", ""))
		if f != nil || !strings.Contains(string(res.Body), `"process":1`) || time.Since(begun) != 0 {
			t.Errorf("%+v, %v after %v", res, f, time.Since(begun))
		}
	})
}

// TestEndsInUse holds that a process which ends by what it was asked is started again after a second at most, however often that is.
func TestEndsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Method == "tools/call" {
				s.End("signal: segmentation fault")
			}
			return r.Method == "tools/call"
		}}
		u, _ := newUpstream(t, x, nil)
		begun := time.Now()
		for n := range 8 {
			if _, f := do(u, t.Context(), request("1", "tools/call", `"name":"x",`)); f == nil || f.Reason != mcp.ReasonBrokeOff {
				t.Errorf("%d: %v", n, f)
			}
		}
		if took := time.Since(begun); took != 7*time.Second || x.started() != 8 { // a second from start to start
			t.Errorf("%d starts in %v", x.started(), took)
		}
		time.Sleep(time.Second)
		begun = time.Now()
		if _, f := do(u, t.Context(), request("2", "tools/list", "")); f != nil || time.Since(begun) != 0 {
			t.Errorf("what does not end it: %v after %v", f, time.Since(begun))
		}
	})
}

// oneByOne is a server that does one thing after another, server/discover too, and reads on meanwhile. A tool takes as long as its name
// says, and says so half a second after it has begun where that ends in "!".
func oneByOne() *server {
	x := &server{}
	var mu sync.Mutex
	last := map[*mcptest.Stdio]chan struct{}{}
	work := func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		mu.Lock()
		defer mu.Unlock()
		before, done := last[s], make(chan struct{})
		last[s] = done
		go func() {
			defer close(done)
			if before != nil {
				<-before
			}
			if name, says := strings.CutSuffix(r.Params.Name, "!"); name != "" {
				takes, err := time.ParseDuration(name)
				if err != nil {
					panic(err)
				}
				if says {
					time.Sleep(time.Second / 2)
					s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}` + "\n")
				}
				select {
				case <-time.After(takes):
				case <-s.Done():
				}
			}
			if r.ID != nil {
				s.Result(r, fmt.Sprintf(`{"resultType":"complete","supportedVersions":["2026-07-28"],"process":%d}`, x.index(s)))
			}
		}()
		return true
	}
	x.discover = func(s *mcptest.Stdio, r mcptest.StdioRequest) { work(s, r) }
	x.on = work
	return x
}

// sent is a call that is made after a while, and what becomes of it: the number of the process that answers it, or the reason of its
// failure, and when.
type sent struct {
	at, leaves   time.Duration // leaves: when its agent gives it up; 0: never
	method, tool string        // tool: how long it takes
	becomes      string
}

// outcome makes the call.
func (c *sent) outcome(t *testing.T, u mcp.Caller) string {
	begun := time.Now()
	time.Sleep(c.at)
	ctx := t.Context()
	if c.leaves > 0 {
		left, leave := context.WithTimeout(ctx, c.leaves-c.at)
		defer leave()
		ctx = left
	}
	res, f := do(u, ctx, request("1", c.method, `"name":"`+c.tool+`",`))
	for f == nil && res.Events != nil {
		ev, err := res.Events.Next()
		if err != nil {
			_ = res.Close()
			f = mcp.AsFailure(err)
		}
		if ev.Answer {
			_ = res.Close()
			res = &mcp.Result{Body: bytes.Clone(ev.Data)}
		}
	}
	if f != nil {
		return fmt.Sprintf("%s %v", f.Reason, time.Since(begun))
	}
	return fmt.Sprintf("%s %v", mcp.MemberOf(mcp.MemberOf(res.Body, "result"), "process"), time.Since(begun))
}

// TestBusyProcess holds that a process which does one thing after another is neither asked nor ended, and nothing held back, while a
// call that was sent before is within its own bound; and how one that hangs is found out then.
func TestBusyProcess(t *testing.T) {
	const list, tool = "tools/list", "tools/call"
	for name, calls := range map[string][]sent{
		"busy": {
			{0, 0, tool, "2m", "0 2m0s"},
			{time.Second, 0, list, "", "first_byte_timeout 56s"},
			{2 * time.Second, 22 * time.Second, list, "", "canceled 22s"},
			{110 * time.Second, 0, list, "", "0 2m0s"},
		},
		"hangs until its bound": {
			{0, 0, tool, "1h", "call_timeout 3m0s"},
			{time.Second, 0, list, "", "first_byte_timeout 56s"},
			{170 * time.Second, 0, list, "", "broke_off 3m5s"},
			{181 * time.Second, 0, list, "", "1 3m5s"},
		},
		"hangs until it is given up": {
			{0, 70 * time.Second, tool, "1h", "canceled 1m10s"},
			{time.Second, 0, list, "", "first_byte_timeout 56s"},
			{71 * time.Second, 0, list, "", "1 1m15s"},
		},
		"has said something, and hangs": {
			{0, 70 * time.Second, tool, "1h!", "canceled 1m10s"},
			{time.Second, 0, list, "", "first_byte_timeout 56s"},
			{20 * time.Second, 0, list, "", "first_byte_timeout 1m15s"},
			{76 * time.Second, 0, list, "", "1 1m20s"},
		},
		"is behind the one that hangs": {
			{0, 0, list, "1h", "first_byte_timeout 55s"},
			{time.Second, 0, tool, "1s", "broke_off 1m0s"},
			{56 * time.Second, 0, list, "", "1 1m0s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := oneByOne()
				u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.Call = 3 * time.Minute })
				if _, f := do(u, t.Context(), request("1", list, "")); f != nil {
					t.Fatal(f)
				}
				var all sync.WaitGroup
				for _, c := range calls {
					all.Go(func() {
						if got := c.outcome(t, u); got != c.becomes {
							t.Errorf("%s at %v: %s, want %s", c.method, c.at, got, c.becomes)
						}
					})
				}
				all.Wait()
				if n := strings.Count(x.methods(), "server/discover"); name == "busy" && n != 1 {
					t.Errorf("it was asked %d times", n)
				}
			})
		})
	}
}

// TestListenIsNoWork holds that a listen, which waits for as long as its agent wants, does not keep a process from being asked.
func TestListenIsNoWork(t *testing.T) {
	for _, firstByte := range []time.Duration{5 * time.Second, 55 * time.Second} { // before an answer becomes a stream, and after
		synctest.Test(t, func(t *testing.T) {
			x := oneByOne()
			work := x.on
			x.on = func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
				return r.Method == "subscriptions/listen" || work(s, r)
			}
			u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.FirstByte = firstByte })
			res, f := do(u, t.Context(), request("1", "subscriptions/listen", `"notifications":{},`))
			if f != nil {
				t.Fatal(f)
			}
			hangs := sent{0, 0, "tools/list", "1h", fmt.Sprint("first_byte_timeout ", firstByte)}
			if got := hangs.outcome(t, u); got != hangs.becomes {
				t.Errorf("%s, want %s", got, hangs.becomes)
			}
			time.Sleep(6 * time.Second) // false time
			if st := x.last(); !isStopped(st) {
				t.Errorf("%v: the process goes on", firstByte)
				st.End("")
			}
			if ev, err := res.Events.Next(); err != io.EOF {
				t.Errorf("the listen got %s, %v", ev.Data, err)
			}
			_ = res.Close()
		})
	}
}

func isStopped(s *mcptest.Stdio) bool {
	select {
	case <-s.Stopped:
		return true
	default:
		return false
	}
}

// TestBusyAndDoesNotRead holds that a process which does not read is ended, whatever it does.
func TestBusyAndDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Method == "tools/call" {
				<-s.Done()
			}
			return false
		}}
		u, _ := newUpstream(t, x, nil)
		var all sync.WaitGroup
		for _, c := range []sent{{0, 0, "tools/call", "", "first_byte_timeout 56s"}, {time.Second, 0, "tools/list", "", "first_byte_timeout 56s"}} {
			all.Go(func() {
				if got := c.outcome(t, u); got != c.becomes {
					t.Errorf("%s: %s, want %s", c.method, got, c.becomes)
				}
			})
		}
		all.Wait()
	})
}
