package breaker

import "github.com/prometheus/client_golang/prometheus"

// Metrics shows the breakers. Make them once with NewMetrics.
type Metrics struct {
	tiers *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them: fluentd_perf_tier_breaker_state by tier, 0 for closed, 1 for half-open,
// 2 for open. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{tiers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fluentd_perf_tier_breaker_state",
		Help: "Whether a cache tier is used (0), being tried (1) or left alone (2).",
	}, []string{"tier"})}
	if reg != nil {
		reg.MustRegister(m.tiers)
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
