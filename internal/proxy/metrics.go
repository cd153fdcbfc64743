package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// Metrics are the handler's, for all upstreams. Make them once with NewMetrics.
type Metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	shed      *prometheus.CounterVec
	streams   *prometheus.GaugeVec
	refused   *prometheus.CounterVec
}

// NewMetrics makes the handler's metrics and registers them. It panics where reg has metrics of their names.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	m := &Metrics{
		requests: counter("fluentd_perf_requests_total", "Requests of agents, by upstream, method and outcome.", "upstream", "method", "outcome"),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fluentd_perf_request_duration_seconds", Help: "From the head of an agent's request to the end of its answer; not for GET and listen streams.",
			Buckets:                     mcp.DurationBuckets,
			NativeHistogramBucketFactor: mcp.NativeFactor, NativeHistogramMaxBucketNumber: mcp.NativeBuckets,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"upstream", "kind"}),
		shed: counter("fluentd_perf_shed_total", "Requests refused because a limit was reached, by upstream and reason.", "upstream", "reason"),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fluentd_perf_streams_open", Help: "Open GET and listen streams of agents.",
		}, []string{"upstream"}),
		refused: counter("fluentd_perf_refused_total", "Requests that reached no upstream, by reason.", "reason"),
	}
	reg.MustRegister(m.durations, m.streams)
	for _, why := range refusals {
		m.refused.WithLabelValues(string(why))
	}
	return m
}

// count counts a request that has ended, which took so long.
func (m *Metrics) count(q *request, took time.Duration) {
	c, upstream := &q.call, q.upstream.Name
	m.requests.WithLabelValues(upstream, methodLabel(c), string(q.outcome)).Inc()
	if !c.Lane.Long() {
		m.durations.WithLabelValues(upstream, groupOf(c, q.hit).String()).Observe(took.Seconds())
	}
	switch f := q.failure; {
	case q.failed.Calls > 0:
		for reason, calls := range q.failed.Shed {
			m.shed.WithLabelValues(upstream, string(reason)).Add(float64(calls))
		}
	case f != nil && f.Code == mcp.CodeOverloaded:
		m.shed.WithLabelValues(upstream, string(f.Reason)).Inc()
	}
}

// groupOf returns the label `kind` of a request; hit says that the server was not asked for its answer.
func groupOf(c *mcp.Call, hit bool) mcp.Group {
	switch {
	case hit:
		return mcp.GroupHit
	case c.Lane == mcp.LaneRequest:
		return c.Method().Group()
	}
	return mcp.GroupOther
}

// methodLabel returns the label `method` of a call: one of a closed set, also where there is no method, or one that is not
// trusted.
func methodLabel(c *mcp.Call) string {
	switch c.Lane {
	case mcp.LaneResponse:
		return "response"
	case mcp.LaneOpaque:
		return mcp.MethodOther.String()
	case mcp.LaneArray:
		return "rpc"
	case mcp.LaneStream:
		return "GET"
	case mcp.LaneEnd:
		return "DELETE"
	case mcp.LaneFetch:
		return "metadata"
	}
	return c.Method().String()
}
