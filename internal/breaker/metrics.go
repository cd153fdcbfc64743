package breaker

import (
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// kind is what breakers are of: how they are shown and what the log says of them.
type kind struct {
	series       *prometheus.Desc
	labels       []string
	works, fails string
}

var (
	endpoints = newKind("fluentd_perf_breaker_state", "an endpoint of an upstream", kind{
		labels: []string{"upstream", "endpoint"},
		works:  "a server answers again",
		fails:  "a server failed too often and is not called, but for a probe from time to time",
	})
	tiers = newKind("fluentd_perf_tier_breaker_state", "a cache tier", kind{
		labels: []string{"tier"},
		works:  "a cache tier works again",
		fails:  "a cache tier failed too often and is not called, but for a probe every two seconds",
	})
)

func newKind(series, what string, k kind) *kind {
	k.series = prometheus.NewDesc(series, "Whether "+what+" is called (0), being tried (1) or not called, its circuit open (2).", k.labels, nil)
	return &k
}

// Metrics shows the states of breakers as they are at the scrape. Make them once with NewMetrics. nil shows nothing.
type Metrics struct {
	mu    sync.Mutex // guards shown; it is taken before a breaker's own
	shown map[*Breaker]struct{}
}

// NewMetrics makes the metrics and registers them: fluentd_perf_tier_breaker_state by tier and fluentd_perf_breaker_state
// by upstream and endpoint, 0 for closed, 1 for half-open, 2 for open. It panics if they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{shown: map[*Breaker]struct{}{}}
	reg.MustRegister((*gauges)(m))
	return m
}

// show begins to show a breaker. One of the same name, which it succeeds, is not shown any more.
func (m *Metrics) show(b *Breaker) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.shown, func(o *Breaker, _ struct{}) bool { return o.kind == b.kind && slices.Equal(o.names, b.names) })
	m.shown[b] = struct{}{}
}

// forget ends what show began, if no other breaker has succeeded this one.
func (m *Metrics) forget(b *Breaker) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.shown, b)
}

// gauges reads the states when it is asked.
type gauges Metrics

// Describe implements prometheus.Collector.
func (m *gauges) Describe(ch chan<- *prometheus.Desc) {
	ch <- endpoints.series
	ch <- tiers.series
}

// Collect implements prometheus.Collector. A breaker is shown half-open while a call tries: without calls it stays open.
func (m *gauges) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for b := range m.shown {
		ch <- prometheus.MustNewConstMetric(b.kind.series, prometheus.GaugeValue, b.level(), b.names...)
	}
}

func (b *Breaker) level() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.Closed():
		return 0
	case b.probe != 0:
		return 1
	}
	return 2
}
