package session_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// slowGETs is a server whose GETs take a time until they are written, as they dial, and whose POSTs arrive at once.
type slowGETs struct {
	*world
	dials time.Duration // negative: never written

	mu      sync.Mutex
	arrived []string
}

func (s *slowGETs) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.Lane == mcp.LaneStream {
		s.mu.Lock()
		dials := s.dials
		s.mu.Unlock()
		if dials < 0 {
			<-ctx.Done()
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Cause: ctx.Err()}
		}
		wait(dials)
	}
	s.mu.Lock()
	s.arrived = append(s.arrived, c.Lane.Verb())
	s.mu.Unlock()
	if c.Written != nil {
		c.Written()
		c.Written()
	}
	if c.Lane == mcp.LaneStream {
		wait(time.Second) // the head of a quiet stream may be long in coming
	}
	return s.world.Call(ctx, c)
}

// TestOrder holds that whatever an agent posts behind its GET reaches the server behind it, a thousand times, whether sessions
// are healed or not, and that nobody else waits.
func TestOrder(t *testing.T) {
	for name, heal := range map[string]session.Heal{"reads": session.HealReads, "off": session.HealOff} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slowGETs{world: newWorld(), dials: 50 * time.Millisecond}
				a := newAgent(t, s.world, heal)
				a.stage = session.New(session.Options{Upstream: "s", Next: s, Reopen: time.Minute, Heal: heal, Credential: credential, Base: t.Context()})
				defer a.stage.Close()
				a.begin()
				other := a.second()
				for i := range 1000 {
					s.arrived = nil
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan struct{})
					go func() { closed(t, a.get(ctx, "")); close(done) }()
					synctest.Wait()
					start := time.Now()
					other.tool()
					if time.Since(start) != 0 {
						t.Fatalf("another session waited %v", time.Since(start))
					}
					for range 1 + i%3 {
						a.tool()
					}
					if want := []string{"POST", "GET", "POST"}; len(s.arrived) < 3 || !slices.Equal(s.arrived[:3], want) {
						t.Fatalf("round %d: the server saw %v, want %v", i, s.arrived, want)
					}
					if took := time.Since(start); took != 50*time.Millisecond {
						t.Fatalf("the call waited %v", took)
					}
					cancel()
					<-done
				}
			})
		})
	}
}

// TestOrderIsBounded holds that a GET which is never written holds a POST up for a quarter of a second, a leaving agent's not
// so long, and one that has ended none.
func TestOrderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowGETs{world: newWorld(), dials: -1}
		a := newAgent(t, s.world, session.HealReads)
		a.stage = session.New(session.Options{Upstream: "s", Next: s, Reopen: time.Minute, Heal: session.HealReads, Credential: credential, Base: t.Context()})
		defer a.stage.Close()
		a.begin()
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 { // a stream that came later is waited for as well, within the same time
			go func() { _, _ = a.stage.Call(ctx, a.call(mcp.LaneStream, "")) }()
			synctest.Wait()
		}
		start := time.Now()
		a.tool()
		if took := time.Since(start); took != 250*time.Millisecond {
			t.Errorf("the call waited %v", took)
		}
		leaving, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer leave()
		start = time.Now()
		_, _ = a.post(leaving, a.request("tools/list", `{}`))
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("a leaving agent's waited %v", took)
		}
		cancel()
		synctest.Wait()
		start = time.Now()
		a.tool()
		if took := time.Since(start); took != 0 {
			t.Errorf("the call waited %v for GETs that have ended", took)
		}
	})
}

// TestGETDuringHealing holds that a GET which meets a healing waits for it: whether it comes while it is going on, or was on
// its way to where the session lived before.
func TestGETDuringHealing(t *testing.T) {
	for name, early := range map[string]bool{"comes": false, "on its way": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := newAgent(t, w, session.HealReads)
				a.begin()
				w.restart()
				w.slow = 10 * time.Second
				w.hang(early) // the old place does not answer a GET
				got := make(chan *mcp.Result, 1)
				get := func() { got <- a.get(t.Context(), "") }
				if early {
					go get()
					synctest.Wait()
					w.hang(false)
				}
				go func() { a.list() }()
				synctest.Wait()
				if !early {
					go get()
				}
				res := <-got
				if res.Status != 200 || res.Events == nil {
					t.Fatalf("got %d %s", res.Status, res.Body)
				}
				gets := w.count(mcp.LaneStream, mcp.MethodNone)
				if want := map[bool]int{true: 2, false: 1}[early]; gets != want || w.lastGet(t).Get("Mcp-Session-Id") != "s2" {
					t.Errorf("%d GETs came, the last with %v", gets, w.lastGet(t))
				}
				wantEvent(t, res, w.feed(t, 1), numbered("1"))
				closed(t, res)
				a.wantHeals(healed{"healed": 1})
			})
		})
	}
}

// hang makes the server answer no GET, or answer again those that come.
func (w *world) hang(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangs = on
}

// TestMintedAgain holds that the GET stream of an agent ends, and is not opened again, when a server that counts its ids gives
// that of its session to another: whether the stream stands, waits for its next try or is on its way, and whatever is healed.
func TestMintedAgain(t *testing.T) {
	for name, heal := range map[string]session.Heal{"reads": session.HealReads, "off": session.HealOff} {
		for state, lose := range map[string]func(w *world){
			"stands":  func(w *world) { w.forget() },
			"waits":   func(w *world) { w.restart() },
			"tries":   func(w *world) { w.restart(); w.hang(true) },
			"is away": func(w *world) { w.restart(); w.away(100 * time.Millisecond) },
		} {
			t.Run(name+", "+state, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					a := newAgent(t, w, heal)
					a.begin()
					res := a.get(t.Context(), "")
					got := next(res)
					w.feed(t, 1)
					lose(w)
					if synctest.Wait(); state == "tries" {
						wait(2 * time.Second)
					}
					w.mu.Lock()
					w.minted, w.before, w.hangs = 0, nil, false
					n := len(w.calls)
					w.mu.Unlock()
					b := a.second()
					if b.id != a.id {
						t.Fatalf("the server gave %s and %s", a.id, b.id)
					}
					if ev, err := (<-got)(); err != io.EOF {
						t.Errorf("the stream gave %+v, %v", ev, err)
					}
					closed(t, res)
					wait(time.Minute)
					w.mu.Lock()
					defer w.mu.Unlock()
					for _, c := range w.calls[n:] {
						if c.Lane == mcp.LaneStream {
							t.Errorf("a GET with the first agent's %v came", c.Header)
						}
					}
				})
			})
		}
	}
}

// TestEndEndsStreams holds that a session that its agent ends ends with its streams.
func TestEndEndsStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		res := a.get(t.Context(), "")
		got := next(res)
		w.feed(t, 1)
		if res, err := a.stage.Call(t.Context(), a.call(mcp.LaneEnd, "")); err != nil || res.Status != 204 {
			t.Fatalf("%v, %v", res, err)
		}
		if _, err := (<-got)(); err != io.EOF {
			t.Errorf("ended with %v", err)
		}
		closed(t, res)
		if strings.Contains(a.log.String(), "re-opening") {
			t.Error("the stream was opened again")
		}
	})
}
