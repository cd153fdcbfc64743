package stdio_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const meta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`

// server is a modern scripted server, and what it got.
type server struct {
	discover func(s *mcptest.Stdio, r mcptest.StdioRequest) // nil: it answers
	on       func(s *mcptest.Stdio, r mcptest.StdioRequest) bool

	settled atomic.Int32 // starts

	mu    sync.Mutex
	all   []*mcptest.Stdio
	lines []string
}

func (x *server) start(context.Context) (stdio.Process, func(), error) {
	s := mcptest.NewStdio(func(s *mcptest.Stdio) {
		for {
			r, ok := s.Next()
			if !ok {
				return
			}
			x.mu.Lock()
			x.lines = append(x.lines, r.Line)
			x.mu.Unlock()
			switch {
			case r.Method == "server/discover" && x.discover != nil:
				x.discover(s, r)
			case r.Method == "server/discover":
				s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
			case x.on != nil && x.on(s, r):
			case r.ID != nil && r.Method != "":
				s.Result(r, `{"resultType":"complete","name":"`+r.Params.Name+`"}`)
			}
		}
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, s)
	return s, func() { x.settled.Add(1) }, nil
}

func (x *server) started() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.all)
}

func (x *server) last() *mcptest.Stdio {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all[len(x.all)-1]
}

// got returns the last line that came.
func (x *server) got() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.lines[len(x.lines)-1]
}

// methods returns the methods of all lines that came.
func (x *server) methods() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var all []string
	for _, line := range x.lines {
		var m struct{ Method string }
		_ = json.Unmarshal([]byte(line), &m) // Next has read it
		all = append(all, m.Method)
	}
	return strings.Join(all, " ")
}

// newUpstream makes an upstream over the server.
func newUpstream(t testing.TB, x *server, change func(*stdio.PoolOptions, *stdio.Options)) (*stdio.Upstream, *stdio.Pool) {
	t.Helper()
	po := stdio.PoolOptions{Name: "server", Start: x.start}
	o := stdio.Options{Legacy: mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return nil, &mcp.Failure{Code: 1, Reason: "legacy"}
	})}
	if change != nil {
		change(&po, &o)
	}
	o.Pool = stdio.NewPool(po)
	t.Cleanup(o.Pool.Close)
	return stdio.New(o), o.Pool
}

func call(body string) *mcp.Call {
	c := &mcp.Call{Upstream: "server", Era: mcp.EraModern, Version: mcp.Version20260728, Body: []byte(body), Header: header.List{}}
	if mcp.Scan(c.Body, &c.Message) != nil {
		c.Lane = mcp.LaneOpaque
	}
	if c.Message.Method == mcp.MethodSubscriptionsListen {
		c.Lane = mcp.LaneListen
	}
	if c.Message.Kind == mcp.KindNotification {
		c.Lane = mcp.LaneNotification
	}
	return c
}

func request(id, method, params string) *mcp.Call {
	return call(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + params + `"_meta":{` + meta + `}}}`)
}

func do(u mcp.Caller, ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	res, err := u.Call(ctx, c)
	var f *mcp.Failure
	errors.As(err, &f)
	return res, f
}

// TestStatuses holds the statuses in front of a pipe.
func TestStatuses(t *testing.T) {
	codes := map[string]int{"-32601": 404, "-32020": 400, "-32021": 400, "-32022": 400, "-32602": 200, "-32603": 200, "7": 200}
	x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":%s,"message":"m"}}`+"\n", r.ID, r.Params.Name)
		return true
	}}
	u, _ := newUpstream(t, x, nil)
	for code, want := range codes {
		res, f := do(u, t.Context(), request(`"a"`, "tools/call", `"name":"`+code+`",`))
		if f != nil || res.Status != want || !strings.Contains(string(res.Body), `"id":"a","error":{"code":`+code) || res.Checked != (want == 200) {
			t.Errorf("%s: %+v, %v", code, res, f)
		}
	}
	if _, f := do(u, t.Context(), call(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"-32602"}}`)); f == nil || f.Code != -32602 {
		t.Errorf("without _meta: %v", f)
	}
	half := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"-32602","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	if res, f := do(u, t.Context(), call(half)); f != nil || res.Status != 400 {
		t.Errorf("without capabilities: %+v, %v", res, f)
	}
	old := call(strings.Replace(half, "2026-07-28", "1999-01-01", 1))
	old.Era = mcp.EraLegacy
	if res, f := do(u, t.Context(), old); f != nil || res.Status != 400 {
		t.Errorf("a version that nobody knows: %+v, %v", res, f)
	}
	c := request("1", "tools/list", "")
	c.Mismatch = true
	if _, f := do(u, t.Context(), c); f == nil || f.Code != -32020 {
		t.Errorf("headers that differ: %v", f)
	}
	for lane, want := range map[mcp.Lane]int{mcp.LaneStream: 405, mcp.LaneEnd: 405, mcp.LaneFetch: 404} {
		c := call("")
		c.Lane = lane
		if res, f := do(u, t.Context(), c); f != nil || res.Status != want {
			t.Errorf("lane %d: %+v, %v", lane, res, f)
		}
	}
	for body, want := range map[string]int{`[{"jsonrpc":"2.0","method":"x"}]`: -32600, `{"jsonrpc"`: -32700, `{"jsonrpc":"2.0"}`: -32600} {
		c := call(body)
		c.Lane, c.Message = mcp.LaneOpaque, mcp.Message{}
		if _, f := do(u, t.Context(), c); f == nil || f.Code != want {
			t.Errorf("%s: %v", body, f)
		}
	}
	if n := x.started(); n != 1 {
		t.Errorf("%d processes", n)
	}
}

// TestRefused holds that a server which refuses server/discover is not asked again until it is another on disk, and that
// what only modern servers say is no refusal.
func TestRefused(t *testing.T) {
	for code, refuses := range map[string]bool{"-32601": true, "-32000": true, "-32022": true, "-32021": false} {
		x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":%s,"message":"m"}}`+"\n", r.ID, code)
		}}
		onDisk := "1"
		u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.OnDisk = func() string { return onDisk } })
		for id := range 3 {
			res, f := do(u, t.Context(), request(fmt.Sprint(id), "tools/list", ""))
			if f != nil || (res.Status >= 400) != refuses || !strings.Contains(string(res.Body), fmt.Sprintf(`"id":%d,`, id)) {
				t.Errorf("%s: %+v, %v", code, res, f)
			}
		}
		onDisk = "2"
		if _, f := do(u, t.Context(), request("9", "tools/list", "")); f != nil {
			t.Errorf("%s: %v", code, f)
		}
		if n := x.started(); (n == 2) != refuses || int(x.settled.Load()) != n {
			t.Errorf("%s: %d processes, %d settled", code, n, x.settled.Load())
		}
	}
}

// TestSlowDisk holds that a call does not wait for the look at the disk that another call has begun.
func TestSlowDisk(t *testing.T) {
	x := &server{}
	looks, slow := make(chan struct{}, 10), make(chan struct{})
	u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) {
		o.OnDisk = func() string {
			looks <- struct{}{}
			<-slow
			return "1"
		}
	})
	first := make(chan *mcp.Failure, 1)
	go func() {
		_, f := do(u, t.Context(), request("1", "tools/list", ""))
		first <- f
	}()
	<-looks
	leaves, cancel := context.WithCancel(t.Context())
	cancel()
	second := make(chan *mcp.Failure, 1)
	go func() {
		_, f := do(u, leaves, request("2", "tools/list", ""))
		second <- f
	}()
	select {
	case f := <-second:
		if f == nil || f.Reason != mcp.ReasonCanceled {
			t.Errorf("the second call: %v", f)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second call waits")
	}
	close(slow)
	if f := <-first; f != nil {
		t.Errorf("the first call: %v", f)
	}
}

// TestSpeaksBeforeDiscover holds that what a server writes before it has answered server/discover is taken like what comes later.
func TestSpeaksBeforeDiscover(t *testing.T) {
	for name, c := range map[string]struct{ wrote, wants string }{
		"a log message": {`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}`, ""},
		"a ping":        {`{"jsonrpc":"2.0","id":"p","method":"ping"}`, `{"jsonrpc":"2.0","id":"p","result":{}}`},
		"a request":     {`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`, `"id":7,"error":{"code":-32601`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
					s.Write("%s\n", c.wrote)
					s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
					s.Write("%s\n", c.wrote)
				}}
				u, _ := newUpstream(t, x, nil)
				if res, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil || res.Status != 200 {
					t.Errorf("%+v, %v", res, f)
				}
				synctest.Wait()
				x.mu.Lock()
				defer x.mu.Unlock()
				if n := strings.Count(strings.Join(x.lines, ""), c.wants); c.wants != "" && n != 2 {
					t.Errorf("%d answers, want 2: %q", n, x.lines)
				}
			})
		})
	}
}

// TestEndedAtDiscover holds that only a server which made an exit of its own at server/discover is taken for one without the modern era.
func TestEndedAtDiscover(t *testing.T) {
	for exit, refuses := range map[string]bool{"exit status 1": true, "signal: segmentation fault": true, "signal: killed": false} {
		x := &server{}
		x.discover = func(s *mcptest.Stdio, r mcptest.StdioRequest) {
			if x.started() == 1 {
				s.End(exit)
				return
			}
			s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
		}
		u, _ := newUpstream(t, x, nil)
		res, f := do(u, t.Context(), request("1", "tools/list", ""))
		if refused := f == nil && res.Status == 404; refused != refuses || !refuses && (f == nil || f.Reason != mcp.ReasonStartFailed) {
			t.Errorf("%s: %+v, %v", exit, res, f)
		}
		res, f = do(u, t.Context(), request("2", "tools/list", ""))
		if refused := f == nil && res.Status == 404; refused != refuses || f != nil {
			t.Errorf("%s: the next one: %+v, %v", exit, res, f)
		}
	}
}

// TestListens holds that listens of several agents with the same id are kept apart, that the subscription's id is put back,
// and how they end.
func TestListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Method == "subscriptions/listen" {
				s.Write(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`+"\n", r.ID)
			}
			return r.Method == "subscriptions/listen"
		}}
		u, _ := newUpstream(t, x, nil)
		var streams []mcp.Events
		var own []string
		for _, id := range []string{`"l"`, `"l"`, "1"} {
			res, f := do(u, t.Context(), request(id, "subscriptions/listen", `"notifications":{},`))
			if f != nil || res.Events == nil {
				t.Fatalf("%+v, %v", res, f)
			}
			ev, err := res.Events.Next()
			if err != nil || !strings.Contains(string(ev.Data), `"io.modelcontextprotocol/subscriptionId":`+id+`}`) {
				t.Errorf("%s: %s, %v", id, ev.Data, err)
			}
			var sent mcptest.StdioRequest
			if err := json.Unmarshal([]byte(x.got()), &sent); err != nil {
				t.Fatal(err)
			}
			streams, own = append(streams, res.Events), append(own, string(sent.ID))
		}
		x.last().Write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`+"\n", own[1])
		if ev, err := streams[1].Next(); err != nil || !strings.Contains(string(ev.Data), `list_changed`) || !strings.Contains(string(ev.Data), `"l"`) {
			t.Errorf("%s, %v", ev.Data, err)
		}
		x.last().Write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`+"\n", own[0])
		if ev, err := streams[0].Next(); err != io.EOF {
			t.Errorf("the one that the server ended: %s, %v", ev.Data, err)
		}
		x.last().Write(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`+"\n", own[2], own[2])
		if ev, err := streams[2].Next(); err != nil || !ev.Answer || !ev.Exact || !strings.Contains(string(ev.Data), `"id":1,`) || !strings.Contains(string(ev.Data), `subscriptionId":1}`) {
			t.Errorf("the end: %s, %v", ev.Data, err)
		}
		x.last().End("signal: killed")
		if ev, err := streams[1].Next(); err != io.EOF {
			t.Errorf("after the end of the process: %s, %v", ev.Data, err)
		}
		for _, s := range streams {
			_ = s.Close()
		}
	})
}

// TestUnreadMessages holds what becomes of what a server says to an agent that does not read: a listen ends, since each message of it counts,
// and the server is told so; of a call, messages are dropped, and the answer is not.
func TestUnreadMessages(t *testing.T) {
	const listen, call = "subscriptions/listen", "tools/call"
	for _, c := range []struct {
		method string
		n      int // messages
		bytes  int // of each, and a little more
		kept   int // one of a call has begun its stream
	}{{listen, 256, 0, 256}, {listen, 257, 0, 256}, {call, 300, 0, 257}, {listen, 20, 100 << 10, 10}, {call, 20, 100 << 10, 11}, {call, 3, 2 << 20, 2}} {
		synctest.Test(t, func(t *testing.T) {
			begun := make(chan struct{})
			x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
				for n := 0; n < c.n && r.Method == c.method; n++ {
					if r.Method == listen { // is a stream at once
						<-begun
					}
					s.Write(`{"jsonrpc":"2.0","method":"notifications/x","params":{"n":%d,"x":%q,"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`+"\n",
						n, strings.Repeat("x", c.bytes), r.ID)
					<-begun
				}
				return r.Method == listen
			}}
			u, _ := newUpstream(t, x, nil)
			res, f := do(u, t.Context(), request("1", c.method, `"name":"x",`))
			if f != nil || res.Events == nil {
				t.Fatalf("%+v: %+v, %v", c, res, f)
			}
			close(begun)
			synctest.Wait()
			got, ev, err := 0, mcp.Event{}, error(nil)
			overflow := c.method == listen && c.n > c.kept
			for err == nil && !ev.Answer && (c.method == call || overflow || got < c.kept) {
				if ev, err = res.Events.Next(); err != nil || ev.Answer {
					break
				}
				if !strings.Contains(string(ev.Data), fmt.Sprintf(`"n":%d,`, got)) {
					t.Fatalf("%+v: message %d is %.80s", c, got, ev.Data)
				}
				got++
			}
			synctest.Wait()
			if got != c.kept || ev.Answer != (c.method == call) || (err == io.EOF) != overflow {
				t.Errorf("%+v: %d messages, %v", c, got, err)
			}
			if told := strings.HasSuffix(x.methods(), "notifications/cancelled"); told != overflow {
				t.Errorf("%+v: the server got %s", c, x.methods())
			}
			_ = res.Close()
		})
	}
}

// TestManyRequestsOfTheServer holds that what the daemon says by itself to a process which asks and does not read is bounded, and that it answers
// again when that reads.
func TestManyRequestsOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		x := &server{on: func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Params.Name == "stalls" {
				<-gate
			}
			return r.ID == nil || r.Method == ""
		}}
		u, _ := newUpstream(t, x, nil)
		answered := make(chan *mcp.Failure, 1)
		go func() {
			_, f := do(u, t.Context(), request("1", "tools/call", `"name":"stalls",`))
			answered <- f
		}()
		synctest.Wait()
		answers := func() (n int) {
			x.mu.Lock()
			defer x.mu.Unlock()
			for _, line := range x.lines {
				if strings.Contains(line, `"id":"asks"`) {
					n++
				}
			}
			return n
		}
		ask := func(n int) {
			for range n {
				x.last().Write(`{"jsonrpc":"2.0","id":"asks","method":"ping"}` + "\n")
			}
			synctest.Wait()
		}
		ask(500)
		close(gate)
		if f := <-answered; f != nil {
			t.Error(f)
		}
		synctest.Wait()
		if n := answers(); n != 64 {
			t.Errorf("%d answers were on their way", n)
		}
		ask(10)
		if n := answers(); n != 74 {
			t.Errorf("%d answers in all", n)
		}
	})
}

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

// TestModernIsolation has agents with the same ids and progress tokens share one process, and looks for anything that crosses.
func TestModernIsolation(t *testing.T) {
	const agents, calls = 16, 300
	x := &server{}
	var running sync.WaitGroup
	x.on = func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		running.Go(func() { // in any order
			for i := range rand.IntN(4) {
				s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"message":%q}}`+"\n", r.Params.Meta.ProgressToken, i, r.Params.Name)
			}
			s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%q}}`+"\n", r.Params.Name)
			s.Result(r, `{"resultType":"complete","name":"`+r.Params.Name+`"}`)
		})
		return true
	}
	u, _ := newUpstream(t, x, nil)
	var all sync.WaitGroup
	for a := range agents {
		all.Go(func() {
			for n := range calls {
				name := fmt.Sprintf("%d/%d", a, n)
				id, token := fmt.Sprint(n%3), []string{`"t"`, "5"}[n%2]
				c := call(`{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"` + name + `","_meta":{"progressToken":` + token + `,"io.modelcontextprotocol/logLevel":"debug",` + meta + `}}}`)
				res, f := do(u, t.Context(), c)
				if f != nil {
					t.Errorf("%s: %v", name, f)
					return
				}
				check := func(data []byte) {
					if !bytes.Contains(data, []byte(`"`+name+`"`)) || bytes.Contains(data, []byte("progressToken")) && !bytes.Contains(data, []byte(`"progressToken":`+token+",")) ||
						bytes.Contains(data, []byte("result")) && !bytes.Contains(data, []byte(`"id":`+id+",")) {
						t.Errorf("%s with id %s and token %s got %s", name, id, token, data)
					}
				}
				if res.Events == nil {
					check(res.Body)
				}
				for res.Events != nil {
					ev, err := res.Events.Next()
					if err != nil {
						break
					}
					check(ev.Data)
				}
				_ = res.Close()
			}
		})
	}
	all.Wait()
	running.Wait()
}

// TestParamHeaders holds that the headers of a listed tool's arguments are compared with them.
func TestParamHeaders(t *testing.T) {
	x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Method != "tools/list" {
			return false
		}
		s.Result(r, `{"tools":[{"name":"x","inputSchema":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"},"s":{"type":"string","x-mcp-header":"S"}}}}]}`)
		return true
	}}
	u, _ := newUpstream(t, x, nil)
	if _, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil {
		t.Fatal(f)
	}
	for _, c := range []struct {
		arguments string
		header    header.List
		want      int // 0: it goes on
	}{
		{`{"n":7}`, header.Of(http.Header{"Mcp-Param-N": {"7"}}), 0},
		{`{"n":7}`, header.Of(http.Header{"Mcp-Param-N": {"7.0"}}), 0},
		{`{"n":7}`, header.Of(http.Header{"Mcp-Param-N": {"8"}}), -32020},
		{`{"n":7}`, header.List{}, -32020},
		{`{"s":"\u00e9"}`, header.Of(http.Header{"Mcp-Param-S": {"=?base64?w6k=?="}}), 0},
		{`{"s":"\u00e9"}`, header.Of(http.Header{"Mcp-Param-S": {"e"}}), -32020},
		{`{"s":null}`, header.Of(http.Header{"Mcp-Param-Other": {"e"}}), 0},
	} {
		one := request("1", "tools/call", `"name":"x","arguments":`+c.arguments+",")
		one.Header = c.header
		_, f := do(u, t.Context(), one)
		if (f == nil) != (c.want == 0) || f != nil && f.Code != c.want {
			t.Errorf("%s with %v: %v", c.arguments, c.header, f)
		}
	}
}

// TestLogMessages holds to whom a log message goes, which does not say whose it is.
func TestLogMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{on: func(*mcptest.Stdio, mcptest.StdioRequest) bool { return true }}
		u, _ := newUpstream(t, x, nil)
		ask := func(ctx context.Context, logs bool) (got chan *mcp.Result) {
			got = make(chan *mcp.Result, 1)
			params := `"name":"x",`
			c := request("1", "tools/call", params)
			if logs {
				c = call(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"io.modelcontextprotocol/logLevel":"info",` + meta + `}}}`)
			}
			go func() {
				res, _ := do(u, ctx, c)
				got <- res
			}()
			synctest.Wait()
			return got
		}
		log := func() {
			x.last().Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"x"}}` + "\n")
			synctest.Wait()
		}
		one := ask(t.Context(), true)
		log()
		res := <-one
		if ev, err := res.Events.Next(); err != nil || !strings.Contains(string(ev.Data), "notifications/message") {
			t.Errorf("the only call: %s, %v", ev.Data, err)
		}
		_ = res.Close() // which gives it up
		for _, c := range []struct {
			after time.Duration
			logs  bool
			gets  bool
		}{{0, true, false}, {time.Minute, false, false}, {time.Minute, true, true}} {
			time.Sleep(c.after)
			ctx, leave := context.WithTimeout(t.Context(), time.Second)
			got := ask(ctx, c.logs)
			log()
			if c.gets != (len(got) == 1) {
				t.Errorf("%+v: %d answers", c, len(got))
			}
			if res := <-got; res != nil {
				_ = res.Close()
			}
			leave()
		}
	})
}

// TestSlowStart holds that a start goes on when the agents that waited for it have their error, and serves those that come later.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
			time.Sleep(2 * time.Minute)
			s.Result(r, `{"resultType":"complete"}`)
		}}
		u, _ := newUpstream(t, x, nil)
		for i, after := range []time.Duration{55 * time.Second, 55 * time.Second, 10 * time.Second} {
			begun := time.Now()
			_, f := do(u, t.Context(), request("1", "tools/list", ""))
			if late := f != nil && f.Reason == mcp.ReasonStillStarting; late != (i < 2) || time.Since(begun) != after {
				t.Errorf("%d: %v after %v", i, f, time.Since(begun))
			}
			if so := []string{"after 55s;", "after 1m50s;", ""}[i]; f != nil && !strings.Contains(f.Message, so) {
				t.Errorf("%d: %s, want %s", i, f.Message, so)
			}
		}
		if n := x.started(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestNoProcessYet holds that who waits for a start that has no process yet is told what it waits for: while the start goes on, and when
// its time is over.
func TestNoProcessYet(t *testing.T) {
	for doing, says := range map[string]string{"": "", "installing": ": installing"} {
		synctest.Test(t, func(t *testing.T) {
			u, _ := newUpstream(t, &server{}, func(p *stdio.PoolOptions, _ *stdio.Options) {
				p.Doing = func() string { return doing }
				p.Start = func(ctx context.Context) (stdio.Process, func(), error) {
					<-ctx.Done()
					return nil, nil, ctx.Err()
				}
			})
			for _, want := range []struct {
				reason mcp.Reason
				says   string
			}{{mcp.ReasonStillStarting, "the start goes on"}, {mcp.ReasonStartFailed, "(processes.start_timeout)"}} {
				if _, f := do(u, t.Context(), request("1", "tools/list", "")); f == nil || f.Reason != want.reason || !strings.HasSuffix(f.Message, want.says+says) {
					t.Errorf("%v, want %s that ends with %s", f, want.reason, want.says+says)
				}
				time.Sleep(5*time.Minute - 56*time.Second) // false time, until the start's own is nearly over
			}
		})
	}
}

// TestOddFraming holds that who waits for a server that answers over several lines, or after headers, is told what comes in the place of
// messages, without the entry's secrets: while the start goes on, and when its time is over.
func TestOddFraming(t *testing.T) {
	for _, c := range []struct{ writes, says string }{
		{"{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 1,\n  \"result\": {}\n}\n", `; the first line on its stdout that is no message: "{"`},
		{"Content-Length: 38 hunter2!\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", `no message: "Content-Length: 38 [masked]"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := &server{discover: func(s *mcptest.Stdio, _ mcptest.StdioRequest) { s.Write("%s", c.writes) }}
			u, _ := newUpstream(t, x, func(p *stdio.PoolOptions, _ *stdio.Options) {
				p.Mask = func(text string) string { return strings.ReplaceAll(text, "hunter2!", "[masked]") }
			})
			for _, reason := range []mcp.Reason{mcp.ReasonStillStarting, mcp.ReasonStartFailed} {
				if _, f := do(u, t.Context(), request("1", "tools/list", "")); f == nil || f.Reason != reason || !strings.HasSuffix(f.Message, c.says) {
					t.Errorf("%v, want %s that ends with %s", f, reason, c.says)
				}
				time.Sleep(5*time.Minute - 56*time.Second) // false time, until the start's own is nearly over
			}
		})
	}
}

// TestLateProgress holds that progress of a call which is over reaches nobody: not the one call under way, whose token it is not.
func TestLateProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var token []byte
		x := &server{on: func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Params.Name == "first" {
				token = bytes.Clone(r.Params.Meta.ProgressToken)
				return false
			}
			s.Write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1,"message":"of the first"}}`+"\n", token)
			return false
		}}
		u, _ := newUpstream(t, x, nil)
		for _, name := range []string{"first", "second"} {
			res, f := do(u, t.Context(), call(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+name+`","_meta":{"progressToken":1,"io.modelcontextprotocol/logLevel":"debug",`+meta+`}}}`))
			if f != nil || res.Events != nil {
				t.Fatalf("%s: %v, a stream: %v", name, f, res != nil && res.Events != nil)
			}
		}
	})
}

// TestJunkIsMasked holds that secrets of the entry's are in no log line, also where one stands across the end of what is shown.
func TestJunkIsMasked(t *testing.T) {
	var log bytes.Buffer
	secret := "s3cr3t-0123456789"
	x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
		s.Write("%s\n", strings.Repeat("x", 190)+secret)
		s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
	}}
	u, pool := newUpstream(t, x, func(p *stdio.PoolOptions, _ *stdio.Options) {
		p.Log = slog.New(slog.NewTextHandler(&log, nil))
		p.Mask = func(text string) string { return strings.ReplaceAll(text, secret, "[masked]") }
	})
	if _, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil {
		t.Fatal(f)
	}
	pool.Close()
	if got := log.String(); strings.Contains(got, "s3cr3t") || !strings.Contains(got, "[masked]") {
		t.Errorf("logged: %s", got)
	}
}
