package daemon

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/upstream/stdio"
)

// The kinds of starts.
const (
	coldStart       = "cold"       // nothing was ready
	resolvedStart   = "resolved"   // of a package of npx's, from its install
	sharedStart     = "shared"     // none: a session was given a process that others have
	spareStart      = "spare"      // a process was ready that had been started ahead
	rememberedStart = "remembered" // none was needed
)

// startBuckets are seconds: a compiled program, an interpreter, a package that is downloaded first.
var startBuckets = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// processMetrics are those of the processes of stdio servers. What can be counted when it is asked for is counted then.
type processMetrics struct {
	pipelines func() []*pipeline
	starts    *prometheus.HistogramVec
	saved     *prometheus.CounterVec

	processes, memory, dropped, junk *prometheus.Desc
}

func newProcessMetrics(reg prometheus.Registerer, pipelines func() []*pipeline) *processMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fluentd_perf_"+name, help, append([]string{"upstream"}, labels...), nil)
	}
	m := &processMetrics{
		pipelines: pipelines,
		starts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fluentd_perf_process_start_seconds", Buckets: startBuckets,
			Help: "From asking for a process of a stdio server to its first answer, by kind.",
		}, []string{"upstream", "kind"}),
		saved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_process_start_saved_seconds_total",
			Help: "How much longer starts of a stdio server's processes would have taken, by kind: as long as the last one, less what was waited.",
		}, []string{"upstream", "kind"}),
		processes: desc("processes", "Processes of stdio servers, by state.", "state"),
		memory:    desc("process_resident_bytes", "Resident memory of a stdio server's processes and all that they started."),
		dropped:   desc("stderr_lines_dropped_total", "Lines of a stdio server's stderr that were left out of the log."),
		junk:      desc("junk_lines_total", "Lines of a stdio server's stdout that were no message."),
	}
	reg.MustRegister(m.starts, m.saved, m)
	return m
}

// startTimes are how long a server's processes take to start.
type startTimes struct {
	upstream string
	metrics  *processMetrics
	last     atomic.Int64 // time.Duration; 0: not known yet
}

// newStartTimes returns those of a server, whose cold starts are there before the first one.
func (m *processMetrics) newStartTimes(upstream string) *startTimes {
	m.starts.WithLabelValues(upstream, coldStart)
	return &startTimes{upstream: upstream, metrics: m}
}

// started takes the start of a process that has answered. One that nobody has waited for is counted when somebody takes it.
func (t *startTimes) started(kind string, took time.Duration, ahead bool) {
	t.last.Store(int64(took))
	if !ahead {
		t.metrics.starts.WithLabelValues(t.upstream, kind).Observe(took.Seconds())
	}
}

// ready counts what was there when it was asked for, by kind.
func (t *startTimes) ready(kind string, waited time.Duration) {
	t.metrics.starts.WithLabelValues(t.upstream, kind).Observe(waited.Seconds())
}

// saved counts what a start has not taken, by kind.
func (t *startTimes) saved(kind string, waited time.Duration) {
	t.metrics.saved.WithLabelValues(t.upstream, kind).Add(max(time.Duration(t.last.Load())-waited, 0).Seconds())
}

// Describe implements prometheus.Collector.
func (m *processMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{m.processes, m.memory, m.dropped, m.junk} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. The memory is read once for all servers: that is a walk through the process table.
func (m *processMetrics) Collect(ch chan<- prometheus.Metric) {
	var resident map[string]int64
	for _, p := range m.pipelines() {
		s := p.stdio
		if s == nil {
			continue
		}
		if resident == nil {
			resident = s.all.resident()
		}
		name := p.entry.Name
		by := map[stdio.State]int{}
		for _, u := range s.pool.Uses() {
			by[u.State]++
		}
		for _, state := range stdio.States {
			ch <- prometheus.MustNewConstMetric(m.processes, prometheus.GaugeValue, float64(by[state]), name, string(state))
		}
		ch <- prometheus.MustNewConstMetric(m.memory, prometheus.GaugeValue, float64(resident[name]), name)
		ch <- prometheus.MustNewConstMetric(m.dropped, prometheus.CounterValue, float64(s.all.guard.DroppedLines(name)), name)
		ch <- prometheus.MustNewConstMetric(m.junk, prometheus.CounterValue, float64(s.pool.Status().Junk), name)
	}
}

// resident returns the memory of each server.
func (p *processes) resident() map[string]int64 {
	by := map[string]int64{}
	for one, use := range p.guard.Usage(false) {
		by[one.Name()] += use.RSS
	}
	return by
}
