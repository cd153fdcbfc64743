package batch

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of all Flights. Make them once with NewMetrics.
type Metrics struct {
	coalesced *prometheus.CounterVec
}

// NewMetrics makes fluentd_perf_coalesced_total, by upstream, and registers it. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{coalesced: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_coalesced_total", Help: "Calls that were answered by an equal one under way.",
	}, []string{"upstream"})}
	if reg != nil {
		reg.MustRegister(m.coalesced)
	}
	return m
}

// meters are one upstream's handles.
type meters struct{ coalesced prometheus.Counter }

func (m *Metrics) upstream(name string) meters {
	return meters{coalesced: m.coalesced.WithLabelValues(name)}
}
