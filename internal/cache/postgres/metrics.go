package postgres

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// poolStats says how the connections are used.
type poolStats struct {
	open, idle, active int32 // connections now; the one that listens is not counted
	fresh, reused      int64 // connections that calls were given, since the tier was opened
}

// metrics are the series of a tier's pool.
type metrics struct {
	stats func() poolStats
	waits prometheus.Histogram
}

var poolLabel = prometheus.Labels{"pool": "postgres"}

func newMetrics(stats func() poolStats) *metrics {
	return &metrics{stats: stats, waits: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "fluentd_perf_pool_wait_seconds", Buckets: mcp.DurationBuckets, ConstLabels: poolLabel,
		Help: "How long those waited that had to wait for a connection.",
	})}
}

// waited notes that a call waited for a connection.
func (m *metrics) waited(wait time.Duration) { m.waits.Observe(wait.Seconds()) }

// Collector gives the series of the pool, with pool="postgres": fluentd_perf_open_connections,
// _idle_connections, _active_connections, _pool_connections_total by reused, and _pool_wait_seconds. They join the
// families of the other pools in the same registry, whose help texts have to be the same. One tier at a time can be
// registered.
func (t *Tier) Collector() prometheus.Collector { return t.metrics }

// Describe implements prometheus.Collector. It describes nothing: a registry takes each description once, and those of
// other pools have it; what is collected is still checked against theirs.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.stats()
	send := func(kind prometheus.ValueType, name, help string, v float64, labels ...string) {
		desc := prometheus.NewDesc("fluentd_perf_"+name, help, []string{"reused"}[:len(labels)], poolLabel)
		ch <- prometheus.MustNewConstMetric(desc, kind, v, labels...)
	}
	send(prometheus.GaugeValue, "open_connections", "Connections that are open.", float64(s.open))
	send(prometheus.GaugeValue, "idle_connections", "Open connections that nobody uses.", float64(s.idle))
	send(prometheus.GaugeValue, "active_connections", "Calls and streams that hold a connection.", float64(s.active))
	const given = "Connections that requests were given, new ones and reused ones."
	send(prometheus.CounterValue, "pool_connections_total", given, float64(s.fresh), "false")
	send(prometheus.CounterValue, "pool_connections_total", given, float64(s.reused), "true")
	m.waits.Collect(ch)
}
