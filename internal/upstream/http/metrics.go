package http

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

	mu    sync.Mutex // guards pools, and the gauges while they are read
	pools map[*pool]string

	open, idle, active *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them: fluentd_perf_active_connections, _open_connections,
// _idle_connections and _pool_connections_total by pool, which is the upstream's name or Options.PoolLabel, and
// fluentd_perf_upstream_duration_seconds by upstream and kind. It panics if they are registered already. A nil reg
// registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	const ns = "fluentd_perf"
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Name: name, Help: help}, []string{"pool"})
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
		open:   gauge("open_connections", "Connections that are open."),
		idle:   gauge("idle_connections", "Open connections that nobody uses."),
		active: gauge("active_connections", "Calls and streams that hold a connection."),
		pools:  map[*pool]string{},
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
	for _, v := range [...]*prometheus.GaugeVec{g.open, g.idle, g.active} {
		v.Describe(ch)
	}
}

// Collect implements prometheus.Collector. An upstream that was replaced and one that drains count together.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := [...]*prometheus.GaugeVec{g.open, g.idle, g.active}
	for _, v := range all {
		v.Reset()
	}
	for p, name := range g.pools {
		active := int(p.active.Load())
		open, idle := p.client.connections(active)
		g.open.WithLabelValues(name).Add(float64(open))
		g.active.WithLabelValues(name).Add(float64(active))
		g.idle.WithLabelValues(name).Add(float64(idle))
	}
	for _, v := range all {
		v.Collect(ch)
	}
}

// meters are one upstream's own series.
type meters struct {
	fresh, reused prometheus.Counter
	durations     prometheus.ObserverVec                              // by group
	byGroup       [mcp.GroupCount]atomic.Pointer[prometheus.Observer] // the same, found without hashing labels
}

// given counts a connection that a request was written to.
func (m *meters) given(reused bool) {
	if reused {
		m.reused.Inc()
	} else {
		m.fresh.Inc()
	}
}

// attach begins to count a pool and fills in its series.
func (m *Metrics) attach(name, label string, p *pool, to *meters) {
	m.mu.Lock()
	m.pools[p] = label
	m.mu.Unlock()
	to.fresh, to.reused = m.connections.WithLabelValues(label, "false"), m.connections.WithLabelValues(label, "true")
	to.durations = m.duration.MustCurryWith(prometheus.Labels{"upstream": name})
}

// detach ends the pool's gauges; counters and histograms stay, as series do.
func (m *Metrics) detach(p *pool) {
	m.mu.Lock()
	delete(m.pools, p)
	m.mu.Unlock()
}

// Answered counts an answer of a server without connections, by how long it took.
func (m *Metrics) Answered(upstream string, kind mcp.Group, took time.Duration) {
	m.duration.WithLabelValues(upstream, kind.String()).Observe(took.Seconds())
}

// observe counts one answer that came whole.
func (m *meters) observe(group mcp.Group, took time.Duration) {
	o := m.byGroup[group].Load()
	if o == nil {
		made := m.durations.WithLabelValues(group.String())
		o = &made
		m.byGroup[group].Store(o) // who came at the same time has made the same one
	}
	(*o).Observe(took.Seconds())
}
