package breaker

import "github.com/prometheus/client_golang/prometheus"

// Metrics shows the states of breakers. Make them once with NewMetrics.
type Metrics struct{ tiers, endpoints *prometheus.GaugeVec }

// NewMetrics makes the metrics and registers them: fluentd_perf_tier_breaker_state by tier and fluentd_perf_breaker_state
// by upstream and endpoint, 0 for closed, 1 for half-open, 2 for open. It panics if they are registered already.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := newMetrics()
	reg.MustRegister(m.tiers, m.endpoints)
	return m
}

func newMetrics() *Metrics {
	return &Metrics{
		tiers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fluentd_perf_tier_breaker_state",
			Help: "Whether a cache tier is used (0), being tried (1) or not called, its circuit open (2).",
		}, []string{"tier"}),
		endpoints: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fluentd_perf_breaker_state",
			Help: "Whether an endpoint of an upstream is called (0), being tried (1) or not called, its circuit open (2).",
		}, []string{"upstream", "endpoint"}),
	}
}

// gauge is the series of one breaker.
type gauge = prometheus.Gauge

func show(g gauge, state string) {
	g.Set(map[string]float64{Closed: 0, HalfOpen: 1, Open: 2}[state])
}
