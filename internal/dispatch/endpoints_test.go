package dispatch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// TestLeastInFlight: calls go where the least is under way, whatever lanes they are.
func TestLeastInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newServer(hangs), newServer(hangs), newServer(hangs)
		s := newStage(t, setup{}, a, b, c)
		ctx, cancel := context.WithCancel(t.Context())
		for n := range 30 {
			go s.do(ctx, post(callBody))
			synctest.Wait()
			for i, e := range s.Status().Endpoints {
				if e.InFlight > n/3+1 {
					t.Fatalf("%d of %d are at endpoint %d", e.InFlight, n+1, i)
				}
			}
		}
		cancel()
		synctest.Wait()
		s.idle()
	})
}

// TestTies: equal endpoints get about as much each.
func TestTies(t *testing.T) {
	a, b := newServer(answers), newServer(answers)
	s := newStage(t, setup{}, a, b)
	for range 1000 {
		s.do(t.Context(), post(callBody))
	}
	n, _ := a.sent()
	m, _ := b.sent()
	if min(n, m) < 300 || n+m != 1000 {
		t.Errorf("%d and %d", n, m)
	}
}

// TestResentElsewhere: what is sent again goes to an endpoint that has not had it, and what timed out while connecting
// there only.
func TestResentElsewhere(t *testing.T) {
	for _, fault := range []play{fails(refused), fails(noDial), says(503), says(503, "Retry-After", "60")} {
		synctest.Test(t, func(t *testing.T) {
			for range 20 {
				bad, good := newServer(fault), newServer(answers)
				s := newStage(t, setup{noBreaker: true}, bad, good)
				if status, f := s.do(t.Context(), post(listBody)); status != 200 {
					t.Errorf("got %d, %v", status, f)
				}
				if n, _ := bad.sent(); n > 1 {
					t.Errorf("the bad one had it %d times", n)
				}
			}
		})
	}
}

// TestEjected: a dead endpoint costs a call nothing that the other can take, and is used again when it works.
func TestEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := newServer(fails(refused)), newServer(answers)
		s := newStage(t, setup{}, bad, good)
		for range 3000 {
			if status, f := s.do(t.Context(), post(callBody)); status != 200 {
				t.Fatalf("got %v", f)
			}
			<-time.After(10 * time.Millisecond)
		}
		if n, _ := bad.sent(); n > 10 {
			t.Errorf("the dead one had %d calls in 30 s", n)
		}
		bad.mu.Lock()
		bad.plays = []play{answers}
		before := len(bad.calls)
		bad.mu.Unlock()
		for range 3100 {
			s.do(t.Context(), post(callBody))
			<-time.After(10 * time.Millisecond)
		}
		if n, _ := bad.sent(); n == before {
			t.Error("the one that works again was not used in 31 s")
		}
		s.idle()
	})
}

// TestHalfBackOff: of five dead endpoints two back off for long, the others are tried every second.
func TestHalfBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*server
		for range 5 {
			servers = append(servers, newServer(fails(refused)))
		}
		s := newStage(t, setup{}, servers...)
		for range 600 {
			s.do(t.Context(), post(callBody))
			<-time.After(100 * time.Millisecond)
		}
		often, seldom := 0, 0
		for _, server := range servers {
			switch n, _ := server.sent(); {
			case n >= 40:
				often++
			case n <= 12:
				seldom++
			}
		}
		if often != 3 || seldom != 2 {
			t.Errorf("%d were tried each second and %d not", often, seldom)
		}
	})
}

// TestHungProbes: that half holds as well where the calls that try an endpoint hang, and nobody reports.
func TestHungProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newServer(fails(refused)), newServer(fails(refused))
		s := newStage(t, setup{}, a, b)
		for range 10 {
			s.do(t.Context(), post(callBody))
		}
		a.set(hangs)
		b.set(hangs)
		ctx, cancel := context.WithCancel(t.Context())
		for range 3000 { // five minutes: a probe fails after ten seconds
			go s.do(ctx, post(callBody))
			<-time.After(100 * time.Millisecond)
		}
		n, _ := a.sent()
		m, _ := b.sent()
		if max(n, m) < 25 || min(n, m) > 15 {
			t.Errorf("they were tried %d and %d times", n, m)
		}
		cancel()
		synctest.Wait()
		s.idle()
	})
}

// TestRefusedByAll: the wait that a caller is told is the shortest of all.
func TestRefusedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, setup{}, newServer(fails(refused)), newServer(fails(refused)))
		for range 10 {
			s.do(t.Context(), post(callBody))
		}
		_, f := s.do(t.Context(), post(listBody))
		if f == nil || f.Reason != mcp.ReasonBreakerOpen || f.RetryAfter > time.Second || f.RetryAfter < 100*time.Millisecond {
			t.Errorf("got %+v", f)
		}
		if f != nil && !errors.As(f.Cause, new(*mcp.Failure)) {
			t.Errorf("the cause is %v", f.Cause)
		}
	})
}

// TestSessions: the endpoint's index is put to a session's id, and all that is of the session goes there and nowhere else.
func TestSessions(t *testing.T) {
	mint := says(http.StatusOK, "Mcp-Session-Id", "s-é~1")
	a, b := newServer(mint), newServer(mint)
	s := newStage(t, setup{}, a, b)
	init := func() string {
		res, err := s.Call(t.Context(), post(initBody))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		return res.Header.Get("Mcp-Session-Id")
	}
	seen := map[string]bool{}
	for len(seen) < 2 {
		seen[init()] = true
	}
	if !seen["s-é~1~0"] || !seen["s-é~1~1"] {
		t.Fatalf("the ids are %v", seen)
	}
	lanes := func(id string) []*mcp.Call {
		h := []string{"Mcp-Session-Id", id}
		return []*mcp.Call{
			post(listBody, h...), post(callBody, h...), of(mcp.LaneNotification, progressBody, h...),
			of(mcp.LaneNotification, cancelledBody, h...), of(mcp.LaneResponse, responseBody, h...),
			of(mcp.LaneStream, "", h...), of(mcp.LaneEnd, "", h...),
		}
	}
	cases := []struct {
		id, want string
		at       *server
	}{
		{"s-é~1~0", "s-é~1", a}, {"s-é~1~1", "s-é~1", b}, {"s~1", "s", b},
		{"plain", "plain", a}, {"s~2", "s~2", a}, {"s~01", "s~01", a}, {"s~-1", "s~-1", a}, {"~1", "~1", a}, {"s~", "s~", a},
	}
	for _, c := range cases {
		for _, call := range lanes(c.id) {
			for range 5 {
				before, _ := c.at.sent()
				res, err := s.Call(t.Context(), call)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Close()
				n, _ := c.at.sent()
				if n != before+1 {
					t.Fatalf("lane %d of %q went elsewhere", call.Lane, c.id)
				}
				if got := c.at.calls[n-1].Header.Get("Mcp-Session-Id"); got != c.want {
					t.Errorf("%q went up as %q", c.id, got)
				}
				if call.Header.Get("Mcp-Session-Id") != c.id {
					t.Fatal("the agent's header was changed")
				}
			}
		}
	}
	s.idle()
}

// TestSessionStays: a session's call is refused while the circuit of its endpoint is open, and sent again only there.
func TestSessionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newServer(answers), newServer(fails(unreachable))
		s := newStage(t, setup{}, a, b)
		bound := post(listBody, "Mcp-Session-Id", "x~1")
		s.do(t.Context(), bound)
		if n, _ := b.sent(); n != 3 {
			t.Errorf("sent %d times", n)
		}
		s.do(t.Context(), bound)
		s.do(t.Context(), bound)
		if _, f := s.do(t.Context(), bound); f == nil || f.Reason != mcp.ReasonBreakerOpen {
			t.Errorf("got %v", f)
		}
		if n, _ := a.sent(); n != 0 {
			t.Error("it went to another endpoint")
		}
		if status, f := s.do(t.Context(), post(listBody)); status != 200 {
			t.Errorf("a call of no session got %v", f)
		}
	})
}

// TestPlain: an upstream that is no MCP has no sessions.
func TestPlain(t *testing.T) {
	a, b := newServer(says(200, "Mcp-Session-Id", "z")), newServer(says(200, "Mcp-Session-Id", "z"))
	s := newStage(t, setup{}, a, b)
	for range 50 {
		c := post(listBody, "Mcp-Session-Id", "x~1")
		c.Era = mcp.EraPlain
		res, err := s.Call(t.Context(), c)
		if err != nil || res.Header.Get("Mcp-Session-Id") != "z" {
			t.Fatalf("got %v, %v", res, err)
		}
		_ = res.Close()
	}
	if n, _ := a.sent(); n == 0 || n == 50 {
		t.Errorf("%d of 50 went to the first", n)
	}
}

// warm makes the stage know how long a method takes: 10 ms.
func (s *stage) warm(n int) {
	for i := range n {
		p := after(10*time.Millisecond, answers)
		if i >= 20 {
			p = after(9*time.Millisecond, answers)
		}
		for _, server := range s.servers {
			server.set(p)
		}
		s.do(s.tb.Context(), post(readBody))
	}
}

// TestHedge: after the 95th percentile the call goes to a second endpoint, the first good answer counts, and the other call
// is cancelled and counts for no breaker.
func TestHedge(t *testing.T) {
	quick := after(10*time.Millisecond, answers)
	cases := []struct {
		name          string
		first, second play
		warm          int
		call          *mcp.Call
		open, spent   bool
		took          time.Duration
		hedged        bool
		status        int
	}{
		{"slow", hangs, quick, 40, post(readBody), false, false, 20 * time.Millisecond, true, 200},
		{"the first is faster after all", after(15*time.Millisecond, answers), hangs, 40, post(readBody), false, false, 15 * time.Millisecond, true, 200},
		{"the second answers badly", after(30*time.Millisecond, answers), says(500), 40, post(readBody), false, false, 30 * time.Millisecond, true, 200},
		{"the first answers badly", after(12*time.Millisecond, says(500)), quick, 40, post(readBody), false, false, 20 * time.Millisecond, true, 200},
		{"both answer badly", after(30*time.Millisecond, says(500)), after(15*time.Millisecond, says(501)), 40, post(readBody), false, false, 30 * time.Millisecond, true, 500},
		{"a stream", streams(response.after(time.Hour)), streams(response.after(5 * time.Millisecond)), 40, post(readBody), false, false, 15 * time.Millisecond, true, 200},
		{"in time", after(9*time.Millisecond, answers), hangs, 40, post(readBody), false, false, 9 * time.Millisecond, false, 200},
		{"not known yet", after(time.Second, answers), quick, 19, post(readBody), false, false, time.Second, false, 200},
		{"not a read", after(time.Second, answers), quick, 40, post(callBody), false, false, time.Second, false, 200},
		{"another method", after(time.Second, answers), quick, 40, post(listBody), false, false, time.Second, false, 200},
		{"a session", after(time.Second, answers), quick, 40, post(readBody, "Mcp-Session-Id", "x~0"), false, false, time.Second, false, 200},
		{"the other one is open", after(time.Second, answers), quick, 40, post(readBody), true, false, time.Second, false, 200},
		{"no budget", after(time.Second, answers), quick, 40, post(readBody), false, true, time.Second, false, 200},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := newServer(quick), newServer(quick)
				o := setup{gate: admission.Options{MaxInFlight: 5}}
				o.Retry = dispatch.RetryOptions{Max: 2, Budget: 0, Hedge: true}
				s := newStage(t, o, a, b)
				s.warm(c.warm)
				// The first one is made the busier of the two, so that the second play is the second's: a bound call hangs at b.
				blocker, unblock := context.WithCancel(t.Context())
				b.plays = []play{hangs}
				go s.do(blocker, post(callBody, "Mcp-Session-Id", "x~1"))
				synctest.Wait()
				if c.spent {
					spend(s, a)
				}
				a.mu.Lock()
				a.plays = []play{c.first}
				a.mu.Unlock()
				b.mu.Lock()
				b.plays = []play{c.second}
				b.mu.Unlock()
				if c.open {
					fall(s.breakers[1])
				}
				before, _ := b.sent()
				begun := time.Now()
				status, f := s.do(t.Context(), c.call)
				if status != c.status || time.Since(begun) != c.took {
					t.Errorf("got %d, %v after %v", status, f, time.Since(begun))
				}
				if n, _ := b.sent(); (n == before+1) != c.hedged || n > before+1 {
					t.Errorf("the second endpoint had %d calls", n-before)
				}
				if c.hedged != (s.Status().Hedges == 1) {
					t.Errorf("%d hedges counted", s.Status().Hedges)
				}
				if !c.open && (s.breakers[0].State() != breaker.Closed || s.breakers[1].State() != breaker.Closed) {
					t.Error("a breaker opened")
				}
				unblock()
				synctest.Wait()
				s.idle()
			})
		})
	}
}

// TestHedgeIsNoProbe: a hedge goes to no endpoint whose circuit is open, though a probe of it is due.
func TestHedgeIsNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newServer(answers), newServer(answers)
		o := setup{}
		o.Retry = dispatch.RetryOptions{Max: 2, Budget: 1, Hedge: true}
		s := newStage(t, o, a, b)
		s.warm(40)
		fall(s.breakers[1])
		<-time.After(time.Second - 5*time.Millisecond) // the probe is due before the hedge
		a.set(after(time.Second, answers))
		before, _ := b.sent()
		if status, f := s.do(t.Context(), post(readBody)); status != 200 {
			t.Errorf("got %v", f)
		}
		if n, _ := b.sent(); n != before || s.Status().Hedges != 0 {
			t.Errorf("%d calls went to an endpoint whose circuit is open, %d hedges", n-before, s.Status().Hedges)
		}
		if got := s.breakers[1].State(); got != breaker.HalfOpen {
			t.Errorf("its breaker is %s: no probe was due", got)
		}
		b.set(answers)
		for range 10 { // the place of the probe is free
			s.do(t.Context(), post(listBody))
		}
		if got := s.breakers[1].State(); got != breaker.Closed {
			t.Errorf("its breaker is %s", got)
		}
		s.idle()
	})
}

// spend takes all of the budget.
func spend(s *stage, at *server) {
	bound := post(callBody, "Mcp-Session-Id", "x~0")
	for range 3 {
		at.set(fails(unreachable))
		s.do(s.tb.Context(), bound)
		at.set(answers)
		<-time.After(2 * time.Second)
		s.do(s.tb.Context(), bound)
	}
}

// fall opens a breaker.
func fall(c *breaker.Breaker) {
	for range 2 {
		if ticket, _, ok := c.Allow(false); ok {
			c.Report(ticket, syscall.ECONNREFUSED)
		}
	}
}

// TestHedgePanics: a panic of a call beside another is the caller's, and costs nothing else.
func TestHedgePanics(t *testing.T) {
	boom := func(context.Context, func()) (*mcp.Result, error) { panic("boom") }
	for _, which := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			a, b := newServer(after(10*time.Millisecond, answers)), newServer(after(10*time.Millisecond, answers))
			o := setup{}
			o.Retry = dispatch.RetryOptions{Hedge: true}
			s := newStage(t, o, a, b)
			s.warm(40)
			late := func(ctx context.Context, work func()) (*mcp.Result, error) {
				<-time.After(15 * time.Millisecond)
				return boom(ctx, work)
			}
			a.plays, b.plays = []play{late}, []play{late}
			if which == 1 {
				a.plays, b.plays = []play{hangs}, []play{hangs}
				time.AfterFunc(5*time.Millisecond, func() { a.set(boom); b.set(boom) })
			}
			func() {
				defer func() {
					if recover() != "boom" {
						t.Error("no panic")
					}
				}()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				s.do(ctx, post(readBody))
			}()
			s.idle()
		})
	}
}

func (s *server) set(p ...play) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plays = p
}

// TestGivenBack: after thousands of calls with every outcome, agents that leave at any moment and panics, no slot, place or
// permit is held, no answer is open, and no tools/call ran twice.
func TestGivenBack(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			boom := func(context.Context, func()) (*mcp.Result, error) { panic("boom") }
			some := []play{
				answers, answers, answers, answers, streams(progress, response), streams(priming, ends(&cutOff)), streams(),
				streams(progress, ends(&cutOff)), raws(200, &cutOff), raws(503, &cutOff), says(503), says(500), says(404),
				says(429, "Retry-After", "1"), fails(refused), fails(brokeOff), working(fails(brokeOff)), fails(noDial),
				fails(timeoutOf(true)), fails(timeoutOf(false)), fails(rubbish), hangs, boom, after(time.Second, answers),
				streams(comment.after(time.Second), progress.after(time.Second), response.after(time.Second)),
				func(ctx context.Context, work func()) (*mcp.Result, error) {
					return &mcp.Result{Status: 200, Header: header.List{}, Events: panics{}}, nil
				},
			}
			var mu sync.Mutex
			pick := func(ctx context.Context, work func()) (*mcp.Result, error) {
				mu.Lock()
				p := some[rng.IntN(len(some))]
				mu.Unlock()
				return p(ctx, work)
			}
			a, b, c := newServer(pick), newServer(pick), newServer(pick)
			o := setup{gate: admission.Options{MaxInFlight: 8, Queue: 20, QueueWait: time.Second}}
			o.Retry = dispatch.RetryOptions{Max: 2, Budget: 0.2, Hedge: true}
			o.SlowCall = 1500 * time.Millisecond
			s := newStage(t, o, a, b, c)
			calls := []*mcp.Call{
				post(listBody), post(callBody), post(readBody), post(readBody), post(readBody, "Mcp-Session-Id", "x~2"),
				of(mcp.LaneNotification, progressBody), of(mcp.LaneResponse, responseBody), of(mcp.LaneEnd, ""),
				of(mcp.LaneStream, ""), of(mcp.LaneBatch, "["+listBody+"]"), of(mcp.LaneMessage, callBody),
			}
			var wg sync.WaitGroup
			for range 3000 {
				mu.Lock()
				call := calls[rng.IntN(len(calls))]
				stays := time.Duration(rng.Int64N(int64(4 * time.Second)))
				pause := time.Duration(rng.Int64N(int64(20 * time.Millisecond)))
				early := rng.IntN(4) == 0
				mu.Unlock()
				wg.Go(func() {
					defer func() {
						if v := recover(); v != nil && v != "boom" {
							panic(v)
						}
					}()
					ctx, cancel := context.WithTimeout(t.Context(), stays)
					defer cancel()
					res, err := s.Call(ctx, call)
					if err != nil {
						asFailure(t, err)
						return
					}
					defer res.Close()
					if !early {
						read(t, res)
					}
				})
				<-time.After(pause)
			}
			wg.Wait()
			s.idle()
			<-time.After(time.Minute)
			for _, server := range s.servers {
				server.set(answers)
			}
			for range 10 { // whatever is open is probed, and closes
				for i := range 3 {
					s.do(t.Context(), post(callBody, "Mcp-Session-Id", "x~"+string(rune('0'+i))))
				}
				<-time.After(31 * time.Second)
			}
			for i, e := range s.Status().Endpoints {
				if e.Breaker != breaker.Closed {
					t.Errorf("endpoint %d is %s", i, e.Breaker)
				}
			}
		})
	}
}

// panics is a stream that panics.
type panics struct{}

func (panics) Next() (mcp.Event, error) { panic("boom") }
func (panics) Close() error             { return nil }

// TestOutrunIsNotGivenUp: the slower of two calls ends with a failure as its cause, and not as if its agent had left.
func TestOutrunIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		a := newServer(answers)
		b := newServer(answers)
		o := setup{}
		o.Retry = dispatch.RetryOptions{Max: 2, Budget: 1, Hedge: true}
		s := newStage(t, o, a, b)
		s.warm(40)
		slow := func(ctx context.Context, work func()) (*mcp.Result, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown}
		}
		blocker, unblock := context.WithCancel(t.Context())
		b.set(hangs)
		go s.do(blocker, post(callBody, "Mcp-Session-Id", "x~1"))
		synctest.Wait()
		a.set(slow)
		b.set(answers)
		if status, f := s.do(t.Context(), post(readBody)); status != 200 {
			t.Fatal(f)
		}
		if f, ok := cause.(*mcp.Failure); !ok || f.Reason != mcp.ReasonCanceled {
			t.Errorf("the cause is %v", cause)
		}
		unblock()
	})
}
