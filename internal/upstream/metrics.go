package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// Metrics counts what all upstreams do. Series are made when an Upstream is, those of kinds at their first call.
type Metrics struct {
	connections *prometheus.CounterVec
	duration    *prometheus.HistogramVec

	openDesc, idleDesc, activeDesc *prometheus.Desc

	mu    sync.Mutex // guards pools
	pools map[*pool]string
}

// NewMetrics makes the metrics and registers them: fluentd_perf_active_connections, _open_connections,
// _idle_connections and _pool_connections_total by pool, which is the upstream's name, and
// fluentd_perf_upstream_duration_seconds by upstream and kind. It panics if they are registered already. A nil reg
// registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const ns = "fluentd_perf"
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(ns+"_"+name, help, []string{"pool"}, nil)
	}
	m := &Metrics{
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Name: "pool_connections_total",
			Help: "Connections that requests were given, new ones and reused ones.",
		}, []string{"pool", "reused"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: ns, Name: "upstream_duration_seconds", Buckets: mcp.DurationBuckets,
			NativeHistogramBucketFactor: mcp.NativeFactor, NativeHistogramMaxBucketNumber: mcp.NativeBuckets,
			NativeHistogramMinResetDuration: time.Hour,
			Help:                            "From sending a request to the whole of its answer.",
		}, []string{"upstream", "kind"}),
		openDesc:   desc("open_connections", "Connections that are open."),
		idleDesc:   desc("idle_connections", "Open connections that nobody uses."),
		activeDesc: desc("active_connections", "Calls and streams that hold a connection."),
		pools:      map[*pool]string{},
	}
	if reg != nil {
		reg.MustRegister(m.connections, m.duration, (*gauges)(m))
	}
	return m
}

// gauges reads the pools when it is asked, so that calls touch nothing but their own counters.
type gauges Metrics

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.openDesc
	ch <- g.idleDesc
	ch <- g.activeDesc
}

// Collect implements prometheus.Collector. An upstream that was replaced and one that drains count together.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	type sum struct{ open, active, idle int64 }
	sums := map[string]sum{}
	g.mu.Lock()
	for p, name := range g.pools {
		s, open, active := sums[name], p.open.Load(), p.active.Load()
		// A call counts as active for a moment longer than its connection is in use.
		sums[name] = sum{s.open + open, s.active + active, s.idle + max(open-active, 0)}
	}
	g.mu.Unlock()
	for name, s := range sums {
		ch <- prometheus.MustNewConstMetric(g.openDesc, prometheus.GaugeValue, float64(s.open), name)
		ch <- prometheus.MustNewConstMetric(g.idleDesc, prometheus.GaugeValue, float64(s.idle), name)
		ch <- prometheus.MustNewConstMetric(g.activeDesc, prometheus.GaugeValue, float64(s.active), name)
	}
}

// meters are one upstream's own series.
type meters struct {
	fresh, reused prometheus.Counter
	duration      *durations
}

// durations finds a group's series without hashing labels.
type durations struct {
	vec     prometheus.ObserverVec
	byGroup [mcp.GroupCount]atomic.Pointer[prometheus.Observer]
}

// attach begins to count a pool and returns its series.
func (m *Metrics) attach(name string, p *pool) meters {
	m.mu.Lock()
	m.pools[p] = name
	m.mu.Unlock()
	return meters{
		fresh:    m.connections.WithLabelValues(name, "false"),
		reused:   m.connections.WithLabelValues(name, "true"),
		duration: &durations{vec: m.duration.MustCurryWith(prometheus.Labels{"upstream": name})},
	}
}

// detach ends the pool's gauges; counters and histograms stay, as series do.
func (m *Metrics) detach(p *pool) {
	m.mu.Lock()
	delete(m.pools, p)
	m.mu.Unlock()
}

// observe counts one answer that came whole.
func (m *meters) observe(group mcp.Group, took time.Duration) {
	slot := &m.duration.byGroup[group]
	o := slot.Load()
	if o == nil {
		made := m.duration.vec.WithLabelValues(group.String())
		o = &made
		slot.Store(o) // who came at the same time has made the same one
	}
	(*o).Observe(took.Seconds())
}
