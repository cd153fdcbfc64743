package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"fluentd-perf/internal/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = 50 * time.Millisecond

var errDown = errors.New("connection refused")

// rig is a Tier and what it has told.
type rig struct {
	*breaker.Tier
	tb  testing.TB
	reg *prometheus.Registry
	log strings.Builder
}

func newRig(tb testing.TB) *rig {
	r := &rig{tb: tb, reg: prometheus.NewRegistry()}
	r.Tier = breaker.NewTier("redis", breaker.NewMetrics(r.reg), slog.New(slog.NewTextHandler(&r.log, nil)))
	return r
}

// use asks, and reports err if it is allowed.
func (r *rig) use(err error) bool {
	done, ok := r.Allow(timeout)
	if ok {
		done(err)
	}
	return ok
}

// report uses the tier n times, which must be allowed.
func (r *rig) report(n int, err error) {
	r.tb.Helper()
	for i := range n {
		if !r.use(err) {
			r.tb.Fatalf("the call %d of %d was not allowed", i+1, n)
		}
	}
}

// trip opens a closed breaker.
func (r *rig) trip() {
	r.tb.Helper()
	r.report(3, errDown)
	r.want(breaker.Open)
}

func (r *rig) want(state string) {
	r.tb.Helper()
	if got := r.State(); got != state {
		r.tb.Fatalf("the breaker is %s, want %s", got, state)
	}
}

func pass(d time.Duration) { <-time.After(d) }

// shown reads the metric.
func (r *rig) shown() float64 {
	families, err := r.reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "fluentd_perf_tier_breaker_state" {
		r.tb.Fatalf("got %v, %v", families, err)
	}
	m := families[0].GetMetric()
	if len(m) != 1 || m[0].GetLabel()[0].GetValue() != "redis" {
		r.tb.Fatalf("got %v", m)
	}
	return m[0].GetGauge().GetValue()
}

// TestOpens lists what opens a breaker and what does not.
func TestOpens(t *testing.T) {
	left := fmt.Errorf("reading: %w", context.Canceled)
	slow := fmt.Errorf("reading: %w", context.DeadlineExceeded)
	mix := func(n int, errs ...error) func(*rig) {
		return func(r *rig) {
			for i := range n {
				if !r.use(errs[i%len(errs)]) {
					return
				}
			}
		}
	}
	cases := []struct {
		name string
		do   func(r *rig)
		want string
	}{
		{"nothing", func(*rig) {}, breaker.Closed},
		{"two in a row", mix(2, errDown), breaker.Closed},
		{"three in a row", mix(3, errDown), breaker.Open},
		{"three timeouts", mix(3, slow), breaker.Open},
		{"callers that leave", mix(100, left), breaker.Closed},
		{"three in a row, callers leaving between", mix(5, errDown, left), breaker.Open},
		{"three, a success between", mix(4, errDown, errDown, nil, errDown), breaker.Closed},
		{"half of 18", mix(18, nil, errDown), breaker.Closed},
		{"half of 20", mix(20, nil, errDown), breaker.Open},
		{"half of 20, the callers that left not counted", mix(24, nil, errDown, left), breaker.Closed},
		{"a third of 99", mix(99, nil, nil, errDown), breaker.Closed},
		{"three in a row over an hour", func(r *rig) {
			for range 3 {
				r.report(1, errDown)
				pass(30 * time.Minute)
			}
		}, breaker.HalfOpen},
		{"half of 20, some older than the window", func(r *rig) {
			mix(12, nil, errDown)(r)
			pass(11 * time.Second)
			mix(12, nil, errDown)(r)
		}, breaker.Closed},
		{"half of 20 in nine seconds", func(r *rig) {
			mix(10, nil, errDown)(r)
			pass(8 * time.Second)
			mix(10, nil, errDown)(r)
		}, breaker.Open},
		{"many that have not reported", func(r *rig) {
			for range 100 {
				r.Allow(timeout)
			}
			mix(20, nil, errDown)(r)
		}, breaker.Open},
		{"failures that took longer than the window", func(r *rig) {
			var all []func(error)
			for range 3 {
				done, _ := r.Allow(timeout)
				all = append(all, done)
			}
			pass(time.Minute)
			for _, done := range all {
				done(errDown)
			}
		}, breaker.Open},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				c.do(r)
				r.want(c.want)
			})
		})
	}
}

// TestProbes: an open breaker lets one call through every two seconds and no other.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.trip()
		start := time.Now()
		var allowed []time.Duration
		for range 1000 { // ten seconds
			if r.use(errDown) {
				allowed = append(allowed, time.Since(start))
			}
			pass(10 * time.Millisecond)
		}
		want := []time.Duration{2 * time.Second, 4 * time.Second, 6 * time.Second, 8 * time.Second}
		if !slices.Equal(allowed, want) {
			t.Errorf("allowed at %v, want %v", allowed, want)
		}
		if n := strings.Count(r.log.String(), "\n"); n != 1 {
			t.Errorf("the log of one outage:\n%s", r.log.String())
		}
	})
}

// TestUsedAgain: whenever a tier returns, and however it was away, it is used within five seconds, with a call each
// 10 ms; while it is away, two calls in a hundred see it.
func TestUsedAgain(t *testing.T) {
	for _, hung := range []bool{false, true} {
		for at := 7 * time.Second; at < 10*time.Second; at += 130 * time.Millisecond {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				start := time.Now()
				back, used := start.Add(at), time.Duration(-1)
				var seen, calls int
				for used < 0 && time.Since(start) < time.Minute {
					calls++
					if done, ok := r.Allow(timeout); ok {
						switch up := !time.Now().Before(back); {
						case up:
							done(nil)
						case hung:
							seen++ // it never reports
						default:
							seen++
							done(errDown)
						}
						if r.State() == breaker.Closed && !time.Now().Before(back) {
							used = time.Since(back)
						}
					}
					if hung && calls == 3 {
						r.report(3, context.DeadlineExceeded)
					}
					pass(10 * time.Millisecond)
				}
				if used < 0 || used > 5*time.Second {
					t.Errorf("used again after %v", used)
				}
				if seen*50 > calls {
					t.Errorf("%d of %d calls saw a tier that is away", seen, calls)
				}
			})
		}
	}
}

// TestHungProbe: a probe that never reports has failed after twice the timeout, and the next comes two seconds after.
func TestHungProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.trip()
		pass(2 * time.Second)
		hung, ok := r.Allow(timeout)
		if !ok {
			t.Fatal("no probe after two seconds")
		}
		if r.use(nil) {
			t.Fatal("a second probe beside the first")
		}
		r.want(breaker.HalfOpen)
		pass(2*timeout - 1)
		r.want(breaker.HalfOpen)
		pass(1)
		synctest.Wait()
		r.want(breaker.Open)
		pass(2*time.Second - 1)
		if r.use(nil) {
			t.Fatal("a probe before its time")
		}
		pass(1)
		if !r.use(nil) {
			t.Fatal("no probe two seconds after the hung one")
		}
		r.want(breaker.Closed)
		hung(errDown) // at last: nobody cares
		r.report(2, errDown)
		r.want(breaker.Closed)
	})
}

// TestLongProbe: a probe that says how long it may take has that time, twice: what writes behind in trips that are longer
// than the tier's timeout finds out that the tier works, too.
func TestLongProbe(t *testing.T) {
	const most, trip = 2 * time.Second, 2*time.Second - time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.trip()
		pass(2 * time.Second)
		done, ok := r.Allow(most)
		if !ok {
			t.Fatal("no probe after two seconds")
		}
		pass(trip)
		r.want(breaker.HalfOpen)
		done(nil)
		r.want(breaker.Closed)
	})
	synctest.Test(t, func(t *testing.T) { // the same of which nothing is heard
		r := newRig(t)
		r.trip()
		pass(2 * time.Second)
		if _, ok := r.Allow(most); !ok {
			t.Fatal("no probe after two seconds")
		}
		pass(2*most - 1)
		r.want(breaker.HalfOpen)
		pass(1)
		synctest.Wait()
		r.want(breaker.Open)
	})
	synctest.Test(t, func(t *testing.T) { // a shorter one than the tier's timeout
		r := newRig(t)
		r.trip()
		pass(2 * time.Second)
		if _, ok := r.Allow(timeout / 10); !ok {
			t.Fatal("no probe after two seconds")
		}
		pass(timeout/5 - 1)
		r.want(breaker.HalfOpen)
		pass(1)
		synctest.Wait()
		r.want(breaker.Open)
	})
}

// TestUsedAgainByTheWriter: a tier that only its slow writer asks is used within five seconds of its return, whenever that
// is.
func TestUsedAgainByTheWriter(t *testing.T) {
	const pause, trip = 250 * time.Millisecond, 400 * time.Millisecond // longer than twice the timeout
	for at := 7 * time.Second; at < 10*time.Second; at += 130 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.trip()
			start := time.Now()
			back := start.Add(at)
			for r.State() != breaker.Closed && time.Since(start) < time.Minute {
				if done, ok := r.Allow(2 * time.Second); ok {
					var err error
					if time.Now().Before(back) {
						err = errDown
					}
					pass(trip)
					done(err)
				}
				pass(pause)
			}
			if used := time.Since(back); used > 5*time.Second {
				t.Errorf("used again after %v", used)
			}
		})
	}
}

// TestProbeLeft: a probe whose caller leaves says nothing, and the next call is the probe.
func TestProbeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.trip()
		pass(2 * time.Second)
		for range 50 {
			r.report(1, context.Canceled)
			r.want(breaker.HalfOpen)
		}
		r.report(1, nil)
		r.want(breaker.Closed)
	})
}

// TestLongProbeLeft: a long probe whose caller leaves takes nothing from the time of the next, a short one.
func TestLongProbeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.trip()
		pass(2 * time.Second)
		done, _ := r.Allow(2 * time.Second)
		pass(3 * time.Second)
		done(context.Canceled)
		done, ok := r.Allow(timeout)
		if !ok {
			t.Fatal("no probe after one whose caller left")
		}
		pass(2*timeout - 1)
		done(nil)
		r.want(breaker.Closed)
	})
}

// TestProbeInTime: a probe that has reported is not failed later.
func TestProbeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.trip()
		pass(2 * time.Second)
		done, _ := r.Allow(timeout)
		pass(2*timeout - 1)
		done(nil)
		pass(time.Hour)
		r.want(breaker.Closed)
		r.report(2, errDown)
		r.want(breaker.Closed)
	})
}

// TestOnce: only the first report of a call counts.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		done, _ := r.Allow(timeout)
		for range 10 {
			done(errDown)
		}
		r.want(breaker.Closed)
		done, _ = r.Allow(timeout)
		done(nil)
		done(errDown)
		r.report(2, errDown)
		r.want(breaker.Closed)
		r.report(1, errDown)
		r.want(breaker.Open)
	})
}

// TestLate: reports of calls that were allowed in an older state count no more, whichever way, also many at once.
func TestLate(t *testing.T) {
	for _, late := range []error{nil, errDown, context.Canceled} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			var old []func(error)
			for range 100 {
				done, _ := r.Allow(timeout)
				old = append(old, done)
			}
			reportAll := func(part []func(error)) {
				var wg sync.WaitGroup
				for _, done := range part {
					wg.Go(func() { done(late) })
				}
				wg.Wait()
			}
			r.trip()
			reportAll(old[:30])
			r.want(breaker.Open)
			pass(2 * time.Second)
			probe, _ := r.Allow(timeout)
			reportAll(old[30:60])
			r.want(breaker.HalfOpen)
			probe(nil)
			r.report(1, errDown)
			reportAll(old[60:])
			r.want(breaker.Closed)
			r.report(1, errDown)
			r.want(breaker.Closed)
			r.report(1, errDown)
			r.want(breaker.Open)
		})
	}
}

// TestTold: changes come in order, each shown in the metric and worth at most a line.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		shows := func(want float64) {
			t.Helper()
			if got := r.shown(); got != want {
				t.Errorf("the metric is %v, want %v", got, want)
			}
		}
		shows(0)
		r.trip()
		shows(2)
		pass(2 * time.Second)
		r.want(breaker.HalfOpen)
		done, _ := r.Allow(timeout)
		shows(1)
		done(errDown)
		shows(2)
		pass(2 * time.Second)
		r.report(1, nil)
		shows(0)
		log := r.log.String()
		if strings.Count(log, "\n") != 2 || !strings.Contains(log, `level=WARN msg="circuit open: `) ||
			!strings.Contains(log, `tier=redis error="connection refused"`) || !strings.Contains(log, `level=INFO msg="circuit closed: `) {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// TestStress uses one breaker from many goroutines in real time: under the race detector, and with a tier that fails and
// returns, the changes in the log make one story.
func TestStress(t *testing.T) {
	var log strings.Builder // written to by one at a time
	tier := breaker.NewTier("redis", nil, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				if done, ok := tier.Allow(time.Millisecond); ok && i%10 != 0 {
					done(map[bool]error{true: errDown}[worker > 6])
				}
				tier.State()
			}
		})
	}
	wg.Wait()
	now, state := tier.State(), breaker.Closed
	for line := range strings.Lines(log.String()) {
		_, rest, _ := strings.Cut(line, "circuit ")
		to := rest[:strings.IndexAny(rest, `:"`)]
		if to == state || to == breaker.HalfOpen && state == breaker.Closed {
			t.Fatalf("%s after %s:\n%s", to, state, line)
		}
		state = to
	}
	if now != state {
		t.Errorf("%s, and the last change in the log is to %s", now, state)
	}
}

// BenchmarkTier is one call that is allowed and reports, and one that is refused.
func BenchmarkTier(b *testing.B) {
	b.Run("closed", func(b *testing.B) {
		r := newRig(b)
		b.ReportAllocs()
		for b.Loop() {
			r.use(nil)
		}
	})
	b.Run("open", func(b *testing.B) {
		r := newRig(b)
		r.trip()
		b.ReportAllocs()
		for range b.N { // two seconds at most
			r.Allow(timeout)
		}
	})
}
