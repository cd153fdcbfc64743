package breaker

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// Metrics shows the breakers. Make them once with NewMetrics.
type Metrics struct {
	tiers    *prometheus.GaugeVec
	circuits *prometheus.GaugeVec

	admission *admissionMetrics
	retries   *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them: fluentd_perf_tier_breaker_state by tier and fluentd_perf_breaker_state
// by upstream and endpoint, 0 for closed, 1 for half-open, 2 for open. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{tiers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fluentd_perf_tier_breaker_state",
		Help: "Whether a cache tier is used (0), being tried (1) or left alone (2).",
	}, []string{"tier"})}
	m.circuits = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fluentd_perf_breaker_state",
		Help: "Whether an endpoint of an upstream is called (0), being tried (1) or left alone (2).",
	}, []string{"upstream", "endpoint"})
	if reg != nil {
		reg.MustRegister(m.tiers, m.circuits)
	}
	m.admission = newAdmissionMetrics(reg)
	m.retries = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_retries_total",
		Help: "Calls that were sent a second time, by what was wrong with the first, and those for which the budget was spent.",
	}, []string{"upstream", "reason"})
	if reg != nil {
		reg.MustRegister(m.retries)
	}
	return m
}

// meter is one breaker's handle.
type meter struct{ state prometheus.Gauge }

func (m *Metrics) tier(name string) meter {
	h := meter{state: m.tiers.WithLabelValues(name)}
	h.show(Closed)
	return h
}

func (m *Metrics) circuit(upstream, endpoint string) meter {
	h := meter{state: m.circuits.WithLabelValues(upstream, endpoint)}
	h.show(Closed)
	return h
}

func (h meter) show(state string) {
	switch state {
	case Closed:
		h.state.Set(0)
	case HalfOpen:
		h.state.Set(1)
	case Open:
		h.state.Set(2)
	}
}

// admissionMetrics shows the queues. What is under way and what waits is read at the scrape.
type admissionMetrics struct {
	waits                   *prometheus.HistogramVec
	inFlightDesc, queueDesc *prometheus.Desc

	mu         sync.Mutex // guards admissions
	admissions map[*Admission]struct{}
}

// newAdmissionMetrics makes and registers fluentd_perf_in_flight, _queue_depth and _queue_wait_seconds, by upstream.
func newAdmissionMetrics(reg prometheus.Registerer) *admissionMetrics {
	labels := []string{"upstream"}
	m := &admissionMetrics{
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fluentd_perf_queue_wait_seconds", Buckets: mcp.DurationBuckets,
			Help: "How long those calls waited that had to wait for a slot, whatever came of it.",
		}, labels),
		inFlightDesc: prometheus.NewDesc("fluentd_perf_in_flight", "Calls that hold a slot of the upstream.", labels, nil),
		queueDesc:    prometheus.NewDesc("fluentd_perf_queue_depth", "Calls that wait for a slot of the upstream.", labels, nil),
		admissions:   map[*Admission]struct{}{},
	}
	if reg != nil {
		reg.MustRegister(m.waits, m)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *admissionMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.inFlightDesc
	ch <- m.queueDesc
}

// Collect implements prometheus.Collector. Two upstreams of a name, one that was replaced and its successor, count together.
func (m *admissionMetrics) Collect(ch chan<- prometheus.Metric) {
	type sum struct{ inFlight, queued int }
	sums := map[string]sum{}
	m.mu.Lock()
	for a := range m.admissions {
		inFlight, queued := a.Stats()
		s := sums[a.opts.Upstream]
		sums[a.opts.Upstream] = sum{s.inFlight + inFlight, s.queued + queued}
	}
	m.mu.Unlock()
	for name, s := range sums {
		ch <- prometheus.MustNewConstMetric(m.inFlightDesc, prometheus.GaugeValue, float64(s.inFlight), name)
		ch <- prometheus.MustNewConstMetric(m.queueDesc, prometheus.GaugeValue, float64(s.queued), name)
	}
}

// attach begins to show an Admission and returns its own series.
func (m *admissionMetrics) attach(name string, a *Admission) admissionMeter {
	m.mu.Lock()
	m.admissions[a] = struct{}{}
	m.mu.Unlock()
	return admissionMeter{m.waits.WithLabelValues(name)}
}

// detach ends the gauges; the histogram stays, as series do.
func (m *admissionMetrics) detach(a *Admission) {
	m.mu.Lock()
	delete(m.admissions, a)
	m.mu.Unlock()
}

// admissionMeter is one Admission's own series.
type admissionMeter struct{ wait prometheus.Observer }

func (h admissionMeter) waited(d time.Duration) { h.wait.Observe(d.Seconds()) }

// retryMeter is one upstream's handles of fluentd_perf_retries_total.
type retryMeter [resendCount]prometheus.Counter

func (m *Metrics) retry(upstream string) retryMeter {
	var h retryMeter
	for why, name := range resendNames {
		h[why] = m.retries.WithLabelValues(upstream, name)
	}
	return h
}

func (h *retryMeter) count(why resend) { h[why].Inc() }
