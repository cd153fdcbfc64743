//go:build !race

package http_test

import (
	"testing"

	"fluentd-perf/internal/mcp"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// maxAllocs is what a call may allocate, net/http's part included: of that, 52 are a bare RoundTrip's.
const maxAllocs = 70

func TestAllocationsPerCall(t *testing.T) {
	answer := answerOf(200)
	u := upstreamhttp.New(options(newFastServer(t, jsonHead(len(answer))+answer)))
	defer u.Close()
	c := onLane(mcp.LaneRequest, benchBody)
	c.Header = benchHeader()
	got := testing.AllocsPerRun(500, func() {
		closeResult(t, mustCall(t, u, c))
	})
	t.Logf("%v allocations", got)
	if got > maxAllocs {
		t.Errorf("%v allocations per call, at most %d", got, maxAllocs)
	}
}
