package cache_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// cancelRig is a flightRig whose server notes notifications apart from calls.
type cancelRig struct {
	*flightRig
	mu   sync.Mutex
	told []string // the bodies of notifications
}

func newCancelRig(answer func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error)) *cancelRig {
	r := new(cancelRig)
	r.flightRig = flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if c.Lane != mcp.LaneNotification {
			return answer(ctx, c, n)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, string(c.Body))
		if want := cancelCall(string(c.Body)).Message; c.Message != want {
			panic(fmt.Sprintf("the spans of %s are %+v, want %+v", c.Body, c.Message, want))
		}
		return &mcp.Result{Status: http.StatusAccepted, Header: header.Of(http.Header{"X-From": {"server"}})}, nil
	})
	return r
}

// cancelSlowly answers after that long, for everybody.
func cancelSlowly(d time.Duration) func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
	return func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if err := flightAfter(ctx, d); err != nil {
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
		Upstream: "test", Lane: mcp.LaneNotification, Body: []byte(body), Header: header.Of(http.Header{"Mcp-Session-Id": {"s1"}}), Start: time.Now(),
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

// TestCancelFollower: a follower that is cancelled is let go with a 202, alone, and the server is told nothing of it: it never
// saw that id.
func TestCancelFollower(t *testing.T) {
	for name, call := range cancelCalls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCancelRig(cancelSlowly(5 * time.Second))
				leader, second, third := r.waits(call("0")), r.waits(call("1")), r.waits(call(`"2"`))
				<-time.After(time.Second)
				r.cancels(t, cancelOf(call, "1"))
				wantReleased(t, second, time.Second)
				r.cancels(t, cancelOf(call, `"2"`))
				wantReleased(t, third, time.Second)
				r.cancels(t, cancelOf(call, `"2"`), cancelBody(`"2"`)) // nobody waits under it any more
				wantAnswers(t, []got{<-leader}, "1")
				wantCalls(t, r.flightRig, 2)
			})
		})
	}
}

// TestCancelLeader: the cancellation of a leader goes on as it is, and before it does the followers go by themselves. Who
// comes later begins anew. What the server says to the leader is the leader's.
func TestCancelLeader(t *testing.T) {
	for name, call := range cancelCalls {
		for _, answers := range []bool{true, false} { // the server may or may not
			t.Run(fmt.Sprint(name, answers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newCancelRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
						if n == 1 && !answers {
							return nil, flightAfter(ctx, time.Hour)
						}
						return cancelSlowly(5*time.Second)(ctx, c, n)
					})
					cancel, leader := r.leads(call("0"))
					followers := []<-chan got{r.waits(call("1")), r.waits(call("2")), r.waits(call("3"))}
					<-time.After(time.Second)
					r.cancels(t, cancelOf(call, "0"), cancelBody("0"))
					wantCalls(t, r.flightRig, 1+3+1)
					late := r.waits(call("4"))
					for _, answer := range followers {
						if g := <-answer; g.err != nil || g.collapsed || g.took != 6*time.Second {
							t.Errorf("a follower got %+v", g)
						}
					}
					if g := <-late; g.err != nil || g.collapsed {
						t.Errorf("who came later got %+v", g)
					}
					if !answers {
						cancel(nil)
						wantFailure(t, (<-leader).err, 0, mcp.ReasonCanceled)
					} else {
						wantAnswers(t, []got{<-leader}, "1")
					}
					r.Wait()
				})
			})
		}
	}
}

// TestCancelLeaderThatLeft: where the agent has closed its POST before it cancels, the followers go all the same.
func TestCancelLeaderThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n == 1 {
				return nil, flightAfter(ctx, time.Hour)
			}
			return cancelSlowly(time.Second)(ctx, c, n)
		})
		cancel, leader := r.leads(list("0"))
		follower := r.waits(list("1"))
		cancel(nil)
		synctest.Wait()
		r.cancels(t, cancelCall(cancelBody("0")), cancelBody("0"))
		if g := <-follower; g.err != nil || g.took != time.Second || g.collapsed {
			t.Errorf("the follower got %+v", g)
		}
		wantFailure(t, (<-leader).err, 0, mcp.ReasonCanceled) // the last one out has ended the call
		r.Wait()
	})
}

// cancelCalls make equal calls of one agent, in a session or without.
var cancelCalls = map[string]func(id string) *mcp.Call{
	"in a session": list,
	"without one": func(id string) *mcp.Call {
		c := list(id)
		setHeader(c, header.Of(http.Header{"Authorization": {"a"}}))
		return c
	},
}

// cancelOf is the cancellation of such a call by the agent that made it.
func cancelOf(call func(id string) *mcp.Call, id string) *mcp.Call {
	c := cancelCall(cancelBody(id))
	c.Header = call(id).Header
	return c
}

// leads makes a call that has to wait, and returns what ends its caller's context as well.
func (r *cancelRig) leads(c *mcp.Call) (cancel context.CancelCauseFunc, answer <-chan got) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan got, 1)
	go func() { ch <- r.call(ctx, c) }()
	synctest.Wait()
	return cancel, ch
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
	in := func(sessionID ...string) *mcp.Call {
		c := cancelCall(cancelBody("1"))
		setHeader(c, header.Of(http.Header{"Mcp-Session-Id": sessionID}))
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
				wantCalls(t, r.flightRig, 2) // the notification is one
			})
		})
	}
}

// TestCancelOfOthers: calls that nobody can cancel here are modern ones and those that go by themselves, whose id the server
// knows.
func TestCancelOfOthers(t *testing.T) {
	modern, alone := list("1"), list("1")
	modern.Era = mcp.EraModern
	setKey(alone, flightKey{})
	for name, c := range map[string]*mcp.Call{"modern": modern, "alone": alone} {
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
			return checked(c, "mine"), flightAfter(ctx, time.Second)
		})
		<-r.waits(list("0"))
		answer := r.waits(list("1"))
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody("1"))
		wantAnswers(t, []got{<-answer}, "mine")
	})
}

// TestCancelOneIDTwice: calls of two partitions or sessions under one id are two. Where two agents are one to the server, a
// cancellation that may be of either releases neither, and goes on.
func TestCancelOneIDTwice(t *testing.T) {
	as := func(name, value string) *mcp.Call {
		c := list("1")
		setHeader(c, header.Of(http.Header{name: {value}}))
		return c
	}
	for name, tt := range map[string]struct {
		one, two *mcp.Call
		same     bool
	}{
		"two sessions":        {as("Mcp-Session-Id", "s1"), as("Mcp-Session-Id", "s2"), false},
		"two credentials":     {as("Authorization", "a"), as("Authorization", "b"), false},
		"a session, and none": {as("Mcp-Session-Id", "s1"), as("Authorization", "a"), false},
		"one credential":      {as("Authorization", "a"), as("Authorization", "a"), true},
		"nobody":              {as("Accept", "*"), as("Accept", "*"), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCancelRig(cancelSlowly(5 * time.Second))
				leader, one, two := r.waits(list("0")), r.waits(tt.one), r.waits(tt.two)
				c := cancelCall(cancelBody("1"))
				setHeader(c, tt.one.Header)
				if tt.same {
					r.cancels(t, c, cancelBody("1"))
					wantAnswers(t, []got{<-one}, "1")
				} else {
					r.cancels(t, c)
					wantReleased(t, one, 0)
				}
				wantAnswers(t, []got{<-leader, <-two}, "1")
			})
		})
	}
}

// TestCancelLoose: a cancellation that is not all as it should be is never answered by the daemon; that the followers of
// whom it names go by themselves harms nobody.
func TestCancelLoose(t *testing.T) {
	untie := func(id string) *mcp.Call {
		return cancelCall(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"\ud83d"}}`)
	}
	if !untie("0").Message.Loose {
		t.Fatal("it is not loose")
	}
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(cancelSlowly(5 * time.Second))
		leader, follower := r.waits(list("0")), r.waits(list("1"))
		r.cancels(t, untie("1"), string(untie("1").Body))
		<-time.After(time.Second)
		r.cancels(t, untie("0"), string(untie("0").Body))
		if g := <-follower; g.took != 6*time.Second || g.collapsed {
			t.Errorf("the follower got %+v", g)
		}
		wantAnswers(t, []got{<-leader}, "1")
	})
}

// TestCancelOldFlight: a follower of a flight over its age waits for two. One that leads the second is the server's to end;
// one that follows leaves both.
func TestCancelOldFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			return cancelSlowly(map[bool]time.Duration{true: time.Hour, false: time.Minute}[n == 1])(ctx, c, n)
		})
		cancel, leader := r.leads(list("0"))
		first, second := r.waits(list("1")), r.waits(list("2"))
		<-time.After(maxAge + time.Second)
		synctest.Wait()
		wantCalls(t, r.flightRig, 2)
		leads, follows, own, other := "1", "2", first, second
		if r.stage.ids[1] == "2" {
			leads, follows, own, other = follows, leads, other, own
		}
		third := r.waits(list("3"))
		r.cancels(t, cancelCall(cancelBody(follows)))
		wantReleased(t, other, maxAge+time.Second)
		r.cancels(t, cancelCall(cancelBody(leads)), cancelBody(leads))
		if g := <-third; g.err != nil || g.collapsed || g.took != time.Minute {
			t.Errorf("who followed in the second flight got %+v", g)
		}
		wantAnswers(t, []got{<-own}, "2")
		cancel(nil)
		<-leader
		r.Wait()
	})
}

// TestCancelAtAnswer: a cancellation that comes with the answer lets a follower have one of the two, the others the answer,
// and ends what the answer holds once.
func TestCancelAtAnswer(t *testing.T) {
	for _, give := range []func(ctx context.Context, c *mcp.Call, closed *atomic.Int64) *mcp.Result{
		func(_ context.Context, c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			res := shareable(c, "ok")
			res.Release = func() { closed.Add(1) }
			return res
		},
		func(ctx context.Context, c *mcp.Call, closed *atomic.Int64) *mcp.Result {
			return stream(ctx, fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", c.ID()), context.Canceled, closed)
		},
	} {
		outcomes := map[string]int{}
		for id := range 3 {
			for range 100 {
				synctest.Test(t, func(t *testing.T) { testCancelAtAnswer(t, fmt.Sprint(id), give, outcomes) })
			}
		}
		if outcomes["202"] == 0 {
			t.Errorf("no cancellation came in time: %v", outcomes)
		}
	}
}

func testCancelAtAnswer(t *testing.T, id string, give func(context.Context, *mcp.Call, *atomic.Int64) *mcp.Result, outcomes map[string]int) {
	var closed, sessionID atomic.Int64
	r := newCancelRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
		if err := flightAfter(ctx, time.Second); err != nil {
			return nil, err
		}
		sessionID.Add(1)
		return give(ctx, c, &closed), nil
	})
	answers := []<-chan got{r.waits(list("0")), r.waits(list("1")), r.waits(list("2"))}
	<-time.After(time.Second)
	r.call(context.Background(), cancelCall(cancelBody(id)))
	for i, answer := range answers {
		switch g := <-answer; {
		case g.status == http.StatusAccepted && fmt.Sprint(i) == id && i > 0 && g.body == "":
			outcomes["202"]++
		case g.status == http.StatusOK:
			outcomes["200"]++
		default:
			t.Fatalf("the call %d got %+v", i, g)
		}
	}
	r.Wait()
	if closed.Load() != sessionID.Load() {
		t.Errorf("%d answers were closed %d times", sessionID.Load(), closed.Load())
	}
}

// TestCancelStorm lets calls of a few keys come, be cancelled and grow old at once under the race detector, in real time.
// Whoever was not cancelled gets an answer; whoever was gets one, or is let go if the server was not told; and nothing is
// left under way.
func TestCancelStorm(t *testing.T) {
	var mu sync.Mutex
	told := map[string]bool{}
	g := cache.NewFlights(cache.FlightsOptions{MaxAge: 200 * time.Microsecond, Buffers: new(mcp.BufferPool), Metrics: cache.NewMetrics(nil), Next: mcp.CallerFunc(
		func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if c.Lane == mcp.LaneNotification {
				mu.Lock()
				defer mu.Unlock()
				told[string(c.Message.RequestID.Of(c.Body))] = true
				return &mcp.Result{Status: http.StatusAccepted, Header: header.Of(http.Header{"X-From": {"server"}})}, nil
			}
			if err := flightAfter(ctx, time.Duration(len(c.ID())+int(c.ID()[len(c.ID())-2]))*10*time.Microsecond); err != nil {
				return nil, err
			}
			return shareable(c, string(c.ID())), nil
		})})
	r := &flightRig{Flights: g}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf(`"%d-%d"`, worker, i)
				c := list(id)
				setKey(c, flightKey{byte(1 + i%3)})
				var canceller sync.WaitGroup
				passed, cancelled := false, (worker+i)%3 == 0
				if cancelled {
					canceller.Go(func() {
						<-time.After(time.Duration(i%40) * 20 * time.Microsecond)
						passed = r.call(context.Background(), cancelCall(cancelBody(id))).header.Get("X-From") != ""
					})
				}
				answer := r.call(context.Background(), c)
				canceller.Wait()
				mu.Lock()
				if passed != told[id] || answer.err != nil {
					t.Errorf("the call %s got %+v; its cancellation passed: %v, the server was told: %v", id, answer, passed, told[id])
				}
				mu.Unlock()
				if answer.status != http.StatusOK && (passed || !cancelled || answer.status != http.StatusAccepted) {
					t.Errorf("the call %s, cancelled %v, passed %v, got %+v", id, cancelled, passed, answer)
				}
			}
		})
	}
	wg.Wait()
	g.Wait()
	if left := g.Pending(); left != 0 {
		t.Errorf("%d calls are still known", left)
	}
}
