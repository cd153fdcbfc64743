package stdio_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

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
