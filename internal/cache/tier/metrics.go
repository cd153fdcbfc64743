package tier

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// PoolStats says how the connections of a tier are used.
type PoolStats struct {
	Open, Idle, Active int   // connections now: all, those that nobody uses, those in a call
	Fresh, Reused      int64 // calls that a connection was made for, and calls that found one, since the tier was opened
}

// Pools shows the connections of tiers, by pool: fluentd_perf_open_connections, _idle_connections, _active_connections,
// _pool_connections_total by reused, and _pool_wait_seconds. They join the families of the other pools in the same registry,
// whose help texts have to be the same. A nil Pools shows nothing.
type Pools struct {
	mu  sync.Mutex // guards the following
	all []pool
}

// NewPools makes a Pools and registers it.
func NewPools(reg prometheus.Registerer) *Pools {
	p := new(Pools)
	reg.MustRegister(poolCollector{p})
	return p
}

// Add shows a pool, whose stats are asked for at every scrape, under a name that no other one has. waited is to be told how long a
// call waited that had to wait for a connection; without waits, for a pool that cannot tell, there is no _pool_wait_seconds.
func (p *Pools) Add(name string, stats func() PoolStats, waits bool) (waited func(time.Duration)) {
	if p == nil {
		return func(time.Duration) {}
	}
	one := pool{labels: prometheus.Labels{"pool": name}, stats: stats}
	waited = func(time.Duration) {}
	if waits {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fluentd_perf_pool_wait_seconds", Buckets: mcp.DurationBuckets, ConstLabels: one.labels,
			Help: "How long those waited that had to wait for a connection.",
		})
		one.waits = h
		waited = func(wait time.Duration) { h.Observe(wait.Seconds()) }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, one)
	return waited
}

// poolCollector is the collector of a Pools.
type poolCollector struct{ *Pools }

// Describe describes nothing: a registry takes each description once, and those of other pools have it; what is collected is
// still checked against theirs.
func (poolCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c poolCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.all {
		c.all[i].collect(ch)
	}
}

// pool is the connections of one tier.
type pool struct {
	labels prometheus.Labels
	stats  func() PoolStats
	waits  prometheus.Histogram // nil: nobody can tell
}

func (p *pool) collect(ch chan<- prometheus.Metric) {
	s := p.stats()
	send := func(kind prometheus.ValueType, name, help string, v float64, reused ...string) {
		desc := prometheus.NewDesc("fluentd_perf_"+name, help, []string{"reused"}[:len(reused)], p.labels)
		ch <- prometheus.MustNewConstMetric(desc, kind, v, reused...)
	}
	send(prometheus.GaugeValue, "open_connections", "Connections that are open.", float64(s.Open))
	send(prometheus.GaugeValue, "idle_connections", "Open connections that nobody uses.", float64(s.Idle))
	send(prometheus.GaugeValue, "active_connections", "Calls and streams that hold a connection.", float64(s.Active))
	const given = "Connections that requests were given, new ones and reused ones."
	send(prometheus.CounterValue, "pool_connections_total", given, float64(s.Fresh), "false")
	send(prometheus.CounterValue, "pool_connections_total", given, float64(s.Reused), "true")
	if p.waits != nil {
		p.waits.Collect(ch)
	}
}
