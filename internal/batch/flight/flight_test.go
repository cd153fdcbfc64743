package flight_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch/flight"
)

var (
	errFirst  = errors.New("the first flight failed")
	errSecond = errors.New("the second flight failed")
	errLeft   = errors.New("the caller left")
	errEnd    = errors.New("the daemon stops")
)

const (
	maxAge = 10 * time.Second
	hold   = 20 * time.Second
)

// leader is one whose call takes some time, and brings an Outcome.
type leader struct {
	takes   time.Duration
	outcome flight.Outcome
	crash   func()  // in place of all that
	ended   *error  // why the flight's context ended, where it did before the time was over
	answers *string // the answer, which is to be asked for once; nil: it is not to be
}

func (l *leader) Lead(ctx context.Context, _ context.CancelCauseFunc) flight.Outcome {
	select {
	case <-time.After(l.takes):
	case <-ctx.Done():
		if l.ended != nil {
			*l.ended = context.Cause(ctx)
		}
		return flight.Outcome{Err: context.Cause(ctx)}
	}
	if l.crash != nil {
		l.crash()
	}
	return l.outcome
}

func (l *leader) Answer() string {
	answer := *l.answers
	l.answers = nil
	return answer
}

// brings is a leader with an answer for all.
func brings(answer string, takes time.Duration) *leader {
	return &leader{takes: takes, outcome: flight.Outcome{Share: true}, answers: &answer}
}

// brought is what a call came to.
type brought struct {
	role   flight.Role
	answer string
	err    error
	at     time.Duration // since the beginning of the test
}

func (b *brought) String() string {
	return fmt.Sprintf("role %d, %q, %v, after %v", b.role, b.answer, b.err, b.at)
}

// rig is a Group with what comes of its calls.
type rig struct {
	*testing.T
	*flight.Group[string, string]
	start time.Time
	calls sync.WaitGroup
}

func test(t *testing.T, base context.Context, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string, string](flight.Options{Base: base, MaxAge: maxAge, Hold: hold})
		r := &rig{T: t, Group: g, start: time.Now()}
		f(r)
		r.calls.Wait()
		r.Wait()
		if r.Len() != 0 {
			t.Errorf("%d flights are left", r.Len())
		}
	})
}

// call makes a call under the key 1, and returns when it is under way or over. What it comes to is there when r.calls is over.
func (r *rig) call(ctx context.Context, caller string, l *leader) *brought {
	b := new(brought)
	r.calls.Go(func() {
		b.role, b.answer, b.err = r.Do(ctx, key(1), caller, l)
		b.at = time.Since(r.start)
	})
	synctest.Wait()
	return b
}

func key(n byte) flight.Key { return flight.Key{Request: [32]byte{n}} }

// want checks what a call came to, when all are over.
func (r *rig) want(b *brought, role flight.Role, answer string, err error, at time.Duration) {
	r.Helper()
	r.calls.Wait()
	if b.role != role || b.answer != answer || !errors.Is(b.err, err) || err == nil && b.err != nil || b.at != at {
		r.Errorf("%v, want role %d, %q, %v, after %v", b, role, answer, err, at)
	}
}

func none(r *rig) (context.Context, *leader) {
	return r.Context(), &leader{crash: func() { r.Error("it is called") }}
}

// TestOutcomes holds what a follower gets of what a leader brings, when it does.
func TestOutcomes(t *testing.T) {
	for name, tt := range map[string]struct {
		outcome flight.Outcome
		role    flight.Role
		err     error
	}{
		"an answer":               {flight.Outcome{Share: true}, flight.Waited, nil},
		"an answer, hold":         {flight.Outcome{Share: true, Hold: true}, flight.Waited, nil},
		"an answer of its own":    {flight.Outcome{}, flight.Alone, nil},
		"an error":                {flight.Outcome{Err: errFirst}, flight.Waited, errFirst},
		"an error of its own":     {flight.Outcome{Err: errFirst, Own: true}, flight.Alone, nil},
		"an answer that is owned": {flight.Outcome{Share: true, Own: true}, flight.Alone, nil},
	} {
		t.Run(name, func(t *testing.T) {
			test(t, nil, func(r *rig) {
				first := brings("a", time.Second)
				first.outcome = tt.outcome
				lead := r.call(r.Context(), "1", first)
				ctx, l := none(r)
				follower := r.call(ctx, "2", l)
				answer := ""
				if tt.role == flight.Waited && tt.err == nil {
					answer = "a"
				}
				r.want(lead, flight.Led, "", tt.outcome.Err, time.Second)
				r.want(follower, tt.role, answer, tt.err, time.Second)
			})
		})
	}
}

// TestKeys holds that calls are one under one key of one epoch, and while the first one is under way.
func TestKeys(t *testing.T) {
	test(t, nil, func(r *rig) {
		r.call(r.Context(), "1", brings("a", time.Second))
		for _, k := range []flight.Key{key(2), {Request: key(1).Request, Epoch: 1}} {
			if role, _, err := r.Do(r.Context(), k, "2", brings("b", 0)); role != flight.Led || err != nil {
				r.Errorf("%v: role %d, %v", k, role, err)
			}
		}
		r.calls.Wait()
		r.want(r.call(r.Context(), "2", brings("b", 0)), flight.Led, "", nil, time.Second)
	})
}

// TestAge holds that a flight over its age takes nobody, and that those who wait for it go on to the next one together.
func TestAge(t *testing.T) {
	test(t, nil, func(r *rig) {
		stalled := r.call(r.Context(), "1", brings("a", time.Minute))
		time.Sleep(time.Second)
		second := r.call(r.Context(), "2", brings("b", 2*time.Second))
		third := r.call(r.Context(), "3", brings("b", 2*time.Second))
		time.Sleep(10 * time.Second)
		fourth := r.call(r.Context(), "4", &leader{crash: func() { t.Error("a third flight") }})
		r.want(stalled, flight.Led, "", nil, time.Minute)
		for _, b := range []*brought{second, third} {
			if b.role == flight.Led {
				r.want(b, flight.Led, "", nil, maxAge+2*time.Second)
			} else {
				r.want(b, flight.Waited, "b", nil, maxAge+2*time.Second)
			}
		}
		if (second.role == flight.Led) == (third.role == flight.Led) {
			r.Errorf("not one of them leads: %v; %v", second, third)
		}
		r.want(fourth, flight.Waited, "b", nil, maxAge+2*time.Second)
	})
}

// TestAgeAlone holds that nobody joins a flight over its age that nobody has joined before.
func TestAgeAlone(t *testing.T) {
	test(t, nil, func(r *rig) {
		r.call(r.Context(), "1", brings("a", time.Minute))
		time.Sleep(maxAge)
		r.want(r.call(r.Context(), "2", brings("b", time.Minute)), flight.Led, "", nil, maxAge+time.Minute)
	})
}

// TestComingBack holds that those whom a second flight fails wait for the first one after all, and get both errors where that
// fails as well.
func TestComingBack(t *testing.T) {
	for name, tt := range map[string]struct {
		first  flight.Outcome
		role   flight.Role
		answer string
		errs   []error
	}{
		"an answer":             {flight.Outcome{Share: true}, flight.Waited, "a", nil},
		"an error":              {flight.Outcome{Err: errFirst}, flight.Waited, "", []error{errFirst, errSecond}},
		"nothing for those two": {flight.Outcome{}, flight.Led, "", []error{errSecond}},
	} {
		t.Run(name, func(t *testing.T) {
			test(t, nil, func(r *rig) {
				stalled := brings("a", time.Minute)
				stalled.outcome = tt.first
				r.call(r.Context(), "1", stalled)
				back := r.call(r.Context(), "2", &leader{takes: time.Second, outcome: flight.Outcome{Err: errSecond}})
				r.calls.Wait()
				if back.role != tt.role || back.answer != tt.answer || back.at != time.Minute || (back.err == nil) != (tt.errs == nil) {
					r.Errorf("%v, want role %d, %q, %v", back, tt.role, tt.answer, tt.errs)
				}
				for _, err := range tt.errs {
					if !errors.Is(back.err, err) {
						r.Errorf("%v, want %v in it", back.err, err)
					}
				}
			})
		})
	}
}

// TestHold holds that nobody shares under a key for a while after an Outcome that says so, whatever the epoch, and that
// others are not concerned.
func TestHold(t *testing.T) {
	test(t, nil, func(r *rig) {
		r.call(r.Context(), "1", &leader{outcome: flight.Outcome{Hold: true}})
		ask := func(k flight.Key, want flight.Role) {
			r.Helper()
			if role, _, _ := r.Do(r.Context(), k, "2", brings("b", 0)); role != want {
				r.Errorf("after %v: %v has the role %d, want %d", time.Since(r.start), k, role, want)
			}
		}
		time.Sleep(hold - time.Nanosecond)
		ask(key(1), flight.Alone)
		ask(flight.Key{Request: key(1).Request, Epoch: 7}, flight.Alone)
		ask(key(17), flight.Led) // of the same shard
		time.Sleep(time.Nanosecond)
		ask(key(1), flight.Led)
	})
}

// TestLeaving holds that a follower leaves alone and at once, that a leader's call goes on for those who follow, and that the
// last one out ends it, with the leader's reason only where that is the last one.
func TestLeaving(t *testing.T) {
	for name, tt := range map[string]struct {
		leader, follower time.Duration // when they leave; 0: never
		ends             time.Duration // when the leader's call does
		why              bool          // it ends by the leader's cause
	}{
		"nobody":             {0, 0, 5 * time.Second, false},
		"the follower":       {0, time.Second, 5 * time.Second, false},
		"the leader":         {time.Second, 0, 5 * time.Second, false},
		"the leader at last": {2 * time.Second, time.Second, 2 * time.Second, true},
		"the follower last":  {time.Second, 2 * time.Second, 2 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			test(t, nil, func(r *rig) {
				leaving := func(after time.Duration) context.Context {
					ctx, leave := context.WithCancelCause(r.Context())
					r.Cleanup(func() { leave(nil) })
					if after > 0 {
						time.AfterFunc(after, func() { leave(errLeft) })
					}
					return ctx
				}
				l := brings("a", 5*time.Second)
				var ended error
				l.ended = &ended
				lead := r.call(leaving(tt.leader), "1", l)
				_, nobody := none(r)
				follower := r.call(leaving(tt.follower), "2", nobody)
				r.calls.Wait()
				if lead.role != flight.Led || lead.at != tt.ends || (ended != nil) != (tt.ends < 5*time.Second) || errors.Is(ended, errLeft) != tt.why {
					r.Errorf("the leader: %v, ended by %v", lead, ended)
				}
				if tt.follower == 0 {
					r.want(follower, flight.Waited, "a", nil, 5*time.Second)
				} else {
					r.want(follower, flight.Left, "", nil, tt.follower)
				}
			})
		})
	}
}

// TestCancel holds who is sent on by a cancellation: all who follow a leader, and one follower of whom there is no other.
func TestCancel(t *testing.T) {
	for name, tt := range map[string]struct {
		callers       []string // the first one leads
		take          bool
		led, released bool
		role          flight.Role // of the last one, if it is over at once
		at            time.Duration
	}{
		"the leader":                  {[]string{"x", "b"}, true, true, false, flight.Alone, 0},
		"the leader, alone":           {[]string{"x"}, true, true, false, flight.Led, time.Second},
		"the leader and a follower":   {[]string{"x", "x"}, true, true, false, flight.Alone, 0},
		"one follower":                {[]string{"a", "x"}, true, false, true, flight.Released, 0},
		"one follower, not taken out": {[]string{"a", "x"}, false, false, false, flight.Waited, time.Second},
		"two followers":               {[]string{"a", "x", "x"}, true, false, false, flight.Waited, time.Second},
		"nobody":                      {[]string{"a", "b"}, true, false, false, flight.Waited, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			test(t, nil, func(r *rig) {
				var last *brought
				for _, caller := range tt.callers {
					last = r.call(r.Context(), caller, brings("a", time.Second))
				}
				led, released := r.Cancel(func(c string) bool { return c == "x" }, tt.take)
				if led != tt.led || released != tt.released {
					r.Errorf("led %v, released %v", led, released)
				}
				answer := ""
				if tt.role == flight.Waited {
					answer = "a"
				}
				r.want(last, tt.role, answer, nil, tt.at)
			})
		})
	}
}

// TestCancelledFlightTakesNobody holds that nobody joins a flight whose leader was cancelled.
func TestCancelledFlightTakesNobody(t *testing.T) {
	test(t, nil, func(r *rig) {
		r.call(r.Context(), "x", brings("a", time.Minute))
		r.Cancel(func(c string) bool { return c == "x" }, true)
		r.want(r.call(r.Context(), "b", brings("b", time.Second)), flight.Led, "", nil, time.Second+0)
	})
}

// TestCrashes holds that a leader which does not return brings nothing: those who follow go by themselves, and the next one leads.
func TestCrashes(t *testing.T) {
	for name, crash := range map[string]func(){"panic": func() { panic("a bug") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			test(t, nil, func(r *rig) {
				r.calls.Add(1)
				go func() {
					defer r.calls.Done()
					defer func() { _ = recover() }()
					_, _, _ = r.Do(r.Context(), key(1), "1", &leader{takes: time.Second, crash: crash})
					r.Error("it returns")
				}()
				synctest.Wait()
				_, nobody := none(r)
				r.want(r.call(r.Context(), "2", nobody), flight.Alone, "", nil, time.Second)
				r.want(r.call(r.Context(), "3", brings("b", 0)), flight.Led, "", nil, time.Second)
			})
		})
	}
}

// TestBase holds that the end of the base ends every flight, with its cause.
func TestBase(t *testing.T) {
	base, end := context.WithCancelCause(context.Background())
	test(t, base, func(r *rig) {
		lead := r.call(r.Context(), "1", brings("a", time.Minute))
		_, nobody := none(r)
		follower := r.call(r.Context(), "2", nobody)
		end(errEnd)
		r.want(lead, flight.Led, "", errEnd, 0)
		r.want(follower, flight.Waited, "", errEnd, 0)
	})
}

// open is a leader whose answer only begins.
type open struct {
	ctx context.Context
	end context.CancelCauseFunc
}

func (o *open) Lead(ctx context.Context, end context.CancelCauseFunc) flight.Outcome {
	o.ctx, o.end = ctx, end
	return flight.Outcome{Open: true}
}

func (o *open) Answer() string { panic("nobody follows") }

// TestOpen holds that a flight's context ends with it, or when its leader says so.
func TestOpen(t *testing.T) {
	test(t, nil, func(r *rig) {
		o := new(open)
		if role, _, err := r.Do(r.Context(), key(1), "1", o); role != flight.Led || err != nil || o.ctx.Err() != nil {
			r.Errorf("role %d, %v, %v", role, err, o.ctx.Err())
		}
		o.end(errEnd)
		if context.Cause(o.ctx) != errEnd {
			r.Errorf("it ended by %v", context.Cause(o.ctx))
		}
	})
}

// TestStorm has many callers come, leave and be cancelled under few keys: each comes to an end, gets what was brought under its
// own key, and nothing is left.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string, string](flight.Options{MaxAge: 5 * time.Millisecond, Hold: time.Millisecond})
		var calls sync.WaitGroup
		var roles [5]counter
		for i := range 3000 {
			k := byte(i % 7)
			calls.Go(func() {
				time.Sleep(time.Duration(i%97) * time.Millisecond)
				ctx, leave := context.WithTimeout(t.Context(), time.Duration(1+i%13)*time.Millisecond)
				defer leave()
				l := brings(fmt.Sprint(k), time.Duration(i%11)*time.Millisecond)
				if i%10 == 0 {
					l.outcome = flight.Outcome{Hold: i%20 == 0}
				}
				role, answer, err := g.Do(ctx, key(k), fmt.Sprint(i), l)
				roles[role].add()
				if role == flight.Waited && err == nil && answer != fmt.Sprint(k) {
					t.Errorf("%d has the answer %q", k, answer)
				}
			})
			if i%50 == 0 {
				calls.Go(func() {
					time.Sleep(time.Duration(i%89) * time.Millisecond)
					g.Cancel(func(c string) bool { return c[len(c)-1] == '3' }, true)
				})
			}
		}
		calls.Wait()
		g.Wait()
		if g.Len() != 0 {
			t.Errorf("%d flights are left", g.Len())
		}
		for role := range roles[:flight.Released] {
			if roles[role].n == 0 {
				t.Errorf("nobody had the role %d", role)
			}
		}
	})
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}
