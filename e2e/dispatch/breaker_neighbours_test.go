// An upstream that hangs costs the others nothing.

package dispatch

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestHungNeighbour: one upstream answers nothing, all its slots and its whole queue are taken, and more agents are turned
// away. Calls to another upstream are all answered. How long they take, alone and beside it, is in the test's log; `make
// bench` measures it on a quieter machine.
func TestHungNeighbour(t *testing.T) {
	hung, well := mcptest.NewServer(t, mcptest.Hang), mcptest.NewServer(t, mcptest.Minimal)
	const slots, queue, agents = 8, 8, 32
	c := harness.Config{Upstreams: map[string]string{
		"s":    fmt.Sprintf("{url: %q, limits: {max_in_flight: %d, queue: %d, queue_wait: 1m}, pool: {max_connections: %d}}", hung.URL(), slots, queue, slots),
		"well": fmt.Sprintf("{url: %q}", well.URL()),
	}, Top: "drain: 1s", Args: []string{"--log-level", "error"}, Plain: true}
	d := harness.Start(t, c)
	a := d.Agent(t)
	callAll(t, a, 50) // connections and pools get warm
	var p50, p99 []float64
	for range 5 {
		alone := callAll(t, a, 200)
		ctx, leave := context.WithCancel(context.Background())
		var callers sync.WaitGroup
		refused := make(chan harness.Reply, agents)
		for range agents {
			one := d.Agent(t)
			callers.Go(func() { stuck(ctx, one, refused) })
		}
		for range agents - slots - queue {
			harness.CheckFailure(t, (<-refused).RPC(t), "1", "s", 1429, "queue_full", "no")
		}
		d.Eventually("full", func() bool { return loadOf(d, "s") == [2]float64{slots, queue} })
		beside := callAll(t, a, 200)
		leave()
		callers.Wait()
		d.Eventually("empty", func() bool { return loadOf(d, "s") == [2]float64{} })
		p50 = append(p50, ratio(beside, alone, 50))
		p99 = append(p99, ratio(beside, alone, 99))
	}
	slices.Sort(p50)
	slices.Sort(p99)
	t.Logf("beside a hung upstream: p50 is %.2f of what it is alone, p99 %.2f (medians of 5 rounds; all: %.2f, %.2f)", p50[2], p99[2], p50, p99)
}

// stuck is an agent that calls the upstream s, until it is refused or leaves.
func stuck(ctx context.Context, a *harness.Agent, refused chan<- harness.Reply) {
	res, err := a.Open(ctx, http.MethodPost, "/mcp/s", harness.Request("1", "tools/call"))
	if err != nil {
		return // it has left
	}
	refused <- wholeReply(res)
}

// callAll calls the upstream `well` one time after the other and returns how long each call took, sorted.
func callAll(t *testing.T, a *harness.Agent, calls int) []time.Duration {
	t.Helper()
	all := make([]time.Duration, calls)
	for i := range all {
		got := a.Must(http.MethodPost, "/mcp/well", harness.Request(fmt.Sprint(i), "tools/call"))
		if !rpcOK(got) {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		all[i] = got.Took
	}
	slices.Sort(all)
	return all
}

func ratio(these, those []time.Duration, percentile int) float64 {
	return float64(these[len(these)*percentile/100]) / float64(those[len(those)*percentile/100])
}

// loadOf is how many calls of an upstream are under way, and wait.
func loadOf(d *harness.Daemon, upstream string) [2]float64 {
	d.T.Helper()
	m, of := d.Scrape(), fmt.Sprintf("{upstream=%q}", upstream)
	return [2]float64{m["fluentd_perf_in_flight"+of], m["fluentd_perf_queue_depth"+of]}
}
