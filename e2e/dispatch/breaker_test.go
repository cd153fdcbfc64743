// A circuit breaker opens where a server fails, answers at once while it is open, and stays closed where agents are to
// blame.

package dispatch

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// openers are the ways in which a server fails that make a breaker open, in both forms: it did nothing; it did the work and
// the answer was lost.
var openers = []struct {
	name   string
	script mcptest.Script // nil: the server is down
	code   int            // of the daemon's error; 0: the server's own answer passes
}{
	{"down", nil, 1502},
	{"reset, nothing done", mcptest.ResetBeforeHead, 1502},
	{"reset, answer lost", mcptest.Executing(mcptest.ResetBeforeHead), 1502},
	{"cut in the answer", mcptest.Executing(mcptest.CutLength), 1502},
	{"503, nothing done", mcptest.Saying(http.StatusServiceUnavailable, "text/plain", "busy"), 0},
	{"503, answer lost", mcptest.Executing(mcptest.Saying(http.StatusServiceUnavailable, "text/plain", "busy")), 0},
	{"silent, nothing done", mcptest.Hang, 1504},
	{"silent, answer lost", mcptest.Executing(mcptest.Hang), 1504},
}

// TestBreakerOpens: after three failures at most the server is not called and callers are told so at once. No call with a
// side effect is made twice. When the server is well again, so is the next call after a probe.
func TestBreakerOpens(t *testing.T) {
	t.Parallel()
	for _, o := range openers {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			keys := ""
			if o.code == 1504 {
				keys = "timeouts: {call: 2s}" // time enough for what is answered, on a slow machine too
			}
			d := harness.Start(t, harness.OneUpstream(s.URL(), keys))
			a := d.Agent(t)
			a.Works()
			if s.Script(o.script); o.script == nil {
				s.Down()
			}
			begun, calls := time.Now(), 0
			for ; d.BreakerState("s") == 0; calls++ {
				if calls == 3 {
					t.Fatal("not open after three failures")
				}
				got := a.Post(harness.Request("1", "tools/call"))
				if o.code == 0 && got.Status != http.StatusServiceUnavailable {
					t.Errorf("%d %s", got.Status, got.Body)
				} else if o.code != 0 && got.RPC(t).Error.Code != o.code {
					t.Errorf("%s, want %d", got.Body, o.code)
				}
			}
			told := 0
			for range 20 {
				if isNotCalled(t, a) {
					told++
				}
			}
			// Probes are a second apart, and more from the second on.
			probes := 20 - told
			if most := int(time.Since(begun).Seconds()) + 1; probes > most {
				t.Errorf("%d of 20 calls got through to a server that is not called", probes)
			}
			if n := toolCalls(s); n > 1+calls+probes {
				t.Errorf("the server got %d calls for %d, and %d probes", n, 1+calls, probes)
			}
			if s.Script(mcptest.Minimal); o.script == nil {
				s.Up()
			}
			harness.Eventually(t, "well again", func() bool { return rpcOK(a.Post(harness.Request("2", "tools/call"))) })
			if n := d.BreakerState("s"); n != 0 {
				t.Errorf("the state is %v after a success", n)
			}
		})
	}
}

// toolCalls is how many calls of tools a server got. After a timeout it gets a cancellation, too.
func toolCalls(s *mcptest.Server) (n int) {
	for _, r := range s.Requests() {
		if r.Method() == "tools/call" {
			n++
		}
	}
	return n
}

// isNotCalled makes a call and reports whether it was answered by an open breaker, which is checked then.
func isNotCalled(t *testing.T, a *harness.Agent) bool {
	t.Helper()
	got := a.Post(harness.Request("1.0", "tools/call"))
	if !strings.Contains(got.Body, "breaker_open") {
		return false
	}
	answer := got.RPC(t)
	harness.CheckFailure(t, answer, "1.0", "s", 1503, "breaker_open", "no")
	if after := answer.Error.Data.RetryAfterMs; got.Status != http.StatusOK || after < 1 || after > 30_000 {
		t.Errorf("status %d, retryAfterMs %d", got.Status, after)
	}
	return true
}

// rpcOK reports whether the answer is a JSON-RPC result.
func rpcOK(r harness.Reply) bool {
	return r.Status == http.StatusOK && strings.Contains(r.Body, `"result":`)
}

// TestBreakerOpenCostsNothing: calls to a dead upstream are answered without delay. What the daemon itself took is in its
// log.
func TestBreakerOpenCostsNothing(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.OneUpstream(s.URL(), "")
	c.Plain = true
	d := harness.Start(t, c)
	a := d.Agent(t)
	s.Down()
	harness.Eventually(t, "open", func() bool { return isNotCalled(t, a) })
	for range 500 {
		isNotCalled(t, a)
	}
	took := tookOf(d, "reason=breaker_open")
	if len(took) < 400 {
		t.Fatalf("%d of 500 calls were answered by the breaker", len(took))
	}
	slices.Sort(took)
	t.Logf("answered by an open breaker, %d calls: fastest %v, p50 %v, p99 %v of the daemon's time",
		len(took), took[0], took[len(took)/2], took[len(took)*99/100])
	if took[0] >= time.Millisecond { // the others say more about the machine
		t.Errorf("the fastest took %v", took[0])
	}
}

var tookPattern = regexp.MustCompile(` took_ms=(\S+)`)

// tookOf returns how long requests took whose line in the log holds a text.
func tookOf(d *harness.Daemon, text string) (all []time.Duration) {
	d.T.Helper()
	for line := range strings.Lines(d.Out.String()) {
		match := tookPattern.FindStringSubmatch(line)
		if match == nil || !strings.Contains(line, text) {
			continue
		}
		took, err := time.ParseDuration(match[1] + "ms")
		if err != nil {
			d.T.Fatalf("%q: %v", line, err)
		}
		all = append(all, took)
	}
	return all
}

// TestBreakerStaysClosed: what is an answer is no failure, whatever it says, and neither is an agent that leaves, nor one
// slow call on a server that answers others.
func TestBreakerStaysClosed(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), "timeouts: {call: 3s}"))
	a := d.Agent(t)
	for _, script := range []mcptest.Script{
		mcptest.Saying(http.StatusBadRequest, "text/plain", "bad"), mcptest.Saying(http.StatusNotFound, "text/plain", "gone"),
		mcptest.Saying(http.StatusUnauthorized, "text/plain", "who?"), mcptest.Saying(http.StatusTooManyRequests, "text/plain", "slow down"),
		func(x *mcptest.Exchange) {
			x.JSON(`{"jsonrpc":"2.0","id":` + x.ID() + `,"error":{"code":-32603,"message":"broken"}}`)
		},
		func(x *mcptest.Exchange) { x.Result(`{"isError":true,"content":[]}`) },
		mcptest.Saying(http.StatusOK, "text/html", "<p>hello"),
	} {
		s.Script(script)
		for range 25 {
			a.Post(harness.Request("1", "tools/call"))
		}
	}
	leaves(t, a, s, 25)
	slowBesideOthers(t, a, s)
	if n := d.BreakerState("s"); n != 0 {
		t.Errorf("the breaker's state is %v", n)
	}
	s.Script(mcptest.Minimal)
	a.Works()
}

// leaves makes calls and goes before they are answered.
func leaves(t *testing.T, a *harness.Agent, s *mcptest.Server, calls int) {
	t.Helper()
	s.Script(mcptest.Hang)
	before := s.Received()
	ctx, leave := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	for range calls {
		callers.Go(func() {
			if res, err := a.Open(ctx, http.MethodPost, "/mcp/s", harness.Request("1", "tools/call")); err == nil {
				_ = res.Body.Close()
				t.Errorf("an answer of a server that hangs: %d", res.StatusCode)
			}
		})
	}
	s.AwaitRequest(before + calls)
	leave()
	callers.Wait()
}

// slowBesideOthers makes four calls that time out, while others are answered all the time.
func slowBesideOthers(t *testing.T, a *harness.Agent, s *mcptest.Server) {
	t.Helper()
	s.Script(func(x *mcptest.Exchange) {
		if x.ID() == `"slow"` {
			x.Hang()
			return
		}
		mcptest.Minimal(x)
	})
	ctx, done := context.WithCancel(context.Background())
	var others, slow sync.WaitGroup
	others.Go(func() {
		for ctx.Err() == nil {
			if r, err := a.Send(http.MethodPost, "/mcp/s", harness.Request("1", "tools/call")); err != nil || !rpcOK(r) {
				t.Errorf("beside a slow call: %v %s", err, r.Body)
				return
			}
		}
	})
	for range 4 {
		slow.Go(func() {
			if r, err := a.Send(http.MethodPost, "/mcp/s", harness.Request(`"slow"`, "tools/call")); err != nil || !strings.Contains(r.Body, "call_timeout") {
				t.Errorf("a slow call: %v %s", err, r.Body)
			}
		})
	}
	slow.Wait()
	done()
	others.Wait()
}
