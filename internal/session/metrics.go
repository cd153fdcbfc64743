package session

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the session stage's, for all upstreams. Make them once with NewMetrics.
type Metrics struct {
	reopens *prometheus.CounterVec
	heals   *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them; a nil registerer registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		reopens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_stream_reopens_total",
			Help: "Ends of attempts to re-open an agent's GET stream: reopened, refused by the server, or gave_up.",
		}, []string{"upstream", "result"}),
		heals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_session_heals_total",
			Help: "Sessions that their server had lost: healed, or why the loss was passed on.",
		}, []string{"upstream", "result"}),
	}
	if reg != nil {
		reg.MustRegister(m.reopens, m.heals)
	}
	return m
}

// Healed counts what became of a session of a server whose sessions are not a Stage's, by one of its results.
func (m *Metrics) Healed(upstream, result string) { m.heals.WithLabelValues(upstream, result).Inc() }
