//go:build linux

package bench

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/mcp"
)

// durations are how long calls took.
type durations struct{ *loadgen.Histogram }

// echo is the call that the benchmarks make of servers that are not the scripted one.
func echo() loadgen.Kind {
	return loadgen.ToolCall("echo", `{"text":"hello, this is an argument of the usual size","key":"`+loadgen.KeyMark+`"}`)
}

// callConcurrently makes calls over connections of its own, one after the other on each.
func callConcurrently(b *testing.B, addr, path string, connections, calls int, k loadgen.Kind) durations {
	b.Helper()
	p := loadgen.NewClients(plainTarget(b, addr, path))
	defer p.Close(b.Context())
	load := loadgen.Load{Loop: loadgen.Closed, Concurrency: connections, Requests: int64(connections * calls)}
	tally, err := p.Run(b.Context(), load, loadgen.Only(k), nil)
	if err != nil {
		b.Fatal(err)
	}
	if r := tally.Round(); r.Failed > 0 {
		b.Fatalf("%d calls failed: %s", r.Failed, r.FirstFault)
	}
	service, _ := tally.Times()
	return durations{service}
}

// plainTarget sends nothing of MCP but the messages: no session is opened.
func plainTarget(b *testing.B, addr, path string) *loadgen.Target {
	b.Helper()
	t, err := loadgen.NewTarget("http://"+addr+path, "")
	if err != nil {
		b.Fatal(err)
	}
	return t.With(mcp.EraPlain)
}

// at returns the percentile in µs.
func (c durations) at(percentile float64) float64 {
	return float64(c.At(percentile)) / float64(time.Microsecond)
}

// stick has agents call a server that does not answer, until leave is called, which waits for them.
func stick(b *testing.B, addr, path string, agents int) (leave func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := loadgen.NewClients(plainTarget(b, addr, path))
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = p.Run(ctx, loadgen.Load{Loop: loadgen.Closed, Concurrency: agents, Requests: int64(agents)}, loadgen.Only(echo()), nil) // ends with ctx
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// middle returns the median.
func middle(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
