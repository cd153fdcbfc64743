package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// TestHungNeighbour: one upstream answers nothing, all its slots and its whole queue are taken, and more agents are turned
// away. Calls to another upstream are all answered. How long they take, alone and beside it, is in the test's log; `make
// bench` measures it on a quieter machine.
func TestHungNeighbour(t *testing.T) {
	hung, well := mcptest.NewServer(t, mcptest.Hang), mcptest.NewServer(t, mcptest.Minimal)
	const slots, queue, agents = 8, 8, 32
	c := conf{upstreams: map[string]string{
		"s":    fmt.Sprintf("{url: %q, limits: {max_in_flight: %d, queue: %d, queue_wait: 1m}, pool: {max_connections: %d}}", hung.URL(), slots, queue, slots),
		"well": fmt.Sprintf("{url: %q}", well.URL()),
	}, top: "drain: 1s", args: []string{"--log-level", "error"}, plain: true}
	d := runSidecar(t, c)
	a := d.agent(t)
	callAll(t, a, 50) // connections and pools get warm
	var p50, p99 []float64
	for range 5 {
		alone := callAll(t, a, 200)
		ctx, leave := context.WithCancel(context.Background())
		var crowd sync.WaitGroup
		refused := make(chan reply, agents)
		for range agents {
			one := d.agent(t)
			crowd.Go(func() { stuck(ctx, one, refused) })
		}
		for range agents - slots - queue {
			checkFailure(t, (<-refused).rpc(t), "1", "s", 1429, "queue_full", "no")
		}
		d.eventually("full", func() bool { return d.load("s") == [2]float64{slots, queue} })
		beside := callAll(t, a, 200)
		leave()
		crowd.Wait()
		d.eventually("empty", func() bool { return d.load("s") == [2]float64{} })
		p50 = append(p50, ratio(beside, alone, 50))
		p99 = append(p99, ratio(beside, alone, 99))
	}
	slices.Sort(p50)
	slices.Sort(p99)
	t.Logf("beside a hung upstream: p50 is %.2f of what it is alone, p99 %.2f (medians of 5 rounds; all: %.2f, %.2f)", p50[2], p99[2], p50, p99)
}

// stuck is an agent that calls the upstream s, until it is refused or leaves.
func stuck(ctx context.Context, a *agent, refused chan<- reply) {
	res, err := a.open(ctx, http.MethodPost, "/mcp/s", request("1", "tools/call"))
	if err != nil {
		return // it has left
	}
	refused <- wholeReply(res)
}

// callAll calls the upstream `well` one time after the other and returns how long each call took, sorted.
func callAll(t *testing.T, a *agent, calls int) []time.Duration {
	t.Helper()
	all := make([]time.Duration, calls)
	for i := range all {
		got := a.must(http.MethodPost, "/mcp/well", request(fmt.Sprint(i), "tools/call"))
		if !got.rpcOK() {
			t.Fatalf("%d %s", got.status, got.body)
		}
		all[i] = got.took
	}
	slices.Sort(all)
	return all
}

func ratio(these, those []time.Duration, percentile int) float64 {
	return float64(these[len(these)*percentile/100]) / float64(those[len(those)*percentile/100])
}

// load is how many calls of an upstream are under way, and wait.
func (d *sidecar) load(upstream string) [2]float64 {
	d.t.Helper()
	m, of := d.scrape(), fmt.Sprintf("{upstream=%q}", upstream)
	return [2]float64{m["fluentd_perf_in_flight"+of], m["fluentd_perf_queue_depth"+of]}
}
