package redis

import "github.com/prometheus/client_golang/prometheus"

// Collector gives the pool's series, with pool="redis": fluentd_perf_open_connections, _idle_connections,
// _active_connections and _pool_connections_total by reused. They join the families of the other pools in the same
// registry, whose help texts have to be the same. One tier at a time can be registered. It asks nobody. The connection that
// receives what other daemons bump is not counted.
func (t *Tier) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("fluentd_perf_"+name, help, append([]string{"pool"}, labels...), nil)
	}
	open := desc("open_connections", "Connections that are open.")
	idle := desc("idle_connections", "Open connections that nobody uses.")
	active := desc("active_connections", "Calls and streams that hold a connection.")
	connections := desc("pool_connections_total", "Connections that requests were given, new ones and reused ones.", "reused")
	return undescribed{func(ch chan<- prometheus.Metric) {
		s := t.client.PoolStats()
		send := func(d *prometheus.Desc, kind prometheus.ValueType, v uint32, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, float64(v), append([]string{name}, labels...)...)
		}
		send(open, prometheus.GaugeValue, s.TotalConns)
		send(idle, prometheus.GaugeValue, s.IdleConns)
		send(active, prometheus.GaugeValue, s.TotalConns-min(s.TotalConns, s.IdleConns))
		send(connections, prometheus.CounterValue, s.Misses, "false")
		send(connections, prometheus.CounterValue, s.Hits, "true")
	}}
}

// undescribed is a collector that describes nothing: a registry takes each description once, and those of other pools have
// it; what is collected is still checked against theirs.
type undescribed struct{ prometheus.CollectorFunc }

// Describe implements prometheus.Collector.
func (undescribed) Describe(chan<- *prometheus.Desc) {}
