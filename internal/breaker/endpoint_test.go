package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/mcp"
)

// endpoint is the breaker of one and what it shows.
type endpoint struct {
	asking
	tb  testing.TB
	reg *prometheus.Registry
	log strings.Builder
}

var (
	errRefused = fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	errLeft    = errors.New("nothing was learnt")
)

// asking is a breaker of which a call that is allowed is a permit.
type asking struct{ *breaker.Breaker }

// permit is a call that was allowed.
type permit struct {
	breaker *breaker.Breaker
	ticket  uint64
	probe   bool
}

func (b asking) Allow(early bool) (*permit, bool) {
	ticket, probe, ok := b.Breaker.Allow(early)
	return &permit{b.Breaker, ticket, probe}, ok
}

func (p *permit) Probe() bool    { return p.probe }
func (p *permit) Done(err error) { p.breaker.Report(p.ticket, err) }
func (p *permit) Ignore()        { p.Done(context.Canceled) }

// end reports what came of a call: nil, an error, or errLeft for nothing.
func end(p *permit, outcome error) {
	if outcome == errLeft {
		p.Ignore()
		return
	}
	p.Done(outcome)
}

func newEndpoint(tb testing.TB) *endpoint {
	c := &endpoint{tb: tb, reg: prometheus.NewRegistry()}
	o := options()
	o.Metrics, o.Log = breaker.NewMetrics(c.reg), slog.New(slog.NewTextHandler(&c.log, nil))
	c.asking = asking{breaker.NewEndpoint(o)}
	return c
}

// options are those of an endpoint as the configuration has them by default.
func options() breaker.EndpointOptions {
	return breaker.EndpointOptions{
		Upstream: "files", Endpoint: "1", Window: 10 * time.Second, MinRequests: 20, FailureRatio: 0.5, InARow: 3,
	}
}

// enter asks, and fails the test if the call is not allowed.
func (c *endpoint) enter() *permit {
	c.tb.Helper()
	p, ok := c.Allow(false)
	if !ok {
		c.tb.Fatal("the call was not allowed")
	}
	return p
}

// use asks, and reports v if it is allowed.
func (c *endpoint) use(outcome error) bool {
	p, ok := c.Allow(false)
	if ok {
		end(p, outcome)
	}
	return ok
}

// report makes n calls, which must be allowed.
func (c *endpoint) report(n int, outcome error) {
	c.tb.Helper()
	for range n {
		end(c.enter(), outcome)
	}
}

func (c *endpoint) want(state string) {
	c.tb.Helper()
	if got := c.State(); got != state {
		c.tb.Fatalf("the breaker is %s, want %s", got, state)
	}
}

// trip opens a closed one.
func (c *endpoint) trip() {
	c.tb.Helper()
	c.report(3, errDown)
	c.want(breaker.Open)
}

// refuses fails the test if a call is allowed.
func (c *endpoint) refuses(when string) {
	c.tb.Helper()
	if p, ok := c.Allow(false); ok {
		p.Ignore()
		c.tb.Fatalf("a call was allowed %s", when)
	}
}

// probeAfter waits, and makes the probe that is due then and not before.
func (c *endpoint) probeAfter(d time.Duration) *permit {
	c.tb.Helper()
	pass(d - 1)
	c.refuses("before the probe was due")
	pass(1)
	p := c.enter()
	c.refuses("beside a probe")
	return p
}

// inBubble runs a test in false time.
func inBubble(t *testing.T, test func(t *testing.T, c *endpoint)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newEndpoint(t)) })
}

// TestEndpointOpens lists what opens an endpoint's breaker and what does not.
func TestEndpointOpens(t *testing.T) {
	ok, bad, refused, left := error(nil), errDown, errRefused, errLeft
	mix := func(n int, outcomes ...error) func(*endpoint) {
		return func(c *endpoint) {
			for i := range n {
				if !c.use(outcomes[i%len(outcomes)]) {
					return
				}
			}
		}
	}
	// late allows n calls, and reports them when a minute has passed.
	late := func(n int, outcomes ...error) func(*endpoint) {
		return func(c *endpoint) {
			var all []*permit
			for range n {
				all = append(all, c.enter())
			}
			pass(time.Minute)
			for i, p := range all {
				end(p, outcomes[i%len(outcomes)])
			}
		}
	}
	cases := []struct {
		name string
		do   func(*endpoint)
		want string
	}{
		{"nothing", func(*endpoint) {}, breaker.Closed},
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
		{"many that have not reported", func(c *endpoint) {
			for range 100 {
				c.enter()
			}
			mix(20, ok, bad)(c)
		}, breaker.Open},
		{"three in a row over an hour", func(c *endpoint) {
			c.report(1, bad)
			pass(30 * time.Minute)
			c.report(1, bad)
			pass(30 * time.Minute)
			c.report(1, bad)
		}, breaker.Open},
		{"two refused connections over an hour", func(c *endpoint) {
			c.report(1, refused)
			pass(time.Hour)
			c.report(1, refused)
		}, breaker.Open},
		{"half of 20, some older than the window", func(c *endpoint) {
			mix(12, ok, bad)(c)
			pass(11 * time.Second)
			mix(12, ok, bad)(c)
		}, breaker.Closed},
		{"half of 20 in nine seconds", func(c *endpoint) {
			mix(10, ok, bad)(c)
			pass(8 * time.Second)
			mix(10, ok, bad)(c)
		}, breaker.Open},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *endpoint) {
				k.do(c)
				c.want(k.want)
			})
		})
	}
}

// TestEndpointOptions: each setting moves its own bound.
func TestEndpointOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(set func(*breaker.EndpointOptions), outcomes ...error) int {
			o := options()
			set(&o)
			c := asking{breaker.NewEndpoint(o)}
			for i := range 1000 {
				p, ok := c.Allow(false)
				if !ok {
					return i
				}
				end(p, outcomes[i%len(outcomes)])
				pass(100 * time.Millisecond)
			}
			return 0
		}
		ok, bad := error(nil), errDown
		cases := []struct {
			name string
			set  func(*breaker.EndpointOptions)
			mix  []error
			want int // the call that is refused
		}{
			{"defaults", func(*breaker.EndpointOptions) {}, []error{ok, bad}, 20},
			{"MinRequests", func(o *breaker.EndpointOptions) { o.MinRequests = 8 }, []error{ok, bad}, 8},
			{"FailureRatio not reached", func(o *breaker.EndpointOptions) { o.FailureRatio = 0.6 }, []error{ok, bad}, 0},
			{"FailureRatio", func(o *breaker.EndpointOptions) { o.FailureRatio = 0.3 }, []error{ok, ok, bad}, 21},
			{"InARow", func(o *breaker.EndpointOptions) { o.InARow = 7 }, []error{bad}, 7},
			{"Window too short", func(o *breaker.EndpointOptions) { o.Window = time.Second }, []error{ok, bad}, 0},
		}
		for _, k := range cases {
			if got := open(k.set, k.mix...); got != k.want {
				t.Errorf("%s: the call %d was refused, want %d", k.name, got, k.want)
			}
		}
	})
}

// TestEndpointPanics: what cannot be is a bug of whoever made it.
func TestEndpointPanics(t *testing.T) {
	for _, set := range []func(*breaker.EndpointOptions){
		func(o *breaker.EndpointOptions) { o.Upstream = "" },
		func(o *breaker.EndpointOptions) { o.Endpoint = "" },
		func(o *breaker.EndpointOptions) { o.Window = 0 },
		func(o *breaker.EndpointOptions) { o.MinRequests = 0 },
		func(o *breaker.EndpointOptions) { o.InARow = 0 },
		func(o *breaker.EndpointOptions) { o.FailureRatio = 0 },
		func(o *breaker.EndpointOptions) { o.FailureRatio = 1.1 },
	} {
		o := options()
		set(&o)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v makes an endpoint", o)
				}
			}()
			breaker.NewEndpoint(o)
		}()
	}
}

// TestEndpointBackoff: probes that fail are 1, 2, 4 ... 30 seconds apart, one that succeeds begins anew.
func TestEndpointBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		for range 2 {
			c.trip()
			for _, s := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
				c.probeAfter(time.Duration(s) * time.Second).Done(errDown)
				c.want(breaker.Open)
			}
			c.probeAfter(30 * time.Second).Done(nil)
			c.want(breaker.Closed)
			c.report(2, errDown) // a new row
			c.want(breaker.Closed)
			c.report(1, nil)
		}
	})
}

// TestEndpointRetryAfter counts down to the next probe, and never to less than 100 ms.
func TestEndpointRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		want := func(d time.Duration) {
			t.Helper()
			if got := c.RetryAfter(false); got != d {
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
		p.Done(errDown)
		want(2 * time.Second)
		c.probeAfter(2 * time.Second).Done(nil)
		want(0)
	})
}

// TestEndpointHungProbe: a probe that does not report in time makes room for the next, and the waits grow.
func TestEndpointHungProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		c.trip()
		hung := c.probeAfter(time.Second)
		pass(10*time.Second - 1)
		c.want(breaker.HalfOpen)
		c.refuses("beside a hung probe")
		pass(1)
		synctest.Wait()
		c.want(breaker.Open)
		if cause := c.Last(); cause == nil || cause == errDown {
			t.Errorf("the last failure is %v", cause)
		}
		second := c.probeAfter(2 * time.Second)
		hung.Done(errDown) // nobody cares
		c.want(breaker.HalfOpen)
		pass(10 * time.Second)
		synctest.Wait()
		c.want(breaker.Open)
		pass(2 * time.Second)
		c.refuses("two seconds after the second probe")
		second.Done(nil) // it was slow, and it works
		c.want(breaker.Closed)
	})
}

// expire waits until the time of a probe is over.
func (c *endpoint) expire() {
	c.tb.Helper()
	pass(10 * time.Second)
	synctest.Wait()
	c.want(breaker.Open)
}

// TestEndpointHungServer: a server that hangs has one probe for each wait, and the waits grow to 30 s.
func TestEndpointHungServer(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		c.trip()
		for _, s := range []int{1, 2, 4, 8, 16, 30, 30} {
			c.probeAfter(time.Duration(s) * time.Second)
			c.expire()
		}
	})
}

// TestEndpointLateProbe: a probe that succeeds when its time is over closes the endpoint, unless it is proof no more.
func TestEndpointLateProbe(t *testing.T) {
	bad := errDown
	cases := []struct {
		name string
		do   func(c *endpoint, first *permit) // the first probe's time is over
		want string
	}{
		{"at once", func(c *endpoint, first *permit) { first.Done(nil) }, breaker.Closed},
		{"it fails", func(c *endpoint, first *permit) { first.Done(errDown) }, breaker.Open},
		{"its caller leaves", func(c *endpoint, first *permit) { first.Ignore() }, breaker.Open},
		{"after others whose time is over as well", func(c *endpoint, first *permit) {
			c.probeAfter(2 * time.Second)
			c.expire()
			c.probeAfter(4 * time.Second)
			c.expire()
			first.Done(nil)
		}, breaker.Closed},
		{"beside the next", func(c *endpoint, first *permit) {
			next := c.probeAfter(2 * time.Second)
			first.Done(nil)
			c.want(breaker.Closed)
			next.Done(errDown)
			c.report(2, bad) // a new row
		}, breaker.Closed},
		{"beside the next, which hangs", func(c *endpoint, first *permit) {
			c.probeAfter(2 * time.Second)
			first.Done(nil)
			pass(time.Minute)
		}, breaker.Closed},
		{"the next has failed", func(c *endpoint, first *permit) {
			c.probeAfter(2 * time.Second).Done(errDown)
			first.Done(nil)
		}, breaker.Open},
		{"the next has failed late", func(c *endpoint, first *permit) {
			next := c.probeAfter(2 * time.Second)
			c.expire()
			next.Done(errRefused)
			first.Done(nil)
		}, breaker.Open},
		{"one before the next has failed late", func(c *endpoint, first *permit) {
			next := c.probeAfter(2 * time.Second)
			c.expire()
			first.Done(errDown)
			next.Done(nil)
		}, breaker.Closed},
		{"of another outage", func(c *endpoint, first *permit) {
			c.probeAfter(2 * time.Second).Done(nil)
			c.trip()
			first.Done(nil)
		}, breaker.Open},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *endpoint) {
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

// TestEndpointClosedLate: a endpoint that a late probe closed opens as any other does, and counts from the beginning.
func TestEndpointClosedLate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		for range 3 {
			c.trip()
			probe := c.probeAfter(time.Second)
			c.expire()
			probe.Done(nil)
			c.report(2, errDown)
			c.want(breaker.Closed)
			c.report(1, nil)
		}
	})
}

// TestEndpointImpatient: agents that leave one after another wait for a probe's report no longer than one that stays.
func TestEndpointImpatient(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		c.trip()
		pass(time.Second)
		for range 3 {
			probe := c.enter()
			pass(3 * time.Second)
			probe.Ignore()
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

// TestEndpointProbeLeft: a probe whose caller leaves makes room for the next at once, and its deadline ends with it.
func TestEndpointProbeLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		c.trip()
		pass(time.Second)
		for range 50 {
			c.report(1, errLeft)
			c.want(breaker.HalfOpen)
		}
		pass(time.Minute)
		synctest.Wait()
		c.want(breaker.HalfOpen)
		c.report(1, nil)
		c.want(breaker.Closed)
	})
}

// TestEndpointOnce: a probe that failed is no proof if it reports a success after that.
func TestEndpointOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		c.report(2, errRefused)
		c.want(breaker.Open)
		probe := c.probeAfter(time.Second)
		probe.Done(errDown)
		probe.Done(nil)
		c.want(breaker.Open)
		c.probeAfter(time.Second).Done(nil)
		c.want(breaker.Closed)
	})
}

// TestEndpointLate: what was allowed before the state changed counts no more. If it succeeded, the next probe is due at
// once, though a second after the last failure at the soonest.
func TestEndpointLate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		var old []*permit
		for range 6 {
			old = append(old, c.enter())
		}
		c.trip()
		old[0].Done(nil)
		c.refuses("at once after it opened")
		c.probeAfter(time.Second).Done(errDown) // waits two seconds, but that the success began anew
		c.probeAfter(time.Second).Done(errDown)
		c.probeAfter(2 * time.Second).Done(errDown)
		old[1].Done(errDown)
		old[2].Ignore()
		pass(1500 * time.Millisecond)
		c.refuses("after a late failure")
		old[3].Done(nil)
		probe := c.enter()
		old[4].Done(errDown)
		c.want(breaker.HalfOpen)
		probe.Done(nil)
		c.want(breaker.Closed)
		c.report(2, errDown)
		old[5].Done(errDown) // of the first epoch
		c.want(breaker.Closed)
		c.report(1, errDown)
		c.want(breaker.Open)
	})
}

// TestEndpointAlive: a sign of life makes the next probe due at once and the waits short again, also one that comes while a
// probe is under way.
func TestEndpointAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		c.Alive()
		c.want(breaker.Closed)
		c.trip()
		for _, s := range []int{1, 2, 4, 8} {
			c.probeAfter(time.Duration(s) * time.Second).Done(errDown)
		}
		pass(3 * time.Second)
		c.Alive()
		probe := c.enter()
		c.refuses("beside a probe")
		probe.Done(errDown)
		probe = c.probeAfter(time.Second)
		c.Alive()
		probe.Done(errDown)
		c.probeAfter(time.Second).Done(errDown)
		c.probeAfter(2 * time.Second).Done(errDown)
		for range 3 { // signs of life without end: a probe a second
			c.Alive()
			c.probeAfter(time.Second).Done(errDown)
		}
	})
}

// TestEndpointShows: the state in the metric, the last failure, and one line of log when it opens and when it closes.
func TestEndpointShows(t *testing.T) {
	inBubble(t, func(t *testing.T, c *endpoint) {
		shows := func(want float64) {
			t.Helper()
			if got := c.shown(); got != want {
				t.Errorf("the metric is %v, want %v", got, want)
			}
		}
		shows(0)
		if cause := c.Last(); cause != nil {
			t.Errorf("the last failure is %v", cause)
		}
		c.trip()
		shows(2)
		c.probeAfter(time.Second).Done(errors.New("still down"))
		shows(2)
		probe := c.probeAfter(2 * time.Second)
		shows(1)
		probe.Done(nil)
		shows(0)
		if cause := c.Last(); cause == nil || cause.Error() != "still down" {
			t.Errorf("the last failure is %v", cause)
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
func (c *endpoint) shown() float64 {
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

// TestEndpointLogsNoURL: a query may hold a secret.
func TestEndpointLogsNoURL(t *testing.T) {
	ue := &url.Error{Op: "Post", URL: "https://host/mcp?key=s3cret", Err: errDown}
	causes := map[string]error{
		"Post: connection refused":                               ue,
		"could not reach it (connect): Post: connection refused": &mcp.Failure{Reason: mcp.ReasonConnect, Message: "could not reach it", Cause: ue},
		"Get: Post: connection refused":                          fmt.Errorf("x: %w", &url.Error{Op: "Get", URL: "?s3cret", Err: ue}),
	}
	for want, cause := range causes {
		c := newEndpoint(t)
		for range 3 {
			c.enter().Done(cause)
		}
		if log := c.log.String(); strings.Contains(log, "s3cret") || !strings.Contains(log, want) {
			t.Errorf("the log has not %q:\n%s", want, log)
		}
	}
}

// TestEndpointManyCallers: 300 callers, ten times a second each, while the endpoint is dead for 20 seconds. There is never more
// than one probe, a handful of calls see a dead endpoint, and it is used again within a few seconds. The callers are one
// goroutine: TestEndpointRace has the many.
func TestEndpointManyCallers(t *testing.T) {
	type call struct {
		permit *permit
		ends   time.Time
	}
	inBubble(t, func(t *testing.T, c *endpoint) {
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
				k.permit.Done(map[bool]error{true: errRefused, false: errDown}[seen%2 == 0])
				return
			}
			served++
			k.permit.Done(nil)
		}
		for i := range 40_000 { // 40 seconds
			for j := range 3 {
				p, ok := c.Allow(false)
				if !ok {
					continue
				}
				if p.Probe() {
					probes++
				}
				if probes > 1 {
					t.Fatal("two probes")
				}
				under = append(under, call{p, time.Now().Add(time.Duration((i+j)%7) * time.Millisecond)})
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

// TestEndpointRace uses one breaker from many goroutines in real time, in every way there is, for the race detector; then a
// success closes it still.
func TestEndpointRace(t *testing.T) {
	c := asking{breaker.NewEndpoint(options())}
	outcomes := []error{nil, errDown, errRefused, errLeft, nil}
	var wg sync.WaitGroup
	for worker := range 100 {
		wg.Go(func() {
			for i := range 300 {
				p := &permit{breaker: c.Breaker, ticket: c.AllowWithin(time.Microsecond)}
				if p.ticket != 0 && i%11 != 0 {
					var both sync.WaitGroup
					both.Go(func() { end(p, outcomes[(i+worker)%len(outcomes)]) })
					both.Go(func() { p.Done(nil) })
					both.Wait()
				}
				c.Alive()
				c.RetryAfter(false)
				c.State()
				c.Last()
			}
		})
	}
	wg.Wait()
	for c.State() != breaker.Closed {
		c.Alive()
		<-time.After(c.RetryAfter(false))
		if p, ok := c.Allow(false); ok {
			p.Done(nil)
		}
	}
}

// BenchmarkEndpoint is one call that is allowed and reports, alone and from all sides, and one that is refused.
func BenchmarkEndpoint(b *testing.B) {
	b.Run("closed", func(b *testing.B) {
		c := newEndpoint(b)
		b.ReportAllocs()
		for b.Loop() {
			p, _ := c.Allow(false)
			p.Done(nil)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		c := newEndpoint(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p, _ := c.Allow(false)
				p.Done(nil)
			}
		})
	})
	b.Run("open", func(b *testing.B) {
		c := newEndpoint(b)
		c.trip()
		b.ReportAllocs()
		for b.Loop() {
			c.Allow(false)
		}
	})
}
