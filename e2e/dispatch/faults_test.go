// Every fault of a server reaches its agent as an error that says what happened, in time, and leaves nothing behind.

package dispatch

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// faultCase is one fault played once, by a server of its own.
type faultCase struct {
	fault
	form       string
	executions int // what the server must have counted
	upstream   string
	server     *mcptest.Server
	reply      harness.Reply
	err        error
}

// faultCases are all faults in both forms: the server did nothing, and it did the work and the answer was lost.
func faultCases(t *testing.T) []*faultCase {
	var all []*faultCase
	for _, f := range faults() {
		for executions, form := range []string{"nothing done", "answer lost"} {
			p := &faultCase{fault: f, form: form, executions: executions, upstream: fmt.Sprintf("s%d", len(all))}
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
func (p *faultCase) hops() int {
	if strings.HasPrefix(p.name, "redirects") {
		return 4
	}
	return 1
}

// play makes the request.
func (p *faultCase) play(a *harness.Agent) {
	p.reply, p.err = a.Send(http.MethodPost, "/mcp/"+p.upstream, harness.Request(`"7\u0031"`, p.method))
}

// TestFaults plays every fault in both forms. Each time the agent gets the documented error in the documented time, the
// server is asked once, the next request works, and in the end the daemon holds no more than it did at the start.
func TestFaults(t *testing.T) {
	t.Parallel()
	all := faultCases(t)
	c := harness.Config{Upstreams: map[string]string{}, Top: harness.FaultLimits}
	for _, p := range all {
		c.Upstreams[p.upstream] = fmt.Sprintf("{url: %q, timeouts: %s}", p.server.URL(), harness.ShortTimeouts)
	}
	d := harness.Start(t, c)
	a := d.Agent(t)
	before := d.Scrape()
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
			harness.WorksOn(t, a, p.upstream)
		})
	}
	t.Run("nothing leaks", func(t *testing.T) {
		a.HTTP.CloseIdleConnections()
		for _, p := range all {
			p.server.Close()
		}
		holdsNoMore(t, d, before)
	})
}

// judge checks what the agent got, when, and what the server saw.
func (p *faultCase) judge(t *testing.T) {
	t.Helper()
	if p.err != nil {
		t.Fatal(p.err)
	}
	r := p.reply
	if r.Status != http.StatusOK {
		t.Errorf("HTTP status %d, want 200", r.Status)
	}
	harness.CheckFailure(t, r.RPC(t), `"7\u0031"`, p.upstream, p.code, p.reason, p.sent)
	if r.Took < p.after || r.Took > p.after+harness.Soon {
		t.Errorf("took %v, want %v", r.Took, p.after)
	}
	if p.before != "" && !strings.Contains(r.Body, p.before) {
		t.Errorf("the event before the break did not pass: %q", r.Body)
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

// holdsNoMore waits until the daemon has given back what the faults took: goroutines, descriptors, connections.
func holdsNoMore(t *testing.T, d *harness.Daemon, before harness.Metrics) {
	t.Helper()
	const slack = 4 // connections that stay idle, and their goroutines
	var now harness.Metrics
	ok := func() bool {
		now = d.Scrape()
		return now["go_goroutines"] <= before["go_goroutines"]+2*slack &&
			now["process_open_fds"] <= before["process_open_fds"]+slack &&
			now.Sum("fluentd_perf_active_connections") == 0 &&
			now.Sum("fluentd_perf_open_connections") <= slack
	}
	harness.Eventually(t, "back at the base line", ok)
}

func TestServerThatCannotBeReached(t *testing.T) {
	t.Parallel()
	_, d := harness.StartMinimal(t)
	for _, f := range []struct {
		upstream string
		code     int
		reason   string
		within   time.Duration
	}{
		{"refused", 1502, "connect", harness.Soon},
		{"unreachable", 1504, "connect_timeout", 3*harness.ConnectTimeout + harness.Soon}, // it is sent again while it surely was not
	} {
		t.Run(f.upstream, func(t *testing.T) {
			a := d.Agent(t)
			r := a.Must(http.MethodPost, "/mcp/"+f.upstream, harness.Request("1.0", "tools/call"))
			if r.Status != http.StatusOK || r.Took > f.within {
				t.Errorf("status %d after %v", r.Status, r.Took)
			}
			harness.CheckFailure(t, r.RPC(t), "1.0", f.upstream, f.code, f.reason, "no")
			a.Works()
		})
	}
}

// TestSlowAnswersPass: a server that is slow but within its timeouts is no fault.
func TestSlowAnswersPass(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	for name, script := range map[string]mcptest.Script{
		"JSON by the byte": mcptest.Trickling(2 * time.Millisecond),
		"SSE by the byte": func(x *mcptest.Exchange) {
			x.Trickle(mcptest.Head(200, "text/event-stream", "Connection: close")+mcptest.EventText(x.Answer(mcptest.ToolResult)), 2*time.Millisecond)
		},
		"a stream longer than call": func(x *mcptest.Exchange) {
			st := x.Stream()
			tick := time.NewTicker(harness.HeadTimeout / 2)
			defer tick.Stop()
			for range 5 {
				<-tick.C
				st.Event(harness.ProgressMessage)
			}
			st.Answer(mcptest.ToolResult)
			st.End()
		},
	} {
		s.Once(script)
		if got := a.Post(harness.Request("3", "tools/list")).RPC(t); string(got.Result) != mcptest.ToolResult || string(got.ID) != "3" {
			t.Errorf("%s: got %+v %+v", name, got, got.Error)
		}
	}
}

// TestLargeAnswerThatBreaksOff: what is too large to be checked is streamed, so that a break can only be shown by a
// break: an end in good order would make a whole answer of it.
func TestLargeAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	const size = 1 << 20 // above limits.check_body
	for name, finish := range map[string]func(*mcptest.Exchange){
		"reset": (*mcptest.Exchange).Reset, "cut": (*mcptest.Exchange).Close, "stalled": (*mcptest.Exchange).Hang,
	} {
		for form, head := range map[string]string{
			"length": mcptest.Head(200, "application/json", fmt.Sprintf("Content-Length: %d", 2*size)),
			"chunks": mcptest.Head(200, "application/json", "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n", 2*size),
		} {
			a := d.Agent(t)
			s.Once(func(x *mcptest.Exchange) {
				x.Write(head + `{"jsonrpc":"2.0","id":1,"result":{"a":"` + strings.Repeat("x", size))
				finish(x)
			})
			r, err := a.Send(http.MethodPost, "/mcp/s", harness.Request("1", "tools/list"))
			if err == nil && name == "reset" { // which may overtake what was sent before it: then nothing has been passed on
				harness.CheckFailure(t, r.RPC(t), "1", "s", 1502, "broke_off", "yes unknown")
			} else if err == nil {
				t.Errorf("%s, by %s: the agent took %d bytes of HTTP %d for a whole answer", name, form, len(r.Body), r.Status)
			}
			a.Works()
		}
	}
}

// TestFaultsDoNotPileUp: what goes wrong a thousand times costs no memory in the end.
func TestFaultsDoNotPileUp(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.FaultConfig(t, s, "")
	c.Env = []string{"GOGC=100"} // without the ballast, behind which 32 MiB of garbage gather
	d := harness.Start(t, c)
	a := d.Agent(t)
	quickly := []mcptest.Script{
		mcptest.ResetBeforeHead, mcptest.ResetInBody, mcptest.ResetInEvent, mcptest.CutLength, mcptest.EndBeforeAnswer,
		mcptest.Saying(200, "text/html", "<p>hello"), mcptest.Saying(500, "text/plain", strings.Repeat("x", 100<<10)),
	}
	play := func(n int) {
		for i := range n {
			s.Once(quickly[i%len(quickly)])
			a.Post(harness.Request("1", "tools/call"))
		}
	}
	play(200)
	a.Works()
	before := d.Scrape()
	play(1000)
	a.Works()
	holdsNoMore(t, d, before)
	const slack = 12 << 20 // garbage, and what the allocator keeps
	if grown := d.Scrape()["go_memstats_heap_inuse_bytes"] - before["go_memstats_heap_inuse_bytes"]; grown > slack {
		t.Errorf("the heap grew by %.0f bytes over 1,000 faults", grown)
	}
}
