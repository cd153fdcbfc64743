package streamable_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/upstream/stdio"
)

// TestStateIsNeverLostUnsaid has agents with state share too few processes that are killed at random, for a day of false time, and
// looks for a call that met another process than the one before and was not told so by 1410, for one that was told without a
// reason, and for any that does not end.
func TestStateIsNeverLostUnsaid(t *testing.T) {
	t.Run("each its own", func(t *testing.T) { stateIsNeverLostUnsaid(t, 0) })
	t.Run("shared", func(t *testing.T) { stateIsNeverLostUnsaid(t, 2) })
}

func stateIsNeverLostUnsaid(t *testing.T, replicas int) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	x := &scripted{}
	o := options{pool: func(o *stdio.PoolOptions) { o.Max = 4; o.QueueWait = 2 * time.Minute }, replicas: replicas}
	world(t, x, o, func(t *testing.T, r *rig, _ *agent) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() { hold(t, r, rand.New(rand.NewPCG(seed, uint64(i)))) })
		}
		done := make(chan struct{})
		var killer sync.WaitGroup
		killer.Go(func() {
			random := rand.New(rand.NewPCG(seed, 99))
			for {
				select {
				case <-done:
					return
				// Between two milliseconds: an agent is told of a start that is killed, and opens its session at a whole one.
				case <-time.After(time.Duration(random.IntN(200))*time.Second + 500*time.Microsecond):
				}
				x.mu.Lock()
				p := x.all[len(x.all)-1-random.IntN(min(len(x.all), 4))]
				x.mu.Unlock()
				p.End("signal: killed")
			}
		})
		all.Wait()
		close(done)
		killer.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := r.pool.Status().Processes; n != 0 {
			t.Errorf("%d processes in the end", n)
		}
	})
}

// hold is one agent that counts.
func hold(t *testing.T, r *rig, random *rand.Rand) {
	a := newAgent(t, r.up)
	a.open(mcp.Version20251125)
	var process float64 // that has its state; 0: none
	for n := range 300 {
		time.Sleep(time.Duration(random.IntN(120_000)) * time.Millisecond)
		name := "count"
		body := toolCall(n, name, "x")
		if random.IntN(3) == 0 {
			body = list
		}
		begun := time.Now()
		got := a.call(body)
		if took := time.Since(begun); took > 3*time.Minute {
			t.Errorf("a call took %v: %+v", took, got)
		}
		switch f := got.failure; {
		case got.status == 404: // killed too often within a minute
			a.session = ""
			a.open(mcp.Version20251125)
			process = 0
			continue
		case f == nil:
		case f.Code == 1410:
			if body == list || process == 0 {
				t.Errorf("%s got 1410, state in %v", body, process)
			}
			process = 0
			continue
		case f.Code == 1502, f.Reason == mcp.ReasonProcesses, f.Reason == mcp.ReasonStillStarting:
			if body != list && f.Sent != mcp.SentNo {
				process = -1 // it may have state there
			}
			continue
		default:
			t.Errorf("%s: %v", body, f)
			continue
		}
		if body == list {
			continue
		}
		var m struct{ Result struct{ From float64 } }
		if err := json.Unmarshal([]byte(got.body), &m); err != nil {
			t.Errorf("%s: %v", got.body, err)
			continue
		}
		if process != 0 && process != m.Result.From {
			t.Errorf("call %d of a session with state in process %v was answered by %v", n, process, fmt.Sprint(m.Result.From))
		}
		process = m.Result.From
	}
}
