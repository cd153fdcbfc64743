package proxy

import (
	"sync/atomic"
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

// meters are one upstream's series. Those that nearly every request counts are found once: to hash their labels costs more than to
// count.
type meters struct {
	*Metrics
	upstream  string
	good      [mcp.MethodCount]atomic.Pointer[prometheus.Counter] // requests with outcome ok, by method
	durations [mcp.GroupCount]atomic.Pointer[prometheus.Observer] // by kind
}

// found returns a series, which find finds the first time.
func found[T any](at *atomic.Pointer[T], find func() T) T {
	if known := at.Load(); known != nil {
		return *known
	}
	series := find()
	at.Store(&series) // who comes at the same time has found the same one
	return series
}

// count counts a request that has ended, which took so long.
func (m *meters) count(q *request, took time.Duration) {
	c := &q.call
	m.requestsOf(c, q.outcome).Inc()
	if !c.Lane.Long() {
		kind := groupOf(c, q.hit)
		found(&m.durations[kind], func() prometheus.Observer {
			return m.Metrics.durations.WithLabelValues(m.upstream, kind.String())
		}).Observe(took.Seconds())
	}
	switch f := q.failure; {
	case q.failed.Calls > 0:
		for reason, calls := range q.failed.Shed {
			m.shed.WithLabelValues(m.upstream, string(reason)).Add(float64(calls))
		}
	case f != nil && f.Code == mcp.CodeOverloaded:
		m.shed.WithLabelValues(m.upstream, string(f.Reason)).Inc()
	}
}

func (m *meters) requestsOf(c *mcp.Call, o outcome) prometheus.Counter {
	find := func() prometheus.Counter { return m.requests.WithLabelValues(m.upstream, methodLabel(c), string(o)) }
	if c.Lane != mcp.LaneRequest || o != outcomeOK {
		return find()
	}
	return found(&m.good[c.Method()], find)
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
