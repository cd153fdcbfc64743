package sqldb

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// waits is how long calls waited for a connection.
type waits struct {
	all  *prometheus.HistogramVec
	pool prometheus.Observer
}

func newWaits(pool string) *waits {
	all := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "fluentd_perf", Name: "pool_wait_seconds", Buckets: mcp.DurationBuckets,
		Help: "How long those waited that had to wait for a connection.",
	}, []string{"pool"})
	return &waits{all: all, pool: all.WithLabelValues(pool)}
}

func (w *waits) observe(wait time.Duration) { w.pool.Observe(wait.Seconds()) }

// Collector gives the series of the file's connections, with pool="sqlite": fluentd_perf_open_connections,
// _idle_connections, _active_connections, _pool_connections_total by reused, and _pool_wait_seconds. They join the
// families of the other pools in the same registry, whose help texts have to be the same. One tier at a time can be
// registered.
func (s *SQLite) Collector() prometheus.Collector { return newCollector("sqlite", s.Pool, s.waits) }

// Collector gives the series of the pool, with pool="postgres": those that SQLite.Collector names.
func (p *Postgres) Collector() prometheus.Collector {
	return newCollector("postgres", p.Pool, p.waits)
}

type collector struct {
	pool                            string
	stats                           func() PoolStats
	waits                           *waits
	open, idle, active, connections *prometheus.Desc
}

func newCollector(pool string, stats func() PoolStats, w *waits) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fluentd_perf_"+name, help, append([]string{"pool"}, labels...), nil)
	}
	return &collector{
		pool: pool, stats: stats, waits: w,
		open:        desc("open_connections", "Connections that are open."),
		idle:        desc("idle_connections", "Open connections that nobody uses."),
		active:      desc("active_connections", "Calls and streams that hold a connection."),
		connections: desc("pool_connections_total", "Connections that requests were given, new ones and reused ones.", "reused"),
	}
}

// Describe implements prometheus.Collector. It describes nothing: a registry takes each description once, and those of
// other pools have it; what is collected is still checked against theirs.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, append([]string{c.pool}, labels...)...)
	}
	send(c.open, prometheus.GaugeValue, float64(s.Open))
	send(c.idle, prometheus.GaugeValue, float64(s.Idle))
	send(c.active, prometheus.GaugeValue, float64(s.Active))
	send(c.connections, prometheus.CounterValue, float64(s.Fresh), "false")
	send(c.connections, prometheus.CounterValue, float64(s.Reused), "true")
	c.waits.all.Collect(ch)
}
