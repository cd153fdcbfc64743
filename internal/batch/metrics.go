package batch

import "github.com/prometheus/client_golang/prometheus"

// Metrics are those of all Flights, Windows and Arrays. Make them once with NewMetrics.
type Metrics struct {
	coalesced *prometheus.CounterVec
	sizes     *prometheus.HistogramVec
	dropped   *prometheus.CounterVec
	rpcCalls  *prometheus.CounterVec
	rpcDrops  *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them: fluentd_perf_coalesced_total and fluentd_perf_batch_size by upstream, and
// fluentd_perf_batch_dropped_total by upstream and reason; of clients' arrays fluentd_perf_rpc_calls_total by upstream and
// outcome, and fluentd_perf_rpc_dropped_total by upstream. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		coalesced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_coalesced_total", Help: "Calls that were answered by an equal one under way.",
		}, []string{"upstream"}),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fluentd_perf_batch_size", Help: "Calls that travelled to the server in one array.",
			Buckets: []float64{2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}, []string{"upstream"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_batch_dropped_total",
			Help: "Messages in answers to arrays that nobody gets: answers to an unknown id or twice, unreadable ones, and what is no answer.",
		}, []string{"upstream", "reason"}),
		rpcCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_rpc_calls_total", Help: "Elements of clients' arrays, by upstream and outcome.",
		}, []string{"upstream", "outcome"}),
		rpcDrops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_rpc_dropped_total",
			Help: "What servers sent beside the answers to elements of clients' arrays: notifications, requests, second answers.",
		}, []string{"upstream"}),
	}
	if reg != nil {
		reg.MustRegister(m.coalesced, m.sizes, m.dropped, m.rpcCalls, m.rpcDrops)
	}
	return m
}

// meters are one upstream's handles.
type meters struct{ coalesced prometheus.Counter }

func (m *Metrics) upstream(name string) meters {
	return meters{coalesced: m.coalesced.WithLabelValues(name)}
}

// windowMeters are the handles of one upstream's Window.
type windowMeters struct {
	size                                    prometheus.Observer
	unknown, duplicate, unreadable, message prometheus.Counter
}

func (m *Metrics) window(name string) windowMeters {
	return windowMeters{
		size:    m.sizes.WithLabelValues(name),
		unknown: m.dropped.WithLabelValues(name, "unknown"), duplicate: m.dropped.WithLabelValues(name, "duplicate"),
		unreadable: m.dropped.WithLabelValues(name, "unreadable"), message: m.dropped.WithLabelValues(name, "message"),
	}
}

// arrayMeters are the handles of one upstream's Array.
type arrayMeters struct {
	answered, toolErrors, errors, failed, refused, notified, dropped prometheus.Counter
}

func (m *Metrics) array(name string) arrayMeters {
	calls := func(outcome string) prometheus.Counter { return m.rpcCalls.WithLabelValues(name, outcome) }
	return arrayMeters{
		answered: calls("ok"), toolErrors: calls("tool_error"), errors: calls("rpc_error"), failed: calls("failed"),
		refused: calls("refused"), notified: calls("notification"), dropped: m.rpcDrops.WithLabelValues(name),
	}
}
