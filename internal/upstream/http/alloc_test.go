//go:build !race

package http_test

import (
	"testing"

	"fluentd-perf/internal/mcp"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// maxAllocs is what a call may allocate over internal/http1, and maxCompatAllocs over http.Transport, of which 52 are a bare
// RoundTrip's.
const (
	maxAllocs       = 5
	maxCompatAllocs = 70
)

func TestAllocationsPerCall(t *testing.T) {
	answer := answerOf(200)
	server := newFastServer(t, jsonHead(len(answer))+answer)
	for compat, most := range map[bool]float64{false: maxAllocs, true: maxCompatAllocs} {
		o := options(server)
		o.Compat = compat
		u := upstreamhttp.New(o)
		c := onLane(mcp.LaneRequest, benchBody)
		c.Header = benchHeader()
		got := testing.AllocsPerRun(500, func() {
			closeResult(t, mustCall(t, u, c))
		})
		t.Logf("compat %v: %v allocations", compat, got)
		if got > most {
			t.Errorf("compat %v: %v allocations per call, at most %v", compat, got, most)
		}
		u.Close()
	}
}
