package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// TestOnce sends equal calls in three waves: exactly one of each wave goes to the stage behind, and each caller gets the
// answer of its own wave under its own id.
func TestOnce(t *testing.T) {
	for _, n := range []int{10, 100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := flightNewRig(func(ctx context.Context, c *mcp.Call, wave int) (*mcp.Result, error) {
					return shareable(c, fmt.Sprint("wave ", wave)), flightAfter(ctx, time.Second)
				})
				for wave := 1; wave <= 3; wave++ {
					collapsed := wantAnswers(t, r.wave(n), fmt.Sprint("wave ", wave))
					wantCalls(t, r, int64(wave))
					if collapsed != n-1 {
						t.Errorf("%d answers are marked as collapsed, want %d", collapsed, n-1)
					}
				}
				if got := r.coalesced(t); got != 3*(n-1) {
					t.Errorf("coalesced_total is %d, want %d", got, 3*(n-1))
				}
				r.Wait()
			})
		})
	}
}

// TestLeaderGoesAsItIs: what goes to the stage behind is the leader's call, byte for byte.
func TestLeaderGoesAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := []string{"7", "7.0", `"seven"`, `"\u0037"`, "123456789012345678901234567890"}
		r := flightNewRig(func(_ context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if want := list(ids[n-1]); string(c.Body) != string(want.Body) || c.Message != want.Message {
				t.Errorf("what went on is %s, want %s", c.Body, want.Body)
			}
			return shareable(c, "ok"), nil
		})
		for _, id := range ids {
			wantAnswers(t, []got{r.call(context.Background(), list(id))}, "ok")
		}
	})
}

// TestAlone lists the calls that share with nobody and go on as they are.
func TestAlone(t *testing.T) {
	alone := map[string]func(c *mcp.Call){
		"no key":         func(c *mcp.Call) { setKey(c, flightKey{}) },
		"another lane":   func(c *mcp.Call) { c.Lane = mcp.LaneListen },
		"a notification": func(c *mcp.Call) { c.Message.Kind = mcp.KindNotification },
		"a null id":      func(c *mcp.Call) { *c = *list("null") },
	}
	for name, change := range alone {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
					return shareable(c, "ok"), flightAfter(ctx, time.Second)
				})
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						c := list("7")
						change(c)
						res, err := r.Call(context.Background(), c)
						if err != nil || res.Collapsed || string(res.Message.ID.Of(res.Body)) != string(c.ID()) {
							t.Errorf("got %+v, %v", res, err)
						}
					})
				}
				wg.Wait()
				wantCalls(t, r, 5)
				for _, id := range r.stage.ids {
					if id != "7" && id != "null" {
						t.Errorf("the id that went on is %s", id)
					}
				}
			})
		})
	}
}

// TestKeysApart sends calls with two keys: they do not meet.
func TestKeysApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return shareable(c, fmt.Sprint(keyOfCall(c)[0])), flightAfter(ctx, time.Second)
		})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				c := list("1")
				setKey(c, flightKey{byte(1 + i%50)})
				wantAnswers(t, []got{r.call(context.Background(), c)}, fmt.Sprint(keyOfCall(c)[0]))
			})
		}
		wg.Wait()
		wantCalls(t, r, 50)
	})
}

// TestIDs gives the ids back as they were sent: type, spelling and all.
func TestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return shareable(c, "ok"), flightAfter(ctx, time.Second)
		})
		ids := []string{
			`0`, `1`, `-1`, `1.0`, `1e2`, `9007199254740993`, `123456789012345678901234567890`, `""`, `"1"`, `"a\"b\\\u00e9"`,
			`"` + strings.Repeat("x", 5000) + `"`, `1`,
		}
		all := make([]got, len(ids))
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() { all[i] = r.call(context.Background(), list(id)) })
		}
		wg.Wait()
		wantAnswers(t, all, "ok")
		wantCalls(t, r, 1)
	})
}

// TestFollowerHeader shares nothing of the header but the safe list, and each follower may change its own.
func TestFollowerHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return shareable(c, "ok"), flightAfter(ctx, time.Second)
		})
		var followers, leaders int
		for _, g := range r.wave(20) {
			if g.header.Get("Content-Type") != "application/json" || g.header.Get("Cache-Control") != "no-store" {
				t.Errorf("the header is %v", g.header)
			}
			switch {
			case g.collapsed && len(g.header) == 2:
				followers++
			case !g.collapsed && g.header.Get("Set-Cookie") == "user=leader":
				leaders++
			default:
				t.Errorf("collapsed %v: %v", g.collapsed, g.header)
			}
			g.header.Set("Content-Type", "changed")
			g.header.Add("Cache-Control", "changed")
		}
		if followers != 19 || leaders != 1 {
			t.Errorf("%d followers and %d leaders", followers, leaders)
		}
	})
}

// TestErrorsReachAll: a failure reaches everybody who waited, as a copy, and is not remembered.
func TestErrorsReachAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failure := &mcp.Failure{
			Code: mcp.CodeUnavailable, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, RetryAfter: time.Second,
			Message: "cannot reach the server", Cause: io.ErrUnexpectedEOF,
		}
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := flightAfter(ctx, time.Second); err != nil {
				return nil, err
			}
			if n == 1 {
				return nil, failure
			}
			return shareable(c, "ok"), nil
		})
		for _, g := range r.wave(100) {
			f := wantFailure(t, g.err, mcp.CodeUnavailable, mcp.ReasonConnect)
			if f == failure || *f != *failure || g.took != time.Second {
				t.Fatalf("got %+v after %v, want a copy of %+v", f, g.took, failure)
			}
		}
		wantAnswers(t, r.wave(100), "ok")
		wantCalls(t, r, 2)
	})
}

// TestErrorAnswersWithoutID: an error without an id, or with null, is passed on as it is.
func TestErrorAnswersWithoutID(t *testing.T) {
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}`,
		`{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			r := flightNewRig(func(ctx context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
				res := &mcp.Result{Status: 200, Body: []byte(body), Checked: true, Header: header.Of(http.Header{"X-Share": {"1"}})}
				if err := mcp.Scan(res.Body, &res.Message); err != nil {
					t.Error(err)
				}
				res.Release = func() { clear(res.Body) }
				return res, flightAfter(ctx, time.Second)
			})
			for _, g := range r.wave(10) {
				if g.err != nil || g.body != body {
					t.Errorf("got %q, %v", g.body, g.err)
				}
			}
			wantCalls(t, r, 1)
		})
	}
}

// TestPanic: a stage that panics, or ends its goroutine, fails its caller with 1502, and harms nobody who waited: they go by
// themselves, all at once.
func TestPanic(t *testing.T) {
	crashes := map[string]func(){
		"panic":  func() { panic("a planted fault") },
		"nil":    func() { panic(nil) },
		"goexit": runtime.Goexit,
	}
	for name, crash := range crashes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
					err := flightAfter(ctx, time.Second)
					if n == 1 {
						crash()
					}
					return shareable(c, "ok"), err
				})
				_, leader := r.leader()
				if wantAnswers(t, r.wave(50), "ok") != 0 {
					t.Error("a follower of a call that crashed has another's answer")
				}
				if name != "goexit" { // nobody is there any more
					wantFailure(t, (<-leader).err, mcp.CodeBadGateway, mcp.ReasonBrokeOff)
				}
				r.Wait()
				if log := r.log.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "once_test.go") {
					t.Errorf("the log is %q", log)
				}
				wantCalls(t, r, 1+50)
				if wantAnswers(t, r.wave(50), "ok") != 49 {
					t.Error("something sticks")
				}
				wantCalls(t, r, 1+50+1)
			})
		})
	}
}

// TestReleased: the answer of the stage behind is closed once, by the leader, and no follower's body is its memory.
func TestReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var released atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			res := shareable(c, "ok")
			body := res.Body
			res.Release = func() {
				released.Add(1)
				clear(body)
			}
			return res, flightAfter(ctx, time.Second)
		})
		wantAnswers(t, r.wave(30), "ok")
		if n := released.Load(); n != 1 {
			t.Errorf("released %d times", n)
		}
	})
}

// TestSameIDSharesMemory: followers whose id is the leader's get the same bytes, not a copy each.
func TestSameIDSharesMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return shareable(c, "ok"), flightAfter(ctx, time.Second)
		})
		var mu sync.Mutex
		memory := map[*byte]int{}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				res, err := r.Call(context.Background(), list(fmt.Sprint(i%2)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				memory[&res.Body[0]]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(memory) != 1+1+5 {
			t.Errorf("the leader's body, four equal ones and five others lie in %d places", len(memory))
		}
	})
}

// TestStop: the end of the daemon's context ends the flights with its cause.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
			return nil, flightAfter(ctx, time.Hour)
		})
		cause := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonDraining, RetryAfter: time.Second, Message: "stopping"}
		time.AfterFunc(time.Second, func() { r.stop(cause) })
		for _, g := range r.wave(10) {
			f := wantFailure(t, g.err, mcp.CodeUnavailable, mcp.ReasonDraining)
			if f.Sent != mcp.SentYes || f.RetryAfter != time.Second || g.took != time.Second {
				t.Errorf("got %+v after %v", f, g.took)
			}
		}
		r.Wait()

		r = flightNewRig(func(ctx context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
			return nil, flightAfter(ctx, time.Hour)
		})
		time.AfterFunc(time.Second, func() { r.stop(errors.New("no failure")) })
		wantFailure(t, r.call(context.Background(), list("1")).err, mcp.CodeUnavailable, mcp.ReasonDraining)
		r.Wait()
	})
}

// TestWrongErrors: what a stage must not return is a 1502, and reaches the caller as the one error type there is.
func TestWrongErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := []error{io.ErrUnexpectedEOF, &mcp.Failure{Reason: mcp.ReasonCanceled}}
		r := flightNewRig(func(_ context.Context, _ *mcp.Call, n int) (*mcp.Result, error) { return nil, wrong[n-1] })
		for range wrong {
			wantFailure(t, r.call(context.Background(), list("1")).err, mcp.CodeBadGateway, mcp.ReasonBrokeOff)
		}
	})
}
