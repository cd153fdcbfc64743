package admission

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// Metrics shows the queues. What is under way and what waits is read at the scrape.
type Metrics struct {
	queueWaits, poolWaits   *prometheus.HistogramVec
	inFlightDesc, queueDesc *prometheus.Desc

	mu         sync.Mutex // guards admissions
	admissions map[*Admission]struct{}
}

// observer is a histogram's series.
type observer = prometheus.Observer

// NewMetrics makes and registers fluentd_perf_in_flight, _queue_depth and _queue_wait_seconds by upstream, and
// fluentd_perf_pool_wait_seconds by pool, which is the upstream's name. It panics if they are registered already. A nil reg
// registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	waits := func(name, label, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "fluentd_perf", Name: name, Buckets: mcp.DurationBuckets, Help: help,
		}, []string{label})
	}
	labels := []string{"upstream"}
	m := &Metrics{
		queueWaits: waits("queue_wait_seconds", "upstream",
			"How long those calls waited that had to wait for a slot, whatever came of it."),
		poolWaits:    waits("pool_wait_seconds", "pool", "How long those waited that had to wait for a connection."),
		inFlightDesc: prometheus.NewDesc("fluentd_perf_in_flight", "Calls that hold a slot of the upstream.", labels, nil),
		queueDesc:    prometheus.NewDesc("fluentd_perf_queue_depth", "Calls that wait for a slot of the upstream.", labels, nil),
		admissions:   map[*Admission]struct{}{},
	}
	if reg != nil {
		reg.MustRegister(m.queueWaits, m.poolWaits, (*gauges)(m))
	}
	return m
}

// gauges reads the Admissions when it is asked.
type gauges Metrics

// Describe implements prometheus.Collector.
func (m *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.inFlightDesc
	ch <- m.queueDesc
}

// Collect implements prometheus.Collector. Two upstreams of a name, one that was replaced and its successor, count together.
func (m *gauges) Collect(ch chan<- prometheus.Metric) {
	inFlight, queued := map[string]int{}, map[string]int{}
	m.mu.Lock()
	for a := range m.admissions {
		i, q := a.Stats()
		inFlight[a.opts.Upstream] += i
		queued[a.opts.Upstream] += q
	}
	m.mu.Unlock()
	for name := range inFlight {
		ch <- prometheus.MustNewConstMetric(m.inFlightDesc, prometheus.GaugeValue, float64(inFlight[name]), name)
		ch <- prometheus.MustNewConstMetric(m.queueDesc, prometheus.GaugeValue, float64(queued[name]), name)
	}
}

// attach begins to show an Admission.
func (m *Metrics) attach(a *Admission) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.admissions[a] = struct{}{}
}

// detach ends the gauges; the histogram stays, as series do.
func (m *Metrics) detach(a *Admission) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.admissions, a)
}
