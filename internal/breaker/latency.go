package breaker

import (
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	latencySamples = 64 // of each method, the newest
	latencyLeast   = 20 // before which nothing is known
	latencyEvery   = 8  // samples, after which the percentile is worked out anew
)

// latencies remembers how long the last good answers to each method took.
type latencies struct {
	mu sync.Mutex // guards of and what it points to
	of [mcp.MethodCount]*latency
}

type latency struct {
	samples [latencySamples]time.Duration
	count   int // of all samples so far
	p95     time.Duration
}

func (l *latencies) add(m mcp.Method, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[m] == nil {
		l.of[m] = new(latency)
	}
	l.of[m].add(d)
}

// p95 returns the time in which 95 of a hundred answers came, and false while too few are known.
func (l *latencies) p95(m mcp.Method) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if of := l.of[m]; of != nil && of.count >= latencyLeast {
		return of.p95, true
	}
	return 0, false
}

func (l *latency) add(d time.Duration) {
	l.samples[l.count%latencySamples] = d
	l.count++
	if l.count < latencyLeast || l.count > latencyLeast && l.count%latencyEvery != 0 {
		return
	}
	known := l.samples
	sorted := known[:min(l.count, latencySamples)]
	slices.Sort(sorted)
	l.p95 = sorted[(len(sorted)*95+99)/100-1] // the least that 95 of a hundred do not exceed
}
