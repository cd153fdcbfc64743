package streamable_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
)

const initializeCall = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`

// TestPoison holds that a session whose calls end its process does not hold back the starts of others for more than a second.
func TestPoison(t *testing.T) {
	x := &scripted{}
	world(t, x, options{front: func(o *streamable.Options) { o.Heal = streamable.HealAll }}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		for n := range 4 {
			if got := a.call(toolCall(n, "die", "")); got.failure == nil || got.failure.Reason != mcp.ReasonBrokeOff {
				t.Errorf("%d: %+v", n, got)
			}
			synctest.Wait()
			begun := time.Now()
			newAgent(t, r.up).open(mcp.Version20251125)
			if took := time.Since(begun); took > time.Second {
				t.Errorf("%d: another session waited for %v", n, took)
			}
		}
	})
}

// TestEndsUnasked holds that an agent is told at once why no process is started now, and when one is, where servers end before they are
// asked anything, and that sessions with a process go on.
func TestEndsUnasked(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		b := newAgent(t, r.up)
		b.open(mcp.Version20251125)
		synctest.Wait()
		x.unasked.Store(true)
		for range 3 {
			a.session = ""
			a.open(mcp.Version20251125)
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
		}
		begun := time.Now()
		told := func(what string, got said) {
			t.Helper()
			f := got.failure
			if f == nil || f.Code != 1502 || f.Reason != mcp.ReasonStartFailed || f.Sent != mcp.SentNo || f.RetryAfter < time.Second || f.RetryAfter > 2*time.Second {
				t.Fatalf("%s: %+v", what, got)
			}
			if !strings.Contains(f.Message, "exit status 7") || !strings.Contains(f.Message, "no license") || !strings.Contains(f.Message, "is started again in 2s") {
				t.Errorf("%s: %s", what, f.Message)
			}
			if took := time.Since(begun); took != 0 {
				t.Errorf("%s: after %v", what, took)
			}
		}
		told("the session whose process ended", a.call(list))
		told("another one", newAgent(t, r.up).call(initializeCall))
		told("a modern call", newAgent(t, r.up).call(modernList))
		if got := b.call(list); got.failure != nil || !strings.Contains(got.body, `"from":1`) {
			t.Errorf("the session that has a process: %+v", got)
		}
		x.unasked.Store(false)
		time.Sleep(2 * time.Second)
		newAgent(t, r.up).open(mcp.Version20251125)
	})
}

// TestLastLines holds that the error of a start that failed ends with the last 20 lines of stderr, the oldest first.
func TestLastLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options{start: func(context.Context) (stdio.Process, func(), error) {
			s := mcptest.NewStdio(func(s *mcptest.Stdio) { _, _ = s.Next() })
			for n := range 25 {
				s.LastLines = append(s.LastLines, fmt.Sprintf("line %d.", n))
			}
			return s, nil, nil
		}})
		got := newAgent(t, r.up).call(initializeCall)
		if got.failure == nil {
			t.Fatalf("%+v", got)
		}
		_, lines, _ := strings.Cut(got.failure.Message, "stderr ends with: ")
		if shown := strings.Split(lines, " | "); len(shown) != 20 || shown[0] != "line 5." || shown[19] != "line 24." {
			t.Errorf("%d lines: %s", len(shown), got.failure.Message)
		}
	})
}

// TestRefusedTakesNoRoom holds that no process of another entry gives way for a start that may not be yet.
func TestRefusedTakesNoRoom(t *testing.T) {
	x, y := &scripted{version: mcp.Version20251125}, &scripted{version: mcp.Version20251125}
	x.unasked.Store(true)
	synctest.Test(t, func(t *testing.T) {
		total := &stdio.Total{Max: 1}
		pool := func(o *stdio.PoolOptions) { o.Total = total }
		one := newRig(t, options{start: x.start, pool: pool})
		two := newRig(t, options{start: y.start, pool: pool})
		for range 4 {
			newAgent(t, one.up).open(mcp.Version20251125)
			time.Sleep(2 * time.Second) // false time
		}
		other := newAgent(t, two.up)
		other.open(mcp.Version20251125)
		time.Sleep(time.Second) // false time: its process may give way
		for _, body := range []string{initializeCall, modernList} {
			if got := newAgent(t, one.up).call(body); got.failure == nil || got.failure.Reason != mcp.ReasonStartFailed {
				t.Errorf("%s: %+v", body, got)
			}
		}
		if got := other.call(list); got.failure != nil || y.started() != 1 {
			t.Errorf("the other entry: %+v, %d processes", got, y.started())
		}
	})
}
