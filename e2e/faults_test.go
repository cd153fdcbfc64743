package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

const faultLimits = "drain: 1s\nlimits: {event: 64KiB, check_body: 256KiB, body: 1MiB}\n"

// bare leaves out what stands between an agent and a server's faults: here each is to be seen as it comes.
const bare = "breaker: off, retry: {max: 0}"

// faultConf is a daemon with short timeouts and a small limit of events. It has upstreams that cannot be reached, too.
func faultConf(t *testing.T, s *mcptest.Server, top string) conf {
	c := one(s.URL(), "timeouts: "+quick+", streams: {reopen: 2s}, "+bare)
	c.upstreams["refused"] = fmt.Sprintf("{url: %q, timeouts: %s, %s}", "http://"+mcptest.Refused(t)+"/mcp", quick, bare)
	c.upstreams["unreachable"] = fmt.Sprintf("{url: %q, timeouts: %s, %s}", "http://"+mcptest.Unreachable(t)+"/mcp", quick, bare)
	c.top = faultLimits + top
	return c
}

// drama is one fault played once, by a server of its own.
type drama struct {
	fault
	form       string
	executions int // what the server must have counted
	upstream   string
	server     *mcptest.Server
	reply      reply
	err        error
}

// dramas are all faults in both forms: the server did nothing, and it did the work and the answer was lost.
func dramas(t *testing.T) []*drama {
	var all []*drama
	for _, f := range faults() {
		for executions, form := range []string{"nothing done", "answer lost"} {
			p := &drama{fault: f, form: form, executions: executions, upstream: fmt.Sprintf("s%d", len(all))}
			script := f.script
			if executions > 0 {
				script = mcptest.Executing(script)
			}
			p.server = mcptest.NewServer(t, mcptest.Minimal)
			for range p.hops() {
				p.server.Once(script)
			}
			all = append(all, p)
		}
	}
	return all
}

// hops is how many requests the server gets for the one of the agent's.
func (p *drama) hops() int {
	if strings.HasPrefix(p.name, "redirects") {
		return 4
	}
	return 1
}

// play makes the request.
func (p *drama) play(a *agent) {
	p.reply, p.err = a.send(http.MethodPost, "/mcp/"+p.upstream, request(`"7\u0031"`, p.method))
}

// TestFaults plays every fault in both forms. Each time the agent gets the documented error in the documented time, the
// server is asked once, the next request works, and in the end the daemon holds no more than it did at the start.
func TestFaults(t *testing.T) {
	t.Parallel()
	all := dramas(t)
	c := conf{upstreams: map[string]string{}, top: faultLimits}
	for _, p := range all {
		c.upstreams[p.upstream] = fmt.Sprintf("{url: %q, timeouts: %s}", p.server.URL(), quick)
	}
	d := runSidecar(t, c)
	a := d.agent(t)
	before := d.scrape()
	var waiting sync.WaitGroup
	for _, p := range all { // those that take a timeout wait for it together
		if p.after > 0 {
			waiting.Go(func() { p.play(a) })
		}
	}
	waiting.Wait()
	for _, p := range all {
		t.Run(p.name+"/"+p.form, func(t *testing.T) {
			if p.after == 0 {
				p.play(a)
			}
			p.judge(t)
			worksOn(t, a, p.upstream)
		})
	}
	t.Run("nothing leaks", func(t *testing.T) {
		a.http.CloseIdleConnections()
		for _, p := range all {
			p.server.Close()
		}
		holdsNoMore(t, d, before)
	})
}

// judge checks what the agent got, when, and what the server saw.
func (p *drama) judge(t *testing.T) {
	t.Helper()
	if p.err != nil {
		t.Fatal(p.err)
	}
	r := p.reply
	if r.status != http.StatusOK {
		t.Errorf("HTTP status %d, want 200", r.status)
	}
	checkFailure(t, r.rpc(t), `"7\u0031"`, p.upstream, p.code, p.reason, p.sent)
	if r.took < p.after || r.took > p.after+soon {
		t.Errorf("took %v, want %v", r.took, p.after)
	}
	if p.before != "" && !strings.Contains(r.body, p.before) {
		t.Errorf("the event before the break did not pass: %q", r.body)
	}
	seen := p.hops()
	if p.code == 1504 {
		toldOff(t, p.server.AwaitRequest(2))
		seen++
	}
	if n := p.server.Received(); n != seen {
		t.Errorf("the server got %d requests, want %d", n, seen)
	}
	if n := p.server.Executions(); n != p.executions*p.hops() {
		t.Errorf("%d executions, want %d", n, p.executions*p.hops())
	}
}

// toldOff checks what a legacy server gets after a timeout: the cancellation of the request, by the id as it was sent.
func toldOff(t *testing.T, r *mcptest.Request) {
	t.Helper()
	if r.Method() != "notifications/cancelled" || !strings.Contains(string(r.Body), `"requestId":"7\u0031"`) {
		t.Errorf("after the timeout the server got %s", r.Body)
	}
}

// checkFailure checks the daemon's own error: code, reason, sent, and the rest of its data.
func checkFailure(t *testing.T, a rpcAnswer, id, upstream string, code int, reasons, sents string) {
	t.Helper()
	if string(a.ID) != id {
		t.Errorf("id %s, want %s", a.ID, id)
	}
	if a.Error == nil || a.Error.Data == nil {
		t.Fatalf("no error of the daemon's: %+v", a)
	}
	e, data := a.Error, a.Error.Data
	if e.Code != code || !oneOf(data.Reason, reasons) || !oneOf(data.Sent, sents) {
		t.Errorf("got %d %s sent %s (%s), want %d %s sent %s", e.Code, data.Reason, data.Sent, e.Message, code, reasons, sents)
	}
	if data.Source != "fluentd-perf" || data.Upstream != upstream || data.RequestID == "" || e.Message == "" {
		t.Errorf("incomplete data: %q %+v", e.Message, *data)
	}
}

func oneOf(s, list string) bool {
	for word := range strings.FieldsSeq(list) {
		if s == word {
			return true
		}
	}
	return false
}

// holdsNoMore waits until the daemon has given back what the faults took: goroutines, descriptors, connections.
func holdsNoMore(t *testing.T, d *sidecar, before metrics) {
	t.Helper()
	const slack = 4 // connections that stay idle, and their goroutines
	var now metrics
	ok := func() bool {
		now = d.scrape()
		return now["go_goroutines"] <= before["go_goroutines"]+2*slack &&
			now["process_open_fds"] <= before["process_open_fds"]+slack &&
			now.sum("fluentd_perf_active_connections") == 0 &&
			now.sum("fluentd_perf_open_connections") <= slack
	}
	eventually(t, "back at the base line", ok)
}

func TestServerThatCannotBeReached(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	for _, f := range []struct {
		upstream string
		code     int
		reason   string
		within   time.Duration
	}{
		{"refused", 1502, "connect", soon},
		{"unreachable", 1504, "connect_timeout", 3*connectTimeout + soon}, // it is sent again while it surely was not
	} {
		t.Run(f.upstream, func(t *testing.T) {
			a := d.agent(t)
			r := a.must(http.MethodPost, "/mcp/"+f.upstream, request("1.0", "tools/call"))
			if r.status != http.StatusOK || r.took > f.within {
				t.Errorf("status %d after %v", r.status, r.took)
			}
			checkFailure(t, r.rpc(t), "1.0", f.upstream, f.code, f.reason, "no")
			a.works()
		})
	}
}

// TestSlowAnswersPass: a server that is slow but within its timeouts is no fault.
func TestSlowAnswersPass(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	a := d.agent(t)
	for name, script := range map[string]mcptest.Script{
		"JSON by the byte": mcptest.Trickling(2 * time.Millisecond),
		"SSE by the byte": func(x *mcptest.Exchange) {
			x.Trickle(mcptest.Head(200, "text/event-stream", "Connection: close")+mcptest.EventText(x.Answer(mcptest.ToolResult)), 2*time.Millisecond)
		},
		"a stream longer than call": func(x *mcptest.Exchange) {
			st := x.Stream()
			tick := time.NewTicker(headTimeout / 2)
			defer tick.Stop()
			for range 5 {
				<-tick.C
				st.Event(progress)
			}
			st.Answer(mcptest.ToolResult)
			st.End()
		},
	} {
		s.Once(script)
		if got := a.post(request("3", "tools/list")).rpc(t); string(got.Result) != mcptest.ToolResult || string(got.ID) != "3" {
			t.Errorf("%s: got %+v %+v", name, got, got.Error)
		}
	}
}

// TestLargeAnswerThatBreaksOff: what is too large to be checked is streamed, so that a break can only be shown by a
// break: an end in good order would make a whole answer of it.
func TestLargeAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	const size = 1 << 20 // above limits.check_body
	for name, finish := range map[string]func(*mcptest.Exchange){
		"reset": (*mcptest.Exchange).Reset, "cut": (*mcptest.Exchange).Close, "stalled": (*mcptest.Exchange).Hang,
	} {
		for form, head := range map[string]string{
			"length": mcptest.Head(200, "application/json", fmt.Sprintf("Content-Length: %d", 2*size)),
			"chunks": mcptest.Head(200, "application/json", "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n", 2*size),
		} {
			a := d.agent(t)
			s.Once(func(x *mcptest.Exchange) {
				x.Write(head + `{"jsonrpc":"2.0","id":1,"result":{"a":"` + strings.Repeat("x", size))
				finish(x)
			})
			r, err := a.send(http.MethodPost, "/mcp/s", request("1", "tools/list"))
			if err == nil && name == "reset" { // which may overtake what was sent before it: then nothing has been passed on
				checkFailure(t, r.rpc(t), "1", "s", 1502, "broke_off", "yes unknown")
			} else if err == nil {
				t.Errorf("%s, by %s: the agent took %d bytes of HTTP %d for a whole answer", name, form, len(r.body), r.status)
			}
			a.works()
		}
	}
}

// TestFaultsDoNotPileUp: what goes wrong a thousand times costs no memory in the end.
func TestFaultsDoNotPileUp(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := faultConf(t, s, "")
	c.env = []string{"GOGC=100"} // without the ballast, behind which 32 MiB of garbage gather
	d := runSidecar(t, c)
	a := d.agent(t)
	quickly := []mcptest.Script{
		mcptest.ResetBeforeHead, mcptest.ResetInBody, mcptest.ResetInEvent, mcptest.CutLength, mcptest.EndBeforeAnswer,
		mcptest.Saying(200, "text/html", "<p>hello"), mcptest.Saying(500, "text/plain", strings.Repeat("x", 100<<10)),
	}
	play := func(n int) {
		for i := range n {
			s.Once(quickly[i%len(quickly)])
			a.post(request("1", "tools/call"))
		}
	}
	play(200)
	a.works()
	before := d.scrape()
	play(1000)
	a.works()
	holdsNoMore(t, d, before)
	const slack = 12 << 20 // garbage, and what the allocator keeps
	if grown := d.scrape()["go_memstats_heap_inuse_bytes"] - before["go_memstats_heap_inuse_bytes"]; grown > slack {
		t.Errorf("the heap grew by %.0f bytes over 1,000 faults", grown)
	}
}
