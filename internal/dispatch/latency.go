package dispatch

import (
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	latencySamples = 64 // of each method, the newest
	latencyLeast   = 20 // before which nothing is known
)

// latencies remembers how long the last good answers to each method took.
type latencies struct {
	mu sync.Mutex // guards of and what it points to
	of [mcp.MethodCount]*latency
}

type latency struct {
	samples [latencySamples]time.Duration
	count   int // of all samples so far
}

func (l *latencies) add(m mcp.Method, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[m] == nil {
		l.of[m] = new(latency)
	}
	of := l.of[m]
	of.samples[of.count%latencySamples] = d
	of.count++
}

// p95 returns the time in which 95 of a hundred answers came, and false while too few are known.
func (l *latencies) p95(m mcp.Method) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of[m]
	if of == nil || of.count < latencyLeast {
		return 0, false
	}
	known := of.samples
	sorted := known[:min(of.count, latencySamples)]
	slices.Sort(sorted)
	return sorted[(len(sorted)*95+99)/100-1], true // the least that 95 of a hundred do not exceed
}
