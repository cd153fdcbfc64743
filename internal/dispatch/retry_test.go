package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
)

// TestResent is the table of what is sent again: each fault in both forms, as one that did nothing and as one that did the
// work and lost the answer. Whatever happens, a tools/call runs once at most.
func TestResent(t *testing.T) {
	cut := func(before ...piece) play { return streams(append(before, ends(&cutOff))...) }
	type row struct {
		name  string
		fault play
		never bool // the server cannot have had it
		list  bool // a list is sent again
		call  bool // a tools/call is
	}
	rows := []row{
		{"refused", fails(refused), true, true, true},
		{"not reached", fails(unreachable), true, true, true},
		{"connect timeout", fails(noDial), true, false, false},
		{"broke off", fails(brokeOff), false, true, false},
		{"broke off in the body", fails(cutOff), false, true, false},
		{"timeout", fails(timeoutOf(true)), false, false, false},
		{"bad answer", fails(rubbish), false, false, false},
		{"no connection free", fails(poolWait), true, false, false},
		{"500", says(500), false, false, false},
		{"501", says(501), false, false, false},
		{"502", says(502), false, true, false},
		{"503", says(503), false, true, false},
		{"503, in a second", says(503, "Retry-After", "1"), false, true, false},
		{"503, in an hour", says(503, "Retry-After", "3600"), false, false, false},
		{"504", says(504), false, true, false},
		{"404", says(404), false, false, false},
		{"429", says(429), false, false, false},
		{"429, in two seconds", says(429, "Retry-After", "2"), false, true, false},
		{"429, in three", says(429, "Retry-After", "3"), false, false, false},
		{"503 in bytes", raws(503, io.EOF), false, true, false},
		{"a stream cut at once", cut(), false, true, false},
		{"a stream cut after comments", cut(comment, comment), false, true, false},
		{"a stream ended without anything", streams(), false, true, false},
		{"a stream cut after an event", cut(progress), false, false, false},
		{"a stream cut after an event id", cut(priming), false, false, false},
		{"a certificate that does not verify", fails(badCertificate), true, false, false},
		{"a JSON-RPC error", says(200), false, false, false},
	}
	for _, r := range rows {
		for _, did := range []bool{false, true} {
			if did && r.never {
				continue
			}
			for _, body := range []string{listBody, callBody} {
				fault, again := r.fault, r.call
				if did {
					fault = working(fault)
				}
				if body == listBody {
					again = r.list
				}
				t.Run(fmt.Sprintf("%s/work=%v/%s", r.name, did, post(body).Message.Method), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						server := newServer(fault, answers)
						s := newStage(t, setup{}, server)
						status, f := s.do(t.Context(), post(body))
						calls, ran := server.sent()
						if want := map[bool]int{false: 1, true: 2}[again]; calls != want {
							t.Errorf("sent %d times, want %d", calls, want)
						}
						if again && (status != 200 || f != nil) {
							t.Errorf("got %d, %v", status, f)
						}
						if body == callBody && ran > 1 {
							t.Errorf("it ran %d times", ran)
						}
						if f != nil && f.Sent == mcp.SentNo && ran > 0 {
							t.Error("it ran and was said not to have been sent")
						}
						s.idle()
					})
				})
			}
		}
	}
}

// TestLanesResent: what was not sent is sent again on every lane but the long ones; what may have run on no other.
func TestLanesResent(t *testing.T) {
	cases := []struct {
		call           *mcp.Call
		refused, broke int
	}{
		{of(mcp.LaneNotification, progressBody), 2, 1},
		{of(mcp.LaneResponse, responseBody), 2, 1},
		{of(mcp.LaneEnd, ""), 2, 1},
		{of(mcp.LaneBatch, "["+listBody+"]"), 2, 1},
		{of(mcp.LaneMessage, listBody), 2, 1},
		{of(mcp.LaneStream, ""), 1, 1},
		{of(mcp.LaneListen, listBody), 1, 1},
		{of(mcp.LaneFetch, ""), 1, 1},
	}
	for _, c := range cases {
		try := func(fault mcp.Failure, want int) {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(fails(fault), answers)
				s := newStage(t, setup{}, server)
				s.do(t.Context(), c.call)
				if n, _ := server.sent(); n != want {
					t.Errorf("lane %d after %s: sent %d times, want %d", c.call.Lane, fault.Reason, n, want)
				}
				s.idle()
			})
		}
		try(refused, c.refused)
		try(brokeOff, c.broke)
	}
}

// TestLastAnswer: when nothing is left, the agent gets the last answer or failure as it is, with Sent true to all.
func TestLastAnswer(t *testing.T) {
	cases := []struct {
		name   string
		plays  []play
		status int
		reason mcp.Reason
		sent   mcp.Sent
		calls  int
	}{
		{"503 each time", []play{says(503)}, 503, "", "", 3},
		{"503, then not reached", []play{says(503), fails(unreachable)}, 0, mcp.ReasonConnect, mcp.SentYes, 3},
		{"broke off, then not reached", []play{fails(brokeOff), fails(unreachable)}, 0, mcp.ReasonConnect, mcp.SentUnknown, 3},
		{"not reached", []play{fails(unreachable)}, 0, mcp.ReasonConnect, mcp.SentNo, 3},
		{"not reached, then 503", []play{fails(unreachable), fails(unreachable), says(503)}, 503, "", "", 3},
		{"streams cut", []play{streams(ends(&cutOff))}, 0, mcp.ReasonBrokeOff, mcp.SentYes, 3},
		{"503, then 404", []play{says(503), says(404)}, 404, "", "", 2},
		{"503, then 429 for long", []play{says(503), says(429, "Retry-After", "60")}, 429, "", "", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(c.plays...)
				s := newStage(t, setup{noBreaker: true}, server)
				status, f := s.do(t.Context(), post(listBody))
				if status == 200 && c.reason != "" {
					status = 0 // a stream whose last sending broke while it was read
				}
				if status != c.status || c.reason != "" && (f == nil || f.Reason != c.reason || f.Sent != c.sent) {
					t.Errorf("got %d, %+v", status, f)
				}
				if n, _ := server.sent(); n != c.calls {
					t.Errorf("sent %d times, want %d", n, c.calls)
				}
				s.idle()
			})
		})
	}
}

// TestWaits: how long it is between two sendings.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var longest time.Duration
		for range 200 {
			server := newServer(fails(unreachable), fails(unreachable), answers)
			newStage(t, setup{noBreaker: true}, server).do(t.Context(), post(listBody))
			first, second := server.times[1].Sub(server.times[0]), server.times[2].Sub(server.times[1])
			if first >= 50*time.Millisecond || second >= 100*time.Millisecond {
				t.Fatalf("waited %v and %v", first, second)
			}
			longest = max(longest, second)
		}
		if longest < 50*time.Millisecond {
			t.Errorf("the longest second wait of 200 was %v", longest)
		}
		server := newServer(says(429, "Retry-After", "2"), answers)
		newStage(t, setup{}, server).do(t.Context(), post(listBody))
		if d := server.times[1].Sub(server.times[0]); d != 2*time.Second {
			t.Errorf("waited %v where the server asked for 2s", d)
		}
		date := time.Now().Add(1500 * time.Millisecond).UTC().Format(http.TimeFormat)
		server = newServer(says(503, "Retry-After", date), answers)
		newStage(t, setup{}, server).do(t.Context(), post(listBody))
		if d := server.times[1].Sub(server.times[0]); d < 500*time.Millisecond || d > 1500*time.Millisecond {
			t.Errorf("waited %v where the server asked for about a second", d)
		}
	})
}

// TestLeft: nothing is sent again for a caller that has left when the answer comes, or leaves while it would wait; the answer
// that is there stays what the call gets.
func TestLeft(t *testing.T) {
	for _, leaves := range []time.Duration{500 * time.Millisecond, 2500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			server := newServer(func(context.Context, func()) (*mcp.Result, error) {
				<-time.After(time.Second)
				return says(429, "Retry-After", "2")(nil, nil)
			}, answers)
			s := newStage(t, setup{}, server)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(leaves, cancel)
			begun := time.Now()
			if status, _ := s.do(ctx, post(listBody)); status != 429 || time.Since(begun) != max(leaves, time.Second) {
				t.Errorf("got %d after %v", status, time.Since(begun))
			}
			if n, _ := server.sent(); n != 1 {
				t.Errorf("sent %d times", n)
			}
			s.idle()
		})
	}
}

// TestLeftInTheWait: a caller that leaves while a failed call waits hears why it ended, and that it may have been sent.
func TestLeftInTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			server := newServer(fails(brokeOff), answers)
			s := newStage(t, setup{}, server)
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(1, func() { cancel(mcp.Draining()) })
			_, f := s.do(ctx, post(listBody))
			if f == nil {
				continue // it was sent again within a nanosecond
			}
			if n, _ := server.sent(); n != 1 || f.Reason != mcp.ReasonDraining || f.Sent != mcp.SentUnknown {
				t.Errorf("sent %d times, got %+v", n, f)
			}
			s.idle()
		}
	})
}

// TestDeadline: a wait that would end at the deadline is not begun.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(says(429, "Retry-After", "2"), answers)
		s := newStage(t, setup{}, server)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		begun := time.Now()
		if status, _ := s.do(ctx, post(listBody)); status != 429 || time.Since(begun) != 0 {
			t.Errorf("got %d after %v", status, time.Since(begun))
		}
	})
}

// TestRepeatable: the operator's lists decide, in both directions.
func TestRepeatable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(fails(brokeOff), answers)
		o := setup{}
		o.Repeatable = func(c *mcp.Call) bool { return c.Message.Method == mcp.MethodToolsCall }
		s := newStage(t, o, server)
		if status, f := s.do(t.Context(), post(callBody)); status != 200 {
			t.Errorf("a tool on the operator's list got %v", f)
		}
		server.plays = append([]play{answers, answers}, fails(brokeOff))
		if status, _ := s.do(t.Context(), post(listBody)); status != 0 {
			t.Error("a list that may not be repeated was")
		}
	})
}

// TestOpenBreakerEndsResending: a call is not sent again when others have opened the breaker meanwhile, nor does the probe
// that failed try once more.
func TestOpenBreakerEndsResending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(nil)
		s := newStage(t, setup{}, server)
		server.set(func(context.Context, func()) (*mcp.Result, error) {
			fall(s.breakers[0])
			return nil, &unreachable
		})
		for _, when := range []string{"beside others", "as the probe"} {
			server.calls = nil
			_, f := s.do(t.Context(), post(callBody))
			if n, _ := server.sent(); n != 1 || f.Reason != mcp.ReasonConnect || s.breakers[0].State() != breaker.Open {
				t.Errorf("%s: sent %d times: %v", when, n, f)
			}
			pass(2 * time.Second)
		}
	})
}

// TestBudget: an upstream that fails everything sees at most 1.2 times the calls that agents made and three, at any moment
// of the run and at whatever pace.
func TestBudget(t *testing.T) {
	for _, every := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, 7 * time.Second} {
		for _, fault := range []play{fails(unreachable), says(503)} {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(fault)
				reg := prometheus.NewRegistry()
				o := setup{noBreaker: true}
				o.Retry = dispatch.RetryOptions{Max: 2, Budget: 0.2}
				o.Metrics = dispatch.NewMetrics(reg)
				s := newStage(t, o, server)
				const calls = 10_000
				var wg sync.WaitGroup
				for n := 1; n <= calls; n++ {
					wg.Go(func() { s.do(t.Context(), post(listBody)) })
					if every > 0 {
						<-time.After(every)
					}
					if got, _ := server.sent(); float64(got) > 1.2*float64(n)+3 {
						t.Fatalf("after %d calls the server saw %d", n, got)
					}
				}
				wg.Wait()
				got, _ := server.sent()
				if got > calls*12/10+3 || got < calls*119/100 {
					t.Errorf("every %v: the server saw %d of %d calls", every, got, calls)
				}
				if n := s.Status().Retries; int(n) != got-calls {
					t.Errorf("%d retries counted of %d", n, got-calls)
				}
				if counted(t, reg, "budget_exhausted") == 0 {
					t.Error("nothing shows that the budget was spent")
				}
				s.idle()
			})
		}
	}
}

// TestBudgetAfterQuiet: what good times leave is no more than ten seconds' worth, and three after a quiet time.
func TestBudgetAfterQuiet(t *testing.T) {
	burst := func(t *testing.T, quiet time.Duration) int {
		server := newServer(answers)
		o := setup{noBreaker: true}
		o.Retry = dispatch.RetryOptions{Max: 1, Budget: 0.2}
		s := newStage(t, o, server)
		for range 3000 { // 100 a second
			s.do(t.Context(), post(listBody))
			<-time.After(10 * time.Millisecond)
		}
		<-time.After(quiet)
		server.plays = []play{fails(unreachable)}
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { s.do(t.Context(), post(listBody)) })
		}
		wg.Wait()
		n, _ := server.sent()
		return n - 4000
	}
	synctest.Test(t, func(t *testing.T) {
		if n := burst(t, 0); n < 380 || n > 400 { // 20 % of the last ten seconds' thousand and of these thousand
			t.Errorf("%d of 1000 were sent again", n)
		}
		if n := burst(t, time.Minute); n < 200 || n > 203 {
			t.Errorf("%d of 1000 were sent again after a minute", n)
		}
	})
}

// counted reads fluentd_perf_retries_total.
func counted(tb testing.TB, reg *prometheus.Registry, reason string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "fluentd_perf_retries_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == reason {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	tb.Fatalf("no series for %s", reason)
	return 0
}

// TestReasonsShown: each resend is counted under what was wrong.
func TestReasonsShown(t *testing.T) {
	for reason, fault := range map[string]play{
		"connect": fails(refused), "broke_off": fails(brokeOff), "http_502": says(502), "http_503": says(503),
		"http_504": says(504), "http_429": says(429, "Retry-After", "0"),
	} {
		synctest.Test(t, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			o := setup{}
			o.Metrics = dispatch.NewMetrics(reg)
			s := newStage(t, o, newServer(fault, answers))
			s.do(t.Context(), post(listBody))
			if n := counted(t, reg, reason); n != 1 {
				t.Errorf("%s is %v", reason, n)
			}
		})
	}
}

var errNoFailure = errors.New("no failure")

// TestBadCaller: an error that is no failure is a bug, and costs no slot.
func TestBadCaller(t *testing.T) {
	s := newStage(t, setup{gate: admission.Options{MaxInFlight: 1}}, newServer(func(context.Context, func()) (*mcp.Result, error) {
		return nil, errNoFailure
	}))
	defer s.idle()
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	_, _ = s.Call(t.Context(), post(listBody))
}
