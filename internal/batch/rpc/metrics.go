package rpc

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of all upstreams' arrays. Make them once with NewMetrics.
type Metrics struct {
	calls, dropped *prometheus.CounterVec
}

// NewMetrics makes fluentd_perf_rpc_calls_total by upstream and outcome and fluentd_perf_rpc_dropped_total by upstream, and
// registers them. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_rpc_calls_total", Help: "Elements of clients' arrays, by upstream and outcome.",
		}, []string{"upstream", "outcome"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_rpc_dropped_total",
			Help: "What servers sent beside the answers to elements of clients' arrays: notifications, requests, second answers.",
		}, []string{"upstream"}),
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.dropped)
	}
	return m
}

// meters are one upstream's handles.
type meters struct {
	answered, toolErrors, errors, failed, refused, notified, dropped prometheus.Counter
}

func (m *Metrics) of(upstream string) meters {
	calls := func(outcome string) prometheus.Counter { return m.calls.WithLabelValues(upstream, outcome) }
	return meters{
		answered: calls("ok"), toolErrors: calls("tool_error"), errors: calls("rpc_error"), failed: calls("failed"), refused: calls("refused"),
		notified: calls("notification"), dropped: m.dropped.WithLabelValues(upstream),
	}
}
