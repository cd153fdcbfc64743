package scenario_test

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/scenario"
	"fluentd-perf/internal/mcptest"
)

// TestClientThroughput: client_throughput has as many calls under way at once as it says. The server answers none of a load before that.
func TestClientThroughput(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const (
		requests = 1000
		warmUp   = requests / 10       // of each load, in which fewer may be under way
		ofLoad   = warmUp + 2*requests // the server directly, and again
		tooLong  = 30 * time.Second
	)
	counts := []int64{1, 10, 50, 100, 500}
	var calls, underWay atomic.Int64
	all := make([]chan struct{}, len(counts))
	reached := make([]sync.Once, len(counts))
	for i := range all {
		all[i] = make(chan struct{})
	}
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		defer x.Result(`{"tools":[]}`)
		n := calls.Add(1) - 1
		load := n / ofLoad
		if n%ofLoad < warmUp || load >= int64(len(counts)) {
			return
		}
		defer underWay.Add(-1)
		if underWay.Add(1) == counts[load] {
			reached[load].Do(func() { close(all[load]) })
		}
		select {
		case <-all[load]:
		case <-time.After(tooLong):
			t.Errorf("%d clients: %d calls under way", counts[load], underWay.Load())
		}
	})
	target, err := loadgen.NewTarget("http://"+s.Addr()+"/mcp", "")
	if err != nil {
		t.Fatal(err)
	}
	report, err := scenario.Run(t.Context(), scenario.Options{
		Scenario: "client_throughput", NoDaemon: true, Own: []string{program, ownServer}, Server: &scenario.Endpoint{Target: target}, Requests: requests, Rounds: 1,
	})
	if err != nil || len(report.Runs) != len(counts) || calls.Load() != int64(len(counts))*ofLoad {
		t.Fatalf("%v: %d loads, %d calls", err, len(report.Runs), calls.Load())
	}
}
