package tier

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// PoolStats says how the connections of a tier are used.
type PoolStats struct {
	Open, Idle, Active int   // connections now: all, those that nobody uses, those in a call
	Fresh, Reused      int64 // calls that a connection was made for, and calls that found one, since the tier was opened
}

// PoolMetrics is the collector of the series of a tier's connections, by pool: fluentd_perf_open_connections,
// _idle_connections, _active_connections, _pool_connections_total by reused, and _pool_wait_seconds. They join the families
// of the other pools in the same registry, whose help texts have to be the same. One tier of a name at a time can be
// registered.
type PoolMetrics struct {
	labels prometheus.Labels
	stats  func() PoolStats
	waits  prometheus.Histogram
}

// NewPoolMetrics makes the series of a pool, whose stats are asked for at every scrape.
func NewPoolMetrics(pool string, stats func() PoolStats) *PoolMetrics {
	labels := prometheus.Labels{"pool": pool}
	return &PoolMetrics{labels, stats, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "fluentd_perf_pool_wait_seconds", Buckets: mcp.DurationBuckets, ConstLabels: labels,
		Help: "How long those waited that had to wait for a connection.",
	})}
}

// Waited notes that a call waited for a connection.
func (m *PoolMetrics) Waited(wait time.Duration) { m.waits.Observe(wait.Seconds()) }

// Describe implements prometheus.Collector. It describes nothing: a registry takes each description once, and those of
// other pools have it; what is collected is still checked against theirs.
func (m *PoolMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *PoolMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.stats()
	send := func(kind prometheus.ValueType, name, help string, v float64, reused ...string) {
		desc := prometheus.NewDesc("fluentd_perf_"+name, help, []string{"reused"}[:len(reused)], m.labels)
		ch <- prometheus.MustNewConstMetric(desc, kind, v, reused...)
	}
	send(prometheus.GaugeValue, "open_connections", "Connections that are open.", float64(s.Open))
	send(prometheus.GaugeValue, "idle_connections", "Open connections that nobody uses.", float64(s.Idle))
	send(prometheus.GaugeValue, "active_connections", "Calls and streams that hold a connection.", float64(s.Active))
	const given = "Connections that requests were given, new ones and reused ones."
	send(prometheus.CounterValue, "pool_connections_total", given, float64(s.Fresh), "false")
	send(prometheus.CounterValue, "pool_connections_total", given, float64(s.Reused), "true")
	m.waits.Collect(ch)
}
