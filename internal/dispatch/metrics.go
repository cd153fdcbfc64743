package dispatch

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what is sent a second time. Make them once with NewMetrics.
type Metrics struct{ retries *prometheus.CounterVec }

// NewMetrics makes and registers fluentd_perf_retries_total by upstream and reason. It panics if it is registered already. A
// nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{retries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_retries_total",
		Help: "Calls that were sent a second time, by what was wrong with the first, and those for which the budget was spent.",
	}, []string{"upstream", "reason"})}
	if reg != nil {
		reg.MustRegister(m.retries)
	}
	return m
}

// retryMeter is one upstream's series of fluentd_perf_retries_total, by reason.
type retryMeter map[string]prometheus.Counter

func (m *Metrics) retry(upstream string) retryMeter {
	meter := retryMeter{}
	for _, reason := range resendReasons {
		meter[reason] = m.retries.WithLabelValues(upstream, reason)
	}
	return meter
}

func (m retryMeter) count(reason string) { m[reason].Inc() }
