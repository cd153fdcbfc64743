package loadgen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// Allocations are what a daemon has allocated so far.
type Allocations struct{ Objects, Bytes float64 }

// errNoAllocations is returned where the answer to GET /metrics does not have them.
var errNoAllocations = errors.New("its /metrics does not tell its allocations")

// ReadAllocations asks a target that shows the metrics of a Go program, as a daemon's /metrics. Doing so allocates as well.
func ReadAllocations(ctx context.Context, t *Target) (Allocations, error) {
	at := t.With(mcp.EraPlain)
	p := NewClients(at)
	stop := context.AfterFunc(ctx, p.abort)
	defer stop()
	c := p.get()
	defer c.disconnect()
	if err := c.dial(ctx); err != nil {
		return Allocations{}, err
	}
	if _, err := c.exchange(ctx, []byte(at.head("GET", "", nil, 0))); err != nil {
		return Allocations{}, fmt.Errorf("its metrics: %w", err)
	}
	if c.answer.status != 200 {
		return Allocations{}, fmt.Errorf("its metrics: status %d", c.answer.status)
	}
	return parseAllocations(c.answer.body)
}

func parseAllocations(metrics []byte) (a Allocations, err error) {
	for line := range bytes.Lines(metrics) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		switch string(name) {
		case "go_memstats_mallocs_total":
			a.Objects, err = strconv.ParseFloat(string(value), 64)
		case "go_memstats_alloc_bytes_total":
			a.Bytes, err = strconv.ParseFloat(string(value), 64)
		}
		if err != nil {
			return Allocations{}, err
		}
	}
	if a.Objects == 0 || a.Bytes == 0 {
		return Allocations{}, errNoAllocations
	}
	return a, nil
}

// Meter measures what a load costs a process.
type Meter struct {
	pid     int     // 0: its CPU and memory are not known
	metrics *Target // nil: its allocations are not known
	reading Allocations
	cpu     time.Duration
	before  Allocations
	peak    int64
}

// NewMeter returns one for a process of this machine, 0 for none, and for the daemon at a target, nil for none. It asks the daemon
// twice for its /metrics, to leave out of every figure what being asked costs.
func NewMeter(ctx context.Context, pid int, daemon *Target) *Meter {
	m := &Meter{pid: pid}
	if daemon == nil {
		return m
	}
	metrics := *daemon
	metrics.Path, metrics.Limit = "/metrics", nil // which the daemon answers itself: the limit is for the server behind it, and its calls would be late
	daemon = &metrics
	for range 2 { // the first time buffers are made
		before, err := ReadAllocations(ctx, daemon)
		if err != nil {
			return m
		}
		after, err := ReadAllocations(ctx, daemon)
		if err != nil {
			return m
		}
		m.reading = Allocations{after.Objects - before.Objects, after.Bytes - before.Bytes}
	}
	m.metrics = daemon
	return m
}

// Begin takes the counts before a load.
func (m *Meter) Begin(ctx context.Context) {
	m.peak = 0
	if m.metrics != nil {
		m.before, _ = ReadAllocations(ctx, m.metrics) // without it End has none
	}
	m.cpu, _ = ProcessCPU(m.pid) // after it: reading is not part of the load
	m.Sample()
}

// Sample looks at the memory, for the peak.
func (m *Meter) Sample() {
	if m.pid != 0 {
		rss, _ := ProcessRSS(m.pid) // one that has ended has none
		m.peak = max(m.peak, rss)
	}
}

// End returns what a load of so many calls cost; nil where nothing is known.
func (m *Meter) End(ctx context.Context, calls int64) *Usage {
	m.Sample()
	u := new(Usage)
	n := float64(max(1, calls))
	if m.pid != 0 {
		cpu, err := ProcessCPU(m.pid)
		if err != nil {
			return nil
		}
		u.CPUSeconds = (cpu - m.cpu).Seconds()
		u.CPUUs = u.CPUSeconds * 1e6 / n
		u.RSS, _ = ProcessRSS(m.pid)
		u.PeakRSS = max(m.peak, u.RSS)
	}
	if m.metrics != nil && m.before.Objects > 0 {
		if after, err := ReadAllocations(ctx, m.metrics); err == nil {
			u.Allocs = max(0, after.Objects-m.before.Objects-m.reading.Objects) / n
			u.AllocBytes = max(0, after.Bytes-m.before.Bytes-m.reading.Bytes) / n
		}
	}
	if *u == (Usage{}) {
		return nil
	}
	return u
}
