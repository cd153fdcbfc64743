package session_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// slowGETs is a server whose GETs take a time until they are written, as they dial, and whose POSTs arrive at once.
type slowGETs struct {
	*fakeServer
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
	return s.fakeServer.Call(ctx, c)
}

// newSlowGETs makes an agent in front of such a server, whose session has begun.
func newSlowGETs(t *testing.T, dials time.Duration, heal session.Heal) (*slowGETs, *agent) {
	s := &slowGETs{fakeServer: newFakeServer(), dials: dials}
	a := newAgent(t, s.fakeServer, heal)
	a.stage = session.New(session.Options{Upstream: "s", Next: s, Reopen: time.Minute, Heal: heal, Credential: credential, Base: t.Context()})
	t.Cleanup(a.stage.Close)
	a.begin()
	return s, a
}

// TestOrder holds that whatever an agent posts behind its GET reaches the server behind it, a thousand times, whether sessions
// are healed or not, and that nobody else waits.
func TestOrder(t *testing.T) {
	for name, heal := range map[string]session.Heal{"reads": session.HealReads, "off": session.HealOff} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := newSlowGETs(t, 50*time.Millisecond, heal)
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
		_, a := newSlowGETs(t, -1, session.HealReads)
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
