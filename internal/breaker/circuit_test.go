package breaker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/mcp"
)

// circuit is a Circuit and what it shows.
type circuit struct {
	*breaker.Circuit
	tb  testing.TB
	reg *prometheus.Registry
	log strings.Builder
}

func newCircuit(tb testing.TB) *circuit {
	c := &circuit{tb: tb, reg: prometheus.NewRegistry()}
	c.Circuit = breaker.NewCircuit(breaker.CircuitOptions{
		Upstream: "files", Endpoint: "1", Metrics: breaker.NewMetrics(c.reg), Log: slog.New(slog.NewTextHandler(&c.log, nil)),
	})
	return c
}

// enter asks, and fails the test if the call is not allowed.
func (c *circuit) enter() *breaker.Permit {
	c.tb.Helper()
	p, ok := c.Allow()
	if !ok {
		c.tb.Fatal("the call was not allowed")
	}
	return &p
}

// use asks, and reports v if it is allowed.
func (c *circuit) use(v breaker.Verdict) bool {
	p, ok := c.Allow()
	if ok {
		p.Done(v, errDown)
	}
	return ok
}

// report makes n calls, which must be allowed.
func (c *circuit) report(n int, v breaker.Verdict) {
	c.tb.Helper()
	for range n {
		c.enter().Done(v, errDown)
	}
}

func (c *circuit) want(state string) {
	c.tb.Helper()
	if got := c.State(); got != state {
		c.tb.Fatalf("the breaker is %s, want %s", got, state)
	}
}

// trip opens a closed one.
func (c *circuit) trip() {
	c.tb.Helper()
	c.report(3, breaker.Failed)
	c.want(breaker.Open)
}

// refuses fails the test if a call is allowed.
func (c *circuit) refuses(when string) {
	c.tb.Helper()
	if p, ok := c.Allow(); ok {
		p.Done(breaker.Ignored, nil)
		c.tb.Fatalf("a call was allowed %s", when)
	}
}

// probeAfter waits, and makes the probe that is due then and not before.
func (c *circuit) probeAfter(d time.Duration) *breaker.Permit {
	c.tb.Helper()
	pass(d - 1)
	c.refuses("before the probe was due")
	pass(1)
	p := c.enter()
	c.refuses("beside a probe")
	return p
}

// inBubble runs a test in false time.
func inBubble(t *testing.T, test func(t *testing.T, c *circuit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newCircuit(t)) })
}

// TestCircuitOpens lists what opens an endpoint's breaker and what does not.
func TestCircuitOpens(t *testing.T) {
	const ok, bad, refused, left = breaker.Succeeded, breaker.Failed, breaker.Refused, breaker.Ignored
	mix := func(n int, verdicts ...breaker.Verdict) func(*circuit) {
		return func(c *circuit) {
			for i := range n {
				if !c.use(verdicts[i%len(verdicts)]) {
					return
				}
			}
		}
	}
	// late allows n calls, and reports them when a minute has passed.
	late := func(n int, verdicts ...breaker.Verdict) func(*circuit) {
		return func(c *circuit) {
			var all []*breaker.Permit
			for range n {
				all = append(all, c.enter())
			}
			pass(time.Minute)
			for i, p := range all {
				p.Done(verdicts[i%len(verdicts)], errDown)
			}
		}
	}
	cases := []struct {
		name string
		do   func(*circuit)
		want string
	}{
		{"nothing", func(*circuit) {}, breaker.Closed},
		{"two in a row", mix(2, bad), breaker.Closed},
		{"three in a row", mix(3, bad), breaker.Open},
		{"one refused connection", mix(1, refused), breaker.Closed},
		{"two refused connections", mix(2, refused), breaker.Open},
		{"two refused connections, a success between", mix(3, refused, ok), breaker.Closed},
		{"two refused connections, a caller leaving between", mix(3, refused, left), breaker.Open},
		{"a refused connection counts as a failure", mix(3, bad, refused, bad), breaker.Open},
		{"callers that leave", mix(100, left), breaker.Closed},
		{"three in a row, callers leaving between", mix(5, bad, left), breaker.Open},
		{"three, a success between", mix(4, bad, bad, ok, bad), breaker.Closed},
		{"half of 19", mix(19, ok, bad), breaker.Closed},
		{"half of 20", mix(20, ok, bad), breaker.Open},
		{"half of 20, the callers that left not counted", mix(24, ok, bad, left), breaker.Closed},
		{"a third of 99", mix(99, ok, ok, bad), breaker.Closed},
		{"half of 20, long under way", late(20, ok, bad), breaker.Open},
		{"three in a row, long under way", late(3, bad), breaker.Open},
		{"a crowd that has not reported", func(c *circuit) {
			for range 100 {
				c.enter()
			}
			mix(20, ok, bad)(c)
		}, breaker.Open},
		{"three in a row over an hour", func(c *circuit) {
			c.report(1, bad)
			pass(30 * time.Minute)
			c.report(1, bad)
			pass(30 * time.Minute)
			c.report(1, bad)
		}, breaker.Open},
		{"two refused connections over an hour", func(c *circuit) {
			c.report(1, refused)
			pass(time.Hour)
			c.report(1, refused)
		}, breaker.Open},
		{"half of 20, some older than the window", func(c *circuit) {
			mix(12, ok, bad)(c)
			pass(11 * time.Second)
			mix(12, ok, bad)(c)
		}, breaker.Closed},
		{"half of 20 in nine seconds", func(c *circuit) {
			mix(10, ok, bad)(c)
			pass(8 * time.Second)
			mix(10, ok, bad)(c)
		}, breaker.Open},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *circuit) {
				k.do(c)
				c.want(k.want)
			})
		})
	}
}

// TestCircuitOptions: each setting moves its own bound.
func TestCircuitOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(o breaker.CircuitOptions, verdicts ...breaker.Verdict) int {
			o.Upstream, o.Endpoint = "files", "0"
			c := breaker.NewCircuit(o)
			for i := range 1000 {
				p, ok := c.Allow()
				if !ok {
					return i
				}
				p.Done(verdicts[i%len(verdicts)], errDown)
				pass(100 * time.Millisecond)
			}
			return 0
		}
		const ok, bad = breaker.Succeeded, breaker.Failed
		cases := []struct {
			name string
			o    breaker.CircuitOptions
			mix  []breaker.Verdict
			want int // the call that is refused
		}{
			{"defaults", breaker.CircuitOptions{}, []breaker.Verdict{ok, bad}, 20},
			{"MinRequests", breaker.CircuitOptions{MinRequests: 8}, []breaker.Verdict{ok, bad}, 8},
			{"FailureRatio not reached", breaker.CircuitOptions{FailureRatio: 0.6}, []breaker.Verdict{ok, bad}, 0},
			{"FailureRatio", breaker.CircuitOptions{FailureRatio: 0.3}, []breaker.Verdict{ok, ok, bad}, 21},
			{"InARow", breaker.CircuitOptions{InARow: 7}, []breaker.Verdict{bad}, 7},
			{"Window too short", breaker.CircuitOptions{Window: time.Second}, []breaker.Verdict{ok, bad}, 0},
		}
		for _, k := range cases {
			if got := open(k.o, k.mix...); got != k.want {
				t.Errorf("%s: the call %d was refused, want %d", k.name, got, k.want)
			}
		}
	})
}

// TestCircuitPanics: what cannot be is a bug of whoever made it.
func TestCircuitPanics(t *testing.T) {
	bad := []breaker.CircuitOptions{
		{Endpoint: "0"}, {Upstream: "files"},
		{Upstream: "files", Endpoint: "0", Window: -1},
		{Upstream: "files", Endpoint: "0", ProbeTimeout: -1},
		{Upstream: "files", Endpoint: "0", MinRequests: -1},
		{Upstream: "files", Endpoint: "0", InARow: -1},
		{Upstream: "files", Endpoint: "0", FailureRatio: -0.1},
		{Upstream: "files", Endpoint: "0", FailureRatio: 1.1},
	}
	for _, o := range bad {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v makes a circuit", o)
				}
			}()
			breaker.NewCircuit(o)
		}()
	}
}

// TestCircuitBackoff: probes that fail are 1, 2, 4 ... 30 seconds apart, one that succeeds begins anew.
func TestCircuitBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		for range 2 {
			c.trip()
			for _, s := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
				c.probeAfter(time.Duration(s)*time.Second).Done(breaker.Failed, errDown)
				c.want(breaker.Open)
			}
			c.probeAfter(30*time.Second).Done(breaker.Succeeded, nil)
			c.want(breaker.Closed)
			c.report(2, breaker.Failed) // a new row
			c.want(breaker.Closed)
			c.report(1, breaker.Succeeded)
		}
	})
}

// TestCircuitRetryAfter counts down to the next probe, and never to less than 100 ms.
func TestCircuitRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		want := func(d time.Duration) {
			t.Helper()
			if got := c.RetryAfter(); got != d {
				t.Errorf("retry after %v, want %v", got, d)
			}
		}
		want(0)
		c.trip()
		want(time.Second)
		pass(600 * time.Millisecond)
		want(400 * time.Millisecond)
		pass(350 * time.Millisecond)
		want(100 * time.Millisecond)
		pass(time.Hour) // nobody asked
		want(100 * time.Millisecond)
		p := c.enter()
		want(100 * time.Millisecond)
		p.Done(breaker.Failed, errDown)
		want(2 * time.Second)
		c.probeAfter(2*time.Second).Done(breaker.Succeeded, nil)
		want(0)
	})
}

// TestCircuitHungProbe: a probe that does not report in time makes room for the next, and the waits grow.
func TestCircuitHungProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		c.trip()
		hung := c.probeAfter(time.Second)
		pass(10*time.Second - 1)
		c.want(breaker.HalfOpen)
		c.refuses("beside a hung probe")
		pass(1)
		synctest.Wait()
		c.want(breaker.Open)
		if cause, at := c.Last(); cause == nil || cause == errDown || !at.Equal(time.Now()) {
			t.Errorf("the last failure is %v at %v", cause, at)
		}
		second := c.probeAfter(2 * time.Second)
		hung.Done(breaker.Failed, errDown) // nobody cares
		c.want(breaker.HalfOpen)
		pass(10 * time.Second)
		synctest.Wait()
		c.want(breaker.Open)
		pass(2 * time.Second)
		c.refuses("two seconds after the second probe")
		second.Done(breaker.Succeeded, nil) // it was slow, and it works
		c.want(breaker.Closed)
	})
}

// expire waits until the time of a probe is over.
func (c *circuit) expire() {
	c.tb.Helper()
	pass(10 * time.Second)
	synctest.Wait()
	c.want(breaker.Open)
}

// TestCircuitHungServer: a server that hangs has one probe for each wait, and the waits grow to 30 s.
func TestCircuitHungServer(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		c.trip()
		for _, s := range []int{1, 2, 4, 8, 16, 30, 30} {
			c.probeAfter(time.Duration(s) * time.Second)
			c.expire()
		}
	})
}

// TestCircuitLateProbe: a probe that succeeds when its time is over closes the circuit, unless it is proof no more.
func TestCircuitLateProbe(t *testing.T) {
	const ok, bad = breaker.Succeeded, breaker.Failed
	cases := []struct {
		name string
		do   func(c *circuit, first *breaker.Permit) // the first probe's time is over
		want string
	}{
		{"at once", func(c *circuit, first *breaker.Permit) { first.Done(ok, nil) }, breaker.Closed},
		{"it fails", func(c *circuit, first *breaker.Permit) { first.Done(bad, errDown) }, breaker.Open},
		{"its caller leaves", func(c *circuit, first *breaker.Permit) { first.Done(breaker.Ignored, nil) }, breaker.Open},
		{"after others whose time is over as well", func(c *circuit, first *breaker.Permit) {
			c.probeAfter(2 * time.Second)
			c.expire()
			c.probeAfter(4 * time.Second)
			c.expire()
			first.Done(ok, nil)
		}, breaker.Closed},
		{"beside the next", func(c *circuit, first *breaker.Permit) {
			next := c.probeAfter(2 * time.Second)
			first.Done(ok, nil)
			c.want(breaker.Closed)
			next.Done(bad, errDown)
			c.report(2, bad) // a new row
		}, breaker.Closed},
		{"beside the next, which hangs", func(c *circuit, first *breaker.Permit) {
			c.probeAfter(2 * time.Second)
			first.Done(ok, nil)
			pass(time.Minute)
		}, breaker.Closed},
		{"the next has failed", func(c *circuit, first *breaker.Permit) {
			c.probeAfter(2*time.Second).Done(bad, errDown)
			first.Done(ok, nil)
		}, breaker.Open},
		{"the next has failed late", func(c *circuit, first *breaker.Permit) {
			next := c.probeAfter(2 * time.Second)
			c.expire()
			next.Done(breaker.Refused, errDown)
			first.Done(ok, nil)
		}, breaker.Open},
		{"one before the next has failed late", func(c *circuit, first *breaker.Permit) {
			next := c.probeAfter(2 * time.Second)
			c.expire()
			first.Done(bad, errDown)
			next.Done(ok, nil)
		}, breaker.Closed},
		{"of another outage", func(c *circuit, first *breaker.Permit) {
			c.probeAfter(2*time.Second).Done(ok, nil)
			c.trip()
			first.Done(ok, nil)
		}, breaker.Open},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *circuit) {
				c.trip()
				first := c.probeAfter(time.Second)
				c.expire()
				k.do(c, first)
				c.want(k.want)
				if shown := c.shown() == 0; shown != (k.want == breaker.Closed) {
					t.Errorf("the metric is %v", c.shown())
				}
			})
		})
	}
}

// TestCircuitClosedLate: a circuit that a late probe closed opens as any other does, and counts from the beginning.
func TestCircuitClosedLate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		for range 3 {
			c.trip()
			probe := c.probeAfter(time.Second)
			c.expire()
			probe.Done(breaker.Succeeded, nil)
			c.report(2, breaker.Failed)
			c.want(breaker.Closed)
			c.report(1, breaker.Succeeded)
		}
	})
}

// TestCircuitImpatient: agents that leave one after another wait for a probe's verdict no longer than one that stays.
func TestCircuitImpatient(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		c.trip()
		pass(time.Second)
		for range 3 {
			probe := c.enter()
			pass(3 * time.Second)
			probe.Done(breaker.Ignored, nil)
			c.want(breaker.HalfOpen)
		}
		c.enter()
		pass(time.Second)
		synctest.Wait()
		c.want(breaker.Open)
		c.probeAfter(2 * time.Second)
		c.expire() // the next wait has all of its time again
	})
}

// TestCircuitProbeLeft: a probe whose caller leaves makes room for the next at once, and its deadline ends with it.
func TestCircuitProbeLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		c.trip()
		pass(time.Second)
		for range 50 {
			c.report(1, breaker.Ignored)
			c.want(breaker.HalfOpen)
		}
		pass(time.Minute)
		synctest.Wait()
		c.want(breaker.HalfOpen)
		c.report(1, breaker.Succeeded)
		c.want(breaker.Closed)
	})
}

// TestCircuitOnce: only the first report of a permit counts, and a permit that was not given reports nothing.
func TestCircuitOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		p := c.enter()
		for range 10 {
			p.Done(breaker.Refused, errDown)
		}
		c.want(breaker.Closed)
		p.Done(breaker.Succeeded, nil) // does not end the row
		c.report(1, breaker.Refused)
		c.want(breaker.Open)
		probe := c.probeAfter(time.Second)
		probe.Done(breaker.Failed, errDown)
		probe.Done(breaker.Succeeded, nil)
		c.probeAfter(2*time.Second).Done(breaker.Succeeded, nil)
		var none breaker.Permit
		none.Done(breaker.Failed, errDown)
		c.want(breaker.Closed)
	})
}

// TestCircuitLate: what was allowed before the state changed counts no more. If it succeeded, the next probe is due at
// once, though a second after the last failure at the soonest.
func TestCircuitLate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		var old []*breaker.Permit
		for range 6 {
			old = append(old, c.enter())
		}
		c.trip()
		old[0].Done(breaker.Succeeded, nil)
		c.refuses("at once after it opened")
		c.probeAfter(time.Second).Done(breaker.Failed, errDown) // waits two seconds, but that the success began anew
		c.probeAfter(time.Second).Done(breaker.Failed, errDown)
		c.probeAfter(2*time.Second).Done(breaker.Failed, errDown)
		old[1].Done(breaker.Failed, errDown)
		old[2].Done(breaker.Ignored, nil)
		pass(1500 * time.Millisecond)
		c.refuses("after a late failure")
		old[3].Done(breaker.Succeeded, nil)
		probe := c.enter()
		old[4].Done(breaker.Failed, errDown)
		c.want(breaker.HalfOpen)
		probe.Done(breaker.Succeeded, nil)
		c.want(breaker.Closed)
		c.report(2, breaker.Failed)
		old[5].Done(breaker.Failed, errDown) // of the first epoch
		c.want(breaker.Closed)
		c.report(1, breaker.Failed)
		c.want(breaker.Open)
	})
}

// TestCircuitAlive: a sign of life makes the next probe due at once and the waits short again, also one that comes while a
// probe is under way.
func TestCircuitAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		c.Alive()
		c.want(breaker.Closed)
		c.trip()
		for _, s := range []int{1, 2, 4, 8} {
			c.probeAfter(time.Duration(s)*time.Second).Done(breaker.Failed, errDown)
		}
		pass(3 * time.Second)
		c.Alive()
		probe := c.enter()
		c.refuses("beside a probe")
		probe.Done(breaker.Failed, errDown)
		probe = c.probeAfter(time.Second)
		c.Alive()
		probe.Done(breaker.Failed, errDown)
		c.probeAfter(time.Second).Done(breaker.Failed, errDown)
		c.probeAfter(2*time.Second).Done(breaker.Failed, errDown)
		for range 3 { // signs of life without end: a probe a second
			c.Alive()
			c.probeAfter(time.Second).Done(breaker.Failed, errDown)
		}
	})
}

// TestCircuitProbeWithin: the next probe comes earlier, never later, and the one after it as ever.
func TestCircuitProbeWithin(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		c.ProbeWithin(time.Second)
		c.want(breaker.Closed)
		c.trip()
		within := func(d, want time.Duration) {
			t.Helper()
			c.ProbeWithin(d)
			if got := c.RetryAfter(); got != want {
				t.Errorf("due within %v: retry after %v, want %v", d, got, want)
			}
		}
		within(time.Hour, time.Second)
		within(0, time.Second)
		for _, s := range []int{1, 2, 4} {
			c.probeAfter(time.Duration(s)*time.Second).Done(breaker.Failed, errDown)
		}
		within(time.Hour, 8*time.Second)
		within(3*time.Second, 3*time.Second)
		c.probeAfter(3*time.Second).Done(breaker.Failed, errDown)
		c.probeAfter(16*time.Second).Done(breaker.Failed, errDown)
		pass(5 * time.Second)
		c.ProbeWithin(time.Second)
		c.report(1, breaker.Succeeded)
		c.want(breaker.Closed)
	})
}

// TestCircuitShows: the state in the metric, the last failure, and one line of log when it opens and when it closes.
func TestCircuitShows(t *testing.T) {
	inBubble(t, func(t *testing.T, c *circuit) {
		shows := func(want float64) {
			t.Helper()
			if got := c.shown(); got != want {
				t.Errorf("the metric is %v, want %v", got, want)
			}
		}
		shows(0)
		if cause, at := c.Last(); cause != nil || !at.IsZero() {
			t.Errorf("the last failure is %v at %v", cause, at)
		}
		c.trip()
		shows(2)
		opened := time.Now()
		c.probeAfter(time.Second).Done(breaker.Failed, errors.New("still down"))
		shows(2)
		probe := c.probeAfter(2 * time.Second)
		shows(1)
		probe.Done(breaker.Succeeded, nil)
		shows(0)
		if cause, at := c.Last(); cause == nil || cause.Error() != "still down" || at.Sub(opened) != time.Second {
			t.Errorf("the last failure is %v at %v", cause, at.Sub(opened))
		}
		lines := strings.Split(strings.TrimSpace(c.log.String()), "\n")
		if len(lines) != 2 {
			t.Fatalf("the log is\n%s", c.log.String())
		}
		for i, parts := range [][]string{
			{"level=WARN", "upstream=files", "endpoint=1", `error="connection refused"`},
			{"level=INFO", "upstream=files", "endpoint=1"},
		} {
			for _, part := range parts {
				if !strings.Contains(lines[i], part) {
					t.Errorf("no %s in %s", part, lines[i])
				}
			}
		}
	})
}

// shown reads the metric.
func (c *circuit) shown() float64 {
	families, err := c.reg.Gather()
	if err != nil {
		c.tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "fluentd_perf_breaker_state" {
			continue
		}
		m := f.GetMetric()
		if len(m) != 1 || m[0].GetLabel()[0].GetValue() != "1" || m[0].GetLabel()[1].GetValue() != "files" {
			c.tb.Fatalf("got %v", m)
		}
		return m[0].GetGauge().GetValue()
	}
	c.tb.Fatal("it is not shown")
	return 0
}

// TestCircuitLogsNoURL: a query may hold a secret.
func TestCircuitLogsNoURL(t *testing.T) {
	ue := &url.Error{Op: "Post", URL: "https://host/mcp?key=s3cret", Err: errDown}
	causes := map[string]error{
		"Post: connection refused":                               ue,
		"could not reach it (connect): Post: connection refused": &mcp.Failure{Reason: mcp.ReasonConnect, Message: "could not reach it", Cause: ue},
		"Get: Post: connection refused":                          fmt.Errorf("x: %w", &url.Error{Op: "Get", URL: "?s3cret", Err: ue}),
		"unknown":                                                nil,
	}
	for want, cause := range causes {
		c := newCircuit(t)
		for range 3 {
			c.enter().Done(breaker.Failed, cause)
		}
		if log := c.log.String(); strings.Contains(log, "s3cret") || !strings.Contains(log, want) {
			t.Errorf("the log has not %q:\n%s", want, log)
		}
	}
}

// TestCircuitCrowd: 300 callers, ten times a second each, while the endpoint is dead for 20 seconds. There is never more
// than one probe, a handful of calls see a dead endpoint, and it is used again within a few seconds. The callers are one
// goroutine: TestCircuitRace has the many.
func TestCircuitCrowd(t *testing.T) {
	type call struct {
		permit *breaker.Permit
		ends   time.Time
	}
	inBubble(t, func(t *testing.T, c *circuit) {
		var under []call
		var probes, seen, served int
		start := time.Now()
		back := start.Add(20 * time.Second)
		end := func(k call) {
			if k.permit.Probe() {
				probes--
			}
			if time.Now().Before(back) {
				seen++
				k.permit.Done(map[bool]breaker.Verdict{true: breaker.Refused, false: breaker.Failed}[seen%2 == 0], errDown)
				return
			}
			served++
			k.permit.Done(breaker.Succeeded, nil)
			k.permit.Done(breaker.Failed, errDown)
		}
		for i := range 40_000 { // 40 seconds
			for j := range 3 {
				p, ok := c.Allow()
				if !ok {
					continue
				}
				if p.Probe() {
					probes++
				}
				if probes > 1 {
					t.Fatal("two probes")
				}
				under = append(under, call{&p, time.Now().Add(time.Duration((i+j)%7) * time.Millisecond)})
			}
			var rest []call
			for _, k := range under {
				if k.ends.After(time.Now()) {
					rest = append(rest, k)
				} else {
					end(k)
				}
			}
			under = rest
			pass(time.Millisecond)
		}
		c.want(breaker.Closed)
		if seen > 3*7+6 {
			t.Errorf("%d calls saw a dead endpoint", seen)
		}
		if served < 3*5_000 { // the longest wait is 16 s, from the 15th second to the 31st
			t.Errorf("%d calls were served after it was back", served)
		}
	})
}

// TestCircuitRace uses one Circuit from many goroutines in real time, in every way there is, for the race detector; then a
// success closes it still.
func TestCircuitRace(t *testing.T) {
	c := breaker.NewCircuit(breaker.CircuitOptions{Upstream: "files", Endpoint: "0", ProbeTimeout: time.Microsecond})
	verdicts := []breaker.Verdict{breaker.Succeeded, breaker.Failed, breaker.Refused, breaker.Ignored, breaker.Succeeded}
	var wg sync.WaitGroup
	for worker := range 100 {
		wg.Go(func() {
			for i := range 300 {
				p, ok := c.Allow()
				if ok && i%11 != 0 {
					var both sync.WaitGroup
					both.Go(func() { p.Done(verdicts[(i+worker)%len(verdicts)], errDown) })
					both.Go(func() { p.Done(breaker.Succeeded, nil) })
					both.Wait()
				}
				c.Alive()
				c.ProbeWithin(0)
				c.RetryAfter()
				c.State()
				c.Last()
			}
		})
	}
	wg.Wait()
	for c.State() != breaker.Closed {
		c.Alive()
		<-time.After(c.RetryAfter())
		if p, ok := c.Allow(); ok {
			p.Done(breaker.Succeeded, nil)
		}
	}
}

// BenchmarkCircuit is one call that is allowed and reports, alone and from all sides, and one that is refused.
func BenchmarkCircuit(b *testing.B) {
	b.Run("closed", func(b *testing.B) {
		c := newCircuit(b)
		b.ReportAllocs()
		for b.Loop() {
			p, _ := c.Allow()
			p.Done(breaker.Succeeded, nil)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		c := newCircuit(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p, _ := c.Allow()
				p.Done(breaker.Succeeded, nil)
			}
		})
	})
	b.Run("open", func(b *testing.B) {
		c := newCircuit(b)
		c.trip()
		b.ReportAllocs()
		for b.Loop() {
			c.Allow()
		}
	})
}
