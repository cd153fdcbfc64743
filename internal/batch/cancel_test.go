package batch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch"
	"fluentd-perf/internal/mcp"
)

// cancelRig is a rig whose server notes notifications apart from calls.
type cancelRig struct {
	*rig
	mu   sync.Mutex
	told []string // the bodies of notifications
}

func newCancelRig(answer func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error)) *cancelRig {
	r := new(cancelRig)
	r.rig = newRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if c.Lane != mcp.LaneNotification {
			return answer(ctx, c, n)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, string(c.Body))
		if want := cancelCall(string(c.Body)).Message; c.Message != want {
			panic(fmt.Sprintf("the spans of %s are %+v, want %+v", c.Body, c.Message, want))
		}
		return &mcp.Result{Status: http.StatusAccepted, Header: http.Header{"X-From": {"server"}}}, nil
	})
	return r
}

// flight returns the id of the n-th call that reached the server, from 0.
func (r *cancelRig) flight(n int) string {
	r.stage.mu.Lock()
	defer r.stage.mu.Unlock()
	return r.stage.ids[n]
}

// cancelSlowly answers after that long, for everybody.
func cancelSlowly(d time.Duration) func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
	return func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if err := after(ctx, d); err != nil {
			return nil, err
		}
		return shareable(c, fmt.Sprint(n)), nil
	}
}

// cancelBody is a notification that gives up the request with that id.
func cancelBody(id string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"enough"}}`, id)
}

// cancelCall is a legacy notification of the session s1 with that body.
func cancelCall(body string) *mcp.Call {
	c := &mcp.Call{
		Upstream: "test", Lane: mcp.LaneNotification, Body: []byte(body), Header: http.Header{"Mcp-Session-Id": {"s1"}}, Start: time.Now(),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

// waits makes a call that has to wait, and returns what it gets.
func (r *cancelRig) waits(c *mcp.Call) <-chan got {
	answer := make(chan got, 1)
	go func() { answer <- r.call(context.Background(), c) }()
	synctest.Wait()
	return answer
}

// cancels gives up the request with that id, and checks what the server is told: bodies of notifications.
func (r *cancelRig) cancels(tb testing.TB, c *mcp.Call, want ...string) {
	tb.Helper()
	before := len(r.told)
	g := r.call(context.Background(), c)
	synctest.Wait()
	if told := r.told[before:]; !slices.Equal(told, want) {
		tb.Errorf("after %s the server was told %q, want %q", c.Body, told, want)
	}
	if passed := g.header.Get("X-From") != ""; g.err != nil || g.status != http.StatusAccepted || g.body != "" || passed != (len(want) > 0) {
		tb.Errorf("%s got %+v", c.Body, g)
	}
}

// wantReleased checks that the call was let go by now.
func wantReleased(tb testing.TB, answer <-chan got, when time.Duration) {
	tb.Helper()
	select {
	case g := <-answer:
		if g.err != nil || g.status != http.StatusAccepted || g.body != "" || g.took != when {
			tb.Errorf("a cancelled call got %d %q, %v after %v, want 202 after %v", g.status, g.body, g.err, g.took, when)
		}
	default:
		tb.Error("a cancelled call waits on")
	}
}

// TestCancel: a cancelled call is let go with a 202, whether the flight's call was its own or another's. The others wait
// on, and the server hears of it only from the last one, by the id that it knows.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(cancelSlowly(5 * time.Second))
		leader, second, third, fourth := r.waits(list("0")), r.waits(list("1")), r.waits(list(`"2"`)), r.waits(list("3"))
		<-time.After(time.Second)
		r.cancels(t, cancelCall(cancelBody("1")))
		wantReleased(t, second, time.Second)
		r.cancels(t, cancelCall(cancelBody("0")))
		wantReleased(t, leader, time.Second)
		r.cancels(t, cancelCall(cancelBody(`"2"`)))
		wantReleased(t, third, time.Second)
		flight := r.flight(0)
		r.cancels(t, cancelCall(cancelBody("3")), cancelBody(flight))
		wantReleased(t, fourth, time.Second)
		r.Wait() // the flight has ended with its last waiter
		if n := r.stage.inside.Load(); n != 0 {
			t.Errorf("%d calls are under way for nobody", n)
		}
		if got := wantAnswers(t, []got{<-r.waits(list("0"))}, "3"); got != 0 {
			t.Error("the next call is not one of its own")
		}
	})
}

// TestCancelLeavesTheOthers: who stays gets the answer of the one call, whoever was cancelled before.
func TestCancelLeavesTheOthers(t *testing.T) {
	for name, gone := range map[string][]string{"the leader": {"0"}, "a follower": {"1"}, "all but one": {"0", "1", "2"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCancelRig(cancelSlowly(5 * time.Second))
				answers := map[string]<-chan got{}
				for _, id := range []string{"0", "1", "2", "3"} {
					answers[id] = r.waits(list(id))
				}
				for _, id := range gone {
					r.cancels(t, cancelCall(cancelBody(id)))
					wantReleased(t, answers[id], 0)
					delete(answers, id)
				}
				for _, answer := range answers {
					wantAnswers(t, []got{<-answer}, "1")
				}
				wantCalls(t, r.rig, 1)
				r.cancels(t, cancelCall(cancelBody("3")), cancelBody("3")) // too late: nobody waits under it
			})
		})
	}
}

// TestCancelNames: ids are compared as JSON-RPC means them, strings by what they say and apart from numbers.
func TestCancelNames(t *testing.T) {
	for _, tt := range []struct {
		id, other string
		same      bool
	}{
		{"1", "1", true}, {"-7", "-7", true}, {`"a"`, `"a"`, true}, {`"a"`, `"\u0061"`, true}, {`"\u0061\/b"`, `"a/b"`, true},
		{`"\ud83d\ude00"`, "\"\U0001f600\"", true}, {`"a\"b\\c\n"`, `"\u0061\u0022b\u005cc\u000a"`, true}, {`""`, `""`, true},
		{"1", `"1"`, false}, {`"1"`, "1", false}, {`"a"`, `"A"`, false}, {`"a"`, `"a "`, false}, {"1", "2", false}, {"1", "11", false},
		{"1", "1.0", true}, {"1.0", "1", true}, {"10", "1e1", true}, {"10e-1", "1", true}, {"0.5E+1", "5", true}, {"100", "1E+2", true},
		{"0", "-0", true}, {"0", "0.0e5", true}, {"0.010", "1e-2", true}, {"-1", "-1.0", true}, {"1e0000000000000000000000", "1", true},
		{"-1", "1", false}, {"1", "10", false}, {"10", "1", false}, {"1.5", "15", false}, {"1e1", "1e-1", false},
		{"9007199254740992", "9007199254740993", false}, {"9007199254740993", "9007199254740993.0", true},
		{"1e99999999999999999", "10e99999999999999998", true}, {"1e999999999999999999999", "10e999999999999999999998", false},
		{"1e100000000000000000", "1e100000000000000000", true}, {"1e100000000000000000", "10e99999999999999999", false},
		{`"\n"`, `"n"`, false}, {`"a"`, `"s1\n\"a"`, false},
	} {
		t.Run(tt.id+" "+tt.other, func(t *testing.T) {
			if mcp.SameID([]byte(tt.id), []byte(tt.other)) != tt.same {
				t.Error("as ids of answers they are compared in another way")
			}
			synctest.Test(t, func(t *testing.T) {
				r := newCancelRig(cancelSlowly(5 * time.Second))
				leader, follower := r.waits(list("99")), r.waits(list(tt.id))
				if !tt.same {
					r.cancels(t, cancelCall(cancelBody(tt.other)), cancelBody(tt.other))
					wantAnswers(t, []got{<-follower}, "1")
				} else {
					r.cancels(t, cancelCall(cancelBody(tt.other)))
					wantReleased(t, follower, 0)
				}
				wantAnswers(t, []got{<-leader}, "1")
			})
		})
	}
}

// TestCancelPasses: what names nobody who waits here goes to the server as it is.
func TestCancelPasses(t *testing.T) {
	in := func(session ...string) *mcp.Call {
		c := cancelCall(cancelBody("1"))
		c.Header = http.Header{"Mcp-Session-Id": session}
		return c
	}
	modern := in("s1")
	modern.Era = mcp.EraModern
	for name, c := range map[string]*mcp.Call{
		"another id": cancelCall(cancelBody("2")), "null": cancelCall(cancelBody("null")), "another session": in("s2"),
		"no session": in(), "an empty session": in(""), "two sessions": in("s1", "s1"), "modern": modern,
		"no id":          cancelCall(`{"jsonrpc":"2.0","method":"notifications/cancelled"}`),
		"an object":      cancelCall(cancelBody(`{"id":1}`)),
		"two ids":        cancelCall(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestId":1}}`),
		"another method": cancelCall(`{"jsonrpc":"2.0","method":"notifications/canceled","params":{"requestId":1}}`),
		"no JSON-RPC":    cancelCall(`{"jsonrpc":"2.0","method":"notifications/cancelled","Method":"x","params":{"requestId":1}}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCancelRig(cancelSlowly(5 * time.Second))
				leader, follower := r.waits(list("0")), r.waits(list("1"))
				r.cancels(t, c, string(c.Body))
				wantAnswers(t, []got{<-leader, <-follower}, "1")
				wantCalls(t, r.rig, 2) // the notification is one
			})
		})
	}
}

// TestCancelOfOthers: calls that nobody can cancel here are those without a legacy session, and those that go by
// themselves, whose id the server knows.
func TestCancelOfOthers(t *testing.T) {
	modern, bare, alone := list("1"), list("1"), list("1")
	modern.Era = mcp.EraModern
	bare.Header = http.Header{}
	alone.Flight = mcp.FlightKey{}
	for name, c := range map[string]*mcp.Call{"modern": modern, "no session": bare, "alone": alone} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCancelRig(cancelSlowly(5 * time.Second))
				answer := r.waits(c)
				r.cancels(t, cancelCall(cancelBody("1")), cancelBody("1"))
				wantAnswers(t, []got{<-answer}, "1")
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // a held key
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return checked(c, "mine"), after(ctx, time.Second)
		})
		<-r.waits(list("0"))
		answer := r.waits(list("1"))
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody("1"))
		wantAnswers(t, []got{<-answer}, "mine")
	})
}

// TestCancelOneIDTwice: of two calls of a session under one id the first can be cancelled, and the second is none the
// worse for it. In two sessions one id is two calls.
func TestCancelOneIDTwice(t *testing.T) {
	other := func(session string, key byte) *mcp.Call {
		c := list("1")
		c.Header, c.Flight = http.Header{"Mcp-Session-Id": {session}}, mcp.FlightKey{key}
		return c
	}
	for name, second := range map[string]*mcp.Call{
		"another flight": other("s1", 9), "the same flight": list("1"), "another session": other("s2", 9),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCancelRig(cancelSlowly(5 * time.Second))
				leader, one := r.waits(list("0")), r.waits(list("1"))
				two := r.waits(second)
				r.cancels(t, cancelCall(cancelBody("1")))
				wantReleased(t, one, 0)
				r.cancels(t, cancelCall(cancelBody("1")), cancelBody("1"))
				if g := <-two; g.err != nil || g.status != 200 {
					t.Errorf("the second got %+v", g)
				}
				wantAnswers(t, []got{<-leader}, "1")
				r.cancels(t, cancelCall(cancelBody("1")), cancelBody("1"))
			})
		})
	}
}

// TestCancelOldFlight: a follower of a flight over its age waits for two; cancelled, it leaves both, and the server is told
// of those for which it was the last one.
func TestCancelOldFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(cancelSlowly(time.Hour))
		leader, follower := r.waits(list("0")), r.waits(list("1"))
		<-time.After(maxAge + time.Second)
		wantCalls(t, r.rig, 2)
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody(r.flight(1)))
		wantReleased(t, follower, maxAge+time.Second)
		r.cancels(t, cancelCall(cancelBody("0")), cancelBody(r.flight(0)))
		wantReleased(t, leader, maxAge+time.Second)
		r.Wait()
	})
	synctest.Test(t, func(t *testing.T) { // both at once
		r := newCancelRig(cancelSlowly(time.Hour))
		cancel, leader := r.leader()
		follower := r.waits(list("1"))
		cancel(nil)
		<-leader
		<-time.After(maxAge + time.Second)
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody(r.flight(0)), cancelBody(r.flight(1)))
		wantReleased(t, follower, maxAge+time.Second)
		r.Wait()
	})
	synctest.Test(t, func(t *testing.T) { // others follow in the new flight
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			return cancelSlowly(map[bool]time.Duration{true: time.Hour, false: time.Minute}[n == 1])(ctx, c, n)
		})
		leader, first, second := r.waits(list("0")), r.waits(list("1")), r.waits(list("2"))
		<-time.After(maxAge + time.Second)
		r.cancels(t, cancelCall(cancelBody("1")))
		wantReleased(t, first, maxAge+time.Second)
		wantAnswers(t, []got{<-second}, "2")
		r.cancels(t, cancelCall(cancelBody("0")), cancelBody(r.flight(0)))
		wantReleased(t, leader, maxAge+time.Minute)
		r.Wait()
	})
}

// TestCancelAtLanding: a cancellation that comes with the answer lets the caller have one of the two, the others the
// answer, and ends what the answer holds once.
func TestCancelAtLanding(t *testing.T) {
	for _, give := range []func(ctx context.Context, c *mcp.Call, closed *atomic.Int64) *mcp.Result{
		func(_ context.Context, c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			res := shareable(c, "ok")
			res.Release = func() { closed.Add(1) }
			return res
		},
		func(ctx context.Context, c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			return stream(ctx, c, fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", c.ID()), context.Canceled, closed)
		},
	} {
		outcomes := map[string]int{}
		for id := range 3 {
			for range 100 {
				synctest.Test(t, func(t *testing.T) { testCancelAtLanding(t, fmt.Sprint(id), give, outcomes) })
			}
		}
		if outcomes["202"] == 0 {
			t.Errorf("no cancellation came in time: %v", outcomes)
		}
	}
}

func testCancelAtLanding(t *testing.T, id string, give func(context.Context, *mcp.Call, *atomic.Int64) *mcp.Result, outcomes map[string]int) {
	var closed, made atomic.Int64
	r := newCancelRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
		if err := after(ctx, time.Second); err != nil {
			return nil, err
		}
		made.Add(1)
		return give(ctx, c, &closed), nil
	})
	answers := []<-chan got{r.waits(list("0")), r.waits(list("1")), r.waits(list("2"))}
	<-time.After(time.Second)
	r.call(context.Background(), cancelCall(cancelBody(id)))
	for i, answer := range answers {
		switch g := <-answer; {
		case g.status == http.StatusAccepted && fmt.Sprint(i) == id && g.body == "":
			outcomes["202"]++
		case g.status == http.StatusOK:
			outcomes["200"]++
		default:
			t.Fatalf("the call %d got %+v", i, g)
		}
	}
	r.Wait()
	if closed.Load() != made.Load() {
		t.Errorf("%d answers were closed %d times", made.Load(), closed.Load())
	}
}

// TestCancelStorm lets calls of a few keys come, be cancelled and grow old at once under the race detector, in real time.
// Whoever was not cancelled gets an answer; whoever was gets one or is let go; and a flight of which the server was told
// has answered nobody.
func TestCancelStorm(t *testing.T) {
	var mu sync.Mutex
	told, used := map[string]int{}, map[string]bool{}
	g := batch.New(batch.Options{Upstream: "test", MaxAge: 200 * time.Microsecond, Buffers: new(mcp.BufferPool), Next: mcp.CallerFunc(
		func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if c.Lane == mcp.LaneNotification {
				mu.Lock()
				defer mu.Unlock()
				told[string(c.Message.RequestID.Of(c.Body))]++
				return &mcp.Result{Status: http.StatusAccepted}, nil
			}
			if err := after(ctx, time.Duration(len(c.ID())+int(c.ID()[len(c.ID())-2]))*10*time.Microsecond); err != nil {
				return nil, err
			}
			return shareable(c, string(c.ID())), nil
		})})
	r := &rig{Flights: g}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf(`"%d-%d"`, worker, i)
				c := list(id)
				c.Flight = mcp.FlightKey{byte(1 + i%3)}
				cancelled := (worker+i)%3 == 0
				var canceller sync.WaitGroup
				if cancelled {
					canceller.Go(func() {
						<-time.After(time.Duration(i%40) * 20 * time.Microsecond)
						r.call(context.Background(), cancelCall(cancelBody(id)))
					})
				}
				answer := r.call(context.Background(), c)
				canceller.Wait()
				if answer.err == nil && answer.status == http.StatusOK {
					mu.Lock()
					used[textIn(answer.body)] = true
					mu.Unlock()
				} else if !cancelled || answer.err != nil || answer.status != http.StatusAccepted {
					t.Errorf("the call %s, cancelled %v, got %+v", id, cancelled, answer)
				}
			}
		})
	}
	wg.Wait()
	g.Wait()
	for id, n := range told {
		if used[id] {
			t.Errorf("%s answered somebody, and the server was told %d times to give it up", id, n)
		}
	}
}

// textIn returns the text of an answer that shareable made, as JSON.
func textIn(body string) string {
	res := struct{ Result struct{ Text string } }{}
	if err := json.Unmarshal([]byte(body), &res); err != nil {
		panic(err)
	}
	return res.Result.Text
}
