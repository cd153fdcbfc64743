package window

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of all upstreams' windows. Make them once with NewMetrics.
type Metrics struct {
	sizes   *prometheus.HistogramVec
	dropped *prometheus.CounterVec
}

// NewMetrics makes fluentd_perf_batch_size by upstream and fluentd_perf_batch_dropped_total by upstream and reason, and
// registers them. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fluentd_perf_batch_size", Help: "Calls that went to the server in one array.",
			Buckets: []float64{2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}, []string{"upstream"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_batch_dropped_total",
			Help: "Messages in answers to arrays that nobody gets: answers to an unknown id or twice, unreadable ones, and what is no answer.",
		}, []string{"upstream", "reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.sizes, m.dropped)
	}
	return m
}

// meters are one upstream's handles.
type meters struct {
	size                                    prometheus.Observer
	unknown, duplicate, unreadable, message prometheus.Counter
}

func (m *Metrics) of(upstream string) meters {
	dropped := func(reason string) prometheus.Counter { return m.dropped.WithLabelValues(upstream, reason) }
	return meters{
		size: m.sizes.WithLabelValues(upstream), unknown: dropped("unknown"), duplicate: dropped("duplicate"),
		unreadable: dropped("unreadable"), message: dropped("message"),
	}
}
