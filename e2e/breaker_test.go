package e2e

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

// TestBreakerOpens: after three failures at most the server is left alone and callers are told so at once. No call with a
// side effect is made twice. When the server is well again, so is the next call after a probe.
func TestBreakerOpens(t *testing.T) {
	t.Parallel()
	for _, o := range openers {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			d := runSidecar(t, one(s.URL(), "timeouts: {call: 300ms}"))
			a := d.agent(t)
			a.works()
			if s.Script(o.script); o.script == nil {
				s.Down()
			}
			begun, calls := time.Now(), 0
			for ; d.leftAlone("s") == 0; calls++ {
				if calls == 3 {
					t.Fatal("not open after three failures")
				}
				got := a.post(request("1", "tools/call"))
				if o.code == 0 && got.status != http.StatusServiceUnavailable {
					t.Errorf("%d %s", got.status, got.body)
				} else if o.code != 0 && got.rpc(t).Error.Code != o.code {
					t.Errorf("%s, want %d", got.body, o.code)
				}
			}
			told := 0
			for range 20 {
				if a.isLeftAlone(t) {
					told++
				}
			}
			// Probes are a second apart, and more from the second on.
			probes := 20 - told
			if most := int(time.Since(begun).Seconds()) + 1; probes > most {
				t.Errorf("%d of 20 calls got through to a server that is left alone", probes)
			}
			if n := toolCalls(s); n > 1+calls+probes {
				t.Errorf("the server got %d calls for %d, and %d probes", n, 1+calls, probes)
			}
			if s.Script(mcptest.Minimal); o.script == nil {
				s.Up()
			}
			eventually(t, "well again", func() bool { return a.post(request("2", "tools/call")).rpcOK() })
			if n := d.leftAlone("s"); n != 0 {
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

// leftAlone is the state of an upstream's first endpoint: 0, 1 or 2.
func (d *sidecar) leftAlone(upstream string) float64 {
	d.t.Helper()
	return d.scrape()[fmt.Sprintf(`fluentd_perf_breaker_state{endpoint="0",upstream=%q}`, upstream)]
}

// isLeftAlone makes a call and reports whether it was answered by an open breaker, which is checked then.
func (a *agent) isLeftAlone(t *testing.T) bool {
	t.Helper()
	got := a.post(request("1.0", "tools/call"))
	if !strings.Contains(got.body, "breaker_open") {
		return false
	}
	answer := got.rpc(t)
	checkFailure(t, answer, "1.0", "s", 1503, "breaker_open", "no")
	if after := answer.Error.Data.RetryAfterMs; got.status != http.StatusOK || after < 1 || after > 30_000 {
		t.Errorf("status %d, retryAfterMs %d", got.status, after)
	}
	return true
}

// rpcOK reports whether the answer is a JSON-RPC result.
func (r reply) rpcOK() bool {
	return r.status == http.StatusOK && strings.Contains(r.body, `"result":`)
}

// TestBreakerOpenCostsNothing: calls to a dead upstream are answered without delay. What the daemon itself took is in its
// log.
func TestBreakerOpenCostsNothing(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := one(s.URL(), "")
	c.plain = true
	d := runSidecar(t, c)
	a := d.agent(t)
	s.Down()
	eventually(t, "open", func() bool { return a.isLeftAlone(t) })
	for range 500 {
		a.isLeftAlone(t)
	}
	took := d.tookOf("reason=breaker_open")
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
func (d *sidecar) tookOf(text string) (all []time.Duration) {
	d.t.Helper()
	for line := range strings.Lines(d.out.String()) {
		match := tookPattern.FindStringSubmatch(line)
		if match == nil || !strings.Contains(line, text) {
			continue
		}
		took, err := time.ParseDuration(match[1] + "ms")
		if err != nil {
			d.t.Fatalf("%q: %v", line, err)
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
	d := runSidecar(t, one(s.URL(), "timeouts: {call: 3s}"))
	a := d.agent(t)
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
			a.post(request("1", "tools/call"))
		}
	}
	a.leaves(t, s, 25)
	a.slowBesideOthers(t, s)
	if n := d.leftAlone("s"); n != 0 {
		t.Errorf("the breaker's state is %v", n)
	}
	s.Script(mcptest.Minimal)
	a.works()
}

// leaves makes calls and goes before they are answered.
func (a *agent) leaves(t *testing.T, s *mcptest.Server, calls int) {
	t.Helper()
	s.Script(mcptest.Hang)
	before := s.Received()
	ctx, leave := context.WithCancel(context.Background())
	var crowd sync.WaitGroup
	for range calls {
		crowd.Go(func() {
			if res, err := a.open(ctx, http.MethodPost, "/mcp/s", request("1", "tools/call")); err == nil {
				_ = res.Body.Close()
				t.Errorf("an answer of a server that hangs: %d", res.StatusCode)
			}
		})
	}
	s.AwaitRequest(before + calls)
	leave()
	crowd.Wait()
}

// slowBesideOthers makes four calls that time out, while others are answered all the time.
func (a *agent) slowBesideOthers(t *testing.T, s *mcptest.Server) {
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
			if r, err := a.send(http.MethodPost, "/mcp/s", request("1", "tools/call")); err != nil || !r.rpcOK() {
				t.Errorf("beside a slow call: %v %s", err, r.body)
				return
			}
		}
	})
	for range 4 {
		slow.Go(func() {
			if r, err := a.send(http.MethodPost, "/mcp/s", request(`"slow"`, "tools/call")); err != nil || !strings.Contains(r.body, "call_timeout") {
				t.Errorf("a slow call: %v %s", err, r.body)
			}
		})
	}
	slow.Wait()
	done()
	others.Wait()
}
