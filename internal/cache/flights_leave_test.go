package cache_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

// leader starts a flight under the id 0 and returns what ends its caller's context, and what it gets.
func (r *flightRig) leader() (cancel context.CancelCauseFunc, answer <-chan got) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan got, 1)
	go func() { ch <- r.call(ctx, list("0")) }()
	synctest.Wait()
	return cancel, ch
}

// TestLeaderLeaves: the flight goes on without its leader, whose call returns when it has ended.
func TestLeaderLeaves(t *testing.T) {
	for _, n := range []int{10, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
				if err := flightAfter(ctx, 2*time.Second); err != nil {
					return nil, err
				}
				return shareable(c, fmt.Sprint(n)), nil
			})
			for wave := 1; wave <= 3; wave++ {
				cancel, answer := r.leader()
				time.AfterFunc(time.Second, func() { cancel(nil) })
				if collapsed := wantAnswers(t, r.wave(n), fmt.Sprint(wave)); collapsed != n {
					t.Errorf("%d of %d were collapsed", collapsed, n)
				}
				g := <-answer
				wantFailure(t, g.err, 0, mcp.ReasonCanceled)
				if g.took != 2*time.Second {
					t.Errorf("the leader's call returned after %v", g.took)
				}
				wantCalls(t, r, int64(wave))
			}
		})
	}
}

// TestFollowersLeave: each at its own time, with its own cause, and nobody else notices.
func TestFollowersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			if err := flightAfter(ctx, 5*time.Second); err != nil {
				return nil, err
			}
			return shareable(c, "ok"), nil
		})
		_, answer := r.leader()
		drained := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonDraining, Sent: mcp.SentNo}
		all := r.waveOf(100, func(i int) context.Context {
			switch i % 4 {
			case 0:
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(time.Duration(i+1)*10*time.Millisecond, cancel)
				return ctx
			case 1:
				ctx, cancel := context.WithCancelCause(context.Background())
				time.AfterFunc(time.Second, func() { cancel(drained) })
				return ctx
			}
			return context.Background()
		})
		for i, g := range all {
			switch i % 4 {
			case 0:
				wantFailure(t, g.err, 0, mcp.ReasonCanceled)
				if want := time.Duration(i+1) * 10 * time.Millisecond; g.took != want {
					t.Errorf("the follower %d left after %v, want %v", i, g.took, want)
				}
			case 1:
				if f := wantFailure(t, g.err, mcp.CodeUnavailable, mcp.ReasonDraining); f.Sent != mcp.SentUnknown {
					t.Errorf("sent is %q", f.Sent)
				}
			default:
				wantAnswers(t, []got{g}, "ok")
			}
		}
		wantAnswers(t, []got{<-answer}, "ok")
		wantCalls(t, r, 1)
	})
}

// TestAllLeave: the last one out cancels the flight, not the one before, and the next call starts anew.
func TestAllLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ended := make(chan time.Duration, 1)
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n > 1 {
				return shareable(c, "ok"), flightAfter(ctx, time.Second)
			}
			err := flightAfter(ctx, time.Hour)
			ended <- time.Since(start)
			return nil, err
		})
		all := r.waveOf(10, func(i int) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Duration(i+1)*100*time.Millisecond, cancel)
			return ctx
		})
		for _, g := range all {
			wantFailure(t, g.err, 0, mcp.ReasonCanceled)
		}
		if at := <-ended; at != time.Second {
			t.Errorf("the flight was cancelled after %v, want 1s", at)
		}
		wantAnswers(t, r.wave(10), "ok")
		wantCalls(t, r, 2)
	})
}

// TestLastLeaves: a call that comes while a flight is being cancelled starts its own; and an answer that comes for nobody
// is closed.
func TestLastLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n == 1 {
				<-ctx.Done()
				<-time.After(time.Second) // it does not notice at once
				return stream(ctx, "", nil, &closed), nil
			}
			return shareable(c, "ok"), flightAfter(ctx, 2*time.Second)
		})
		cancel, answer := r.leader()
		cancel(nil)
		synctest.Wait()
		wantAnswers(t, r.wave(10), "ok")
		wantCalls(t, r, 2)
		if g := <-answer; g.took != time.Second {
			t.Errorf("the leader's call returned after %v", g.took)
		} else {
			wantFailure(t, g.err, 0, mcp.ReasonCanceled)
		}
		r.Wait()
		if closed.Load() != 1 {
			t.Errorf("the late answer was closed %d times", closed.Load())
		}
	})
}

// TestStalled: past its age a flight takes nobody along, its followers get the answer of one new call, and its leader
// waits for its own.
func TestStalled(t *testing.T) {
	for _, n := range []int{10, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
				if n == 1 {
					return nil, flightAfter(ctx, time.Hour)
				}
				return shareable(c, fmt.Sprint(n)), flightAfter(ctx, time.Second)
			})
			cancel, answer := r.leader()
			all := r.wave(n)
			if wantAnswers(t, all, "2") != n-1 {
				t.Error("the followers did not share the second call")
			}
			for _, g := range all {
				if g.took != maxAge+time.Second {
					t.Fatalf("a follower waited %v, want %v", g.took, maxAge+time.Second)
				}
			}
			wantCalls(t, r, 2)
			for wave := 3; wave <= 5; wave++ {
				wantAnswers(t, r.wave(n), fmt.Sprint(wave))
				wantCalls(t, r, int64(wave))
			}
			cancel(nil)
			wantFailure(t, (<-answer).err, 0, mcp.ReasonCanceled)
			r.Wait()
		})
	}
}

// TestSlow: those who follow a flight that is over its age go on to one other.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := flightAfter(ctx, maxAge+3*time.Second); err != nil {
				return nil, err
			}
			return shareable(c, fmt.Sprint(n)), nil
		})
		_, leader := r.leader()
		for _, g := range r.wave(100) {
			wantAnswers(t, []got{g}, "2")
			if g.took != maxAge+maxAge+3*time.Second {
				t.Fatalf("took %v", g.took)
			}
		}
		wantAnswers(t, []got{<-leader}, "1")
		r.Wait()
		wantCalls(t, r, 2)
	})
}

// TestSlowEnds: how it ends with the first flight while a follower waits for two.
func TestSlowEnds(t *testing.T) {
	failed := &mcp.Failure{Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentUnknown}
	ends := map[string]struct {
		first func(c *mcp.Call) (*mcp.Result, error)
		calls int64 // in all
	}{
		"failed":      {func(*mcp.Call) (*mcp.Result, error) { return nil, failed }, 2},
		"unshareable": {func(c *mcp.Call) (*mcp.Result, error) { return checked(c, "ok"), nil }, 2},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
					d := time.Second
					if n <= 2 {
						d = maxAge + time.Second
					}
					if err := flightAfter(ctx, d); err != nil {
						return nil, err
					}
					if n == 1 {
						return end.first(c)
					}
					return shareable(c, "ok"), nil
				})
				var lost int
				for _, g := range r.wave(10) {
					if g.err != nil {
						lost++
						wantFailure(t, g.err, failed.Code, failed.Reason)
						continue
					}
					wantAnswers(t, []got{g}, "ok")
				}
				if want := map[string]int{"failed": 1}[name]; lost != want {
					t.Errorf("%d calls failed, want %d: the leader's", lost, want)
				}
				wantCalls(t, r, end.calls)
			})
		})
	}
}

// TestSlowRefused: a follower whose second flight fails waits on for the first. Where that fails too it gets the failure that
// is the likelier to have been sent, in whatever order they come.
func TestSlowRefused(t *testing.T) {
	refused := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo}
	broken := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}
	yes := &mcp.Failure{Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonCallTimeout, Sent: mcp.SentYes}
	shared := func(c *mcp.Call) (*mcp.Result, error) { return shareable(c, "slow"), nil }
	mine := func(c *mcp.Call) (*mcp.Result, error) { return checked(c, "mine"), nil }
	fails := func(f *mcp.Failure) func(*mcp.Call) (*mcp.Result, error) {
		return func(*mcp.Call) (*mcp.Result, error) { return nil, f }
	}
	for name, end := range map[string]struct {
		first  func(*mcp.Call) (*mcp.Result, error) // 3 s after MaxAge
		second *mcp.Failure
		after  time.Duration
		want   *mcp.Failure // nil: the first's answer
		took   time.Duration
	}{
		"slow":                 {shared, refused, 0, nil, maxAge + 3*time.Second},
		"slow, second broke":   {shared, broken, time.Second, nil, maxAge + 3*time.Second},
		"both, first likelier": {fails(broken), refused, 0, broken, maxAge + 3*time.Second},
		"both, second so":      {fails(broken), yes, time.Second, yes, maxAge + 3*time.Second},
		"first fails before":   {fails(broken), refused, 5 * time.Second, broken, maxAge + 5*time.Second},
		"not for all":          {mine, broken, time.Second, broken, maxAge + 3*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
					d := end.after
					if n == 1 {
						d = maxAge + 3*time.Second
					}
					if err := flightAfter(ctx, d); err != nil {
						return nil, err
					}
					if n == 1 {
						return end.first(c)
					}
					return nil, end.second
				})
				_, leader := r.leader()
				g := r.call(context.Background(), list("1"))
				if end.want == nil {
					wantAnswers(t, []got{g}, "slow")
				} else if f := wantFailure(t, g.err, end.want.Code, end.want.Reason); f.Sent != end.want.Sent {
					t.Errorf("sent is %s, want %s", f.Sent, end.want.Sent)
				}
				if g.took != end.took {
					t.Errorf("took %v, want %v", g.took, end.took)
				}
				<-leader
				r.Wait()
				wantCalls(t, r, 2)
			})
		})
	}
}

// TestFollowerLeavesBoth: a follower that waits for two flights leaves both, and is the last one out of each.
func TestFollowerLeavesBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
			return nil, flightAfter(ctx, time.Hour)
		})
		cancel, answer := r.leader()
		ctx, stop := context.WithTimeout(context.Background(), maxAge+time.Second)
		defer stop()
		time.AfterFunc(time.Second, func() { cancel(nil) })
		wantFailure(t, r.call(ctx, list("1")).err, 0, mcp.ReasonCanceled)
		wantFailure(t, (<-answer).err, 0, mcp.ReasonCanceled)
		synctest.Wait()
		if n := r.stage.inside.Load(); n != 0 {
			t.Errorf("%d calls are still under way", n)
		}
		wantCalls(t, r, 2)
	})
}

// TestFollowerLeavesOld: a follower whose second flight answers, or that has to go by itself, leaves the old one.
func TestFollowerLeavesOld(t *testing.T) {
	for _, held := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
				if n == 1 {
					return nil, flightAfter(ctx, time.Hour)
				}
				res := checked(c, "ok")
				setShare(res, !held)
				return res, nil
			})
			cancel, answer := r.leader()
			time.AfterFunc(time.Second, func() {
				cancel(nil)
				if held { // somebody makes the key one that is not shared
					r.Fence()
					r.call(context.Background(), list("2"))
				}
			})
			wantAnswers(t, []got{r.call(context.Background(), list("1"))}, "ok")
			<-answer
			synctest.Wait()
			if n := r.stage.inside.Load(); n != 0 {
				t.Errorf("held %v: %d calls are still under way", held, n)
			}
		})
	}
}

// TestLeavesAtAnswer: a leader that leaves at the moment at which its stream comes either gets it or lets it be closed.
func TestLeavesAtAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed, left atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			<-time.After(time.Second)
			return stream(ctx, ":\n\n", nil, &closed), nil
		})
		const times = 300
		for i := range times {
			ctx, stop := context.WithTimeout(context.Background(), time.Second)
			c := list("1")
			setKey(c, flightKey{1, byte(i), byte(i >> 8)})
			res, err := r.Call(ctx, c)
			if err == nil {
				_ = res.Close()
			} else {
				left.Add(1)
			}
			stop()
		}
		r.Wait()
		synctest.Wait() // the last one's place is given up on a goroutine of the context's
		if n := left.Load(); n == 0 || n == times {
			t.Errorf("%d of %d left at that moment: the test tests nothing", n, times)
		}
		if n := closed.Load(); n != times {
			t.Errorf("%d streams of %d were closed", n, times)
		}
	})
}

// TestContextEnds: whatever becomes of a flight, its context ends with it.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			open.Add(1)
			context.AfterFunc(ctx, func() { open.Add(-1) })
			switch n % 3 {
			case 0:
				return nil, &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonConnect}
			case 1:
				return checked(c, "mine"), nil
			}
			return shareable(c, "ok"), nil
		})
		for i := range 9 {
			c := list("1")
			setKey(c, flightKey{byte(1 + i)})
			r.call(context.Background(), c)
		}
		synctest.Wait()
		if n := open.Load(); n != 0 {
			t.Errorf("%d contexts are left", n)
		}
	})
}

// TestJoiningEndsAtAFence: after it nobody joins what was begun before; those who have joined wait on.
func TestJoiningEndsAtAFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			return shareable(c, fmt.Sprint(n)), flightAfter(ctx, 2*time.Second)
		})
		var wg sync.WaitGroup
		wave := func(want string) {
			for range 10 {
				wg.Go(func() { wantAnswers(t, []got{r.call(context.Background(), list("1"))}, want) })
			}
			synctest.Wait()
		}
		wave("1")
		wave("1")
		r.Fence()
		wave("2")
		wave("2")
		r.Fence()
		wave("3")
		<-time.After(time.Second)
		wave("3")
		wg.Wait()
		wantCalls(t, r, 3)
		wave("4")
		wg.Wait()
	})
}
