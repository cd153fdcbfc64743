package redis

import "github.com/prometheus/client_golang/prometheus"

// Collector gives the pool's series, with pool="redis": fluentd_perf_open_connections, _idle_connections,
// _active_connections and _pool_connections_total by reused. They join the families of the other pools in the same
// registry, whose help texts have to be the same. One tier at a time can be registered.
func (t *Tier) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fluentd_perf_"+name, help, append([]string{"pool"}, labels...), nil)
	}
	return &collector{
		stats:       t.PoolStats,
		open:        desc("open_connections", "Connections that are open."),
		idle:        desc("idle_connections", "Open connections that nobody uses."),
		active:      desc("active_connections", "Calls and streams that hold a connection."),
		connections: desc("pool_connections_total", "Connections that requests were given, new ones and reused ones.", "reused"),
	}
}

type collector struct {
	stats                           func() PoolStats
	open, idle, active, connections *prometheus.Desc
}

// Describe implements prometheus.Collector. It describes nothing: a registry takes each description once, and those of
// other pools have it; what is collected is still checked against theirs.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, float64(v), append([]string{"redis"}, labels...)...)
	}
	send(c.open, prometheus.GaugeValue, s.Open)
	send(c.idle, prometheus.GaugeValue, s.Idle)
	send(c.active, prometheus.GaugeValue, s.Active)
	send(c.connections, prometheus.CounterValue, s.Fresh, "false")
	send(c.connections, prometheus.CounterValue, s.Reused, "true")
}
