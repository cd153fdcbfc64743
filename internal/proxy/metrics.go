package proxy

import (
	"cmp"
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
	refused   [refusalCount]prometheus.Counter
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
	}
	reg.MustRegister(m.durations, m.streams)
	refused := counter("fluentd_perf_refused_total", "Requests that reached no upstream, by reason.", "reason")
	for why := range refusalCount {
		m.refused[why] = refused.WithLabelValues(refusalNames[why])
	}
	return m
}

func (m *Metrics) countShed(upstream string, reason mcp.Reason, calls int) {
	m.shed.WithLabelValues(upstream, string(reason)).Add(float64(calls))
}

// upstreamMetrics are one upstream's handles, each looked up once: twice at most, by two that come together, which find the same.
type upstreamMetrics struct {
	name      string
	all       *Metrics
	streams   prometheus.Gauge
	requests  [labelCount][outcomeCount]atomic.Pointer[prometheus.Counter]
	durations [mcp.GroupCount]atomic.Pointer[prometheus.Observer]
}

func (m *Metrics) upstream(name string) *upstreamMetrics {
	return &upstreamMetrics{name: name, all: m, streams: m.streams.WithLabelValues(name)}
}

// count counts a request that has ended; hit says that the server was not asked for its answer.
func (u *upstreamMetrics) count(c *mcp.Call, o outcome, hit bool, took time.Duration) {
	u.requestCounter(labelOf(c), o).Inc()
	if !c.Lane.Long() {
		u.duration(groupOf(c, hit)).Observe(took.Seconds())
	}
}

func (u *upstreamMetrics) requestCounter(label int, o outcome) prometheus.Counter {
	slot := &u.requests[label][o]
	if slot.Load() == nil {
		c := u.all.requests.WithLabelValues(u.name, labelNames[label], o.String())
		slot.Store(&c)
	}
	return *slot.Load()
}

func (u *upstreamMetrics) duration(group mcp.Group) prometheus.Observer {
	slot := &u.durations[group]
	if slot.Load() == nil {
		o := u.all.durations.WithLabelValues(u.name, group.String())
		slot.Store(&o)
	}
	return *slot.Load()
}

// groupOf returns the label `kind` of a request.
func groupOf(c *mcp.Call, hit bool) mcp.Group {
	switch {
	case hit:
		return mcp.GroupHit
	case c.Lane == mcp.LaneRequest:
		return c.Method().Group()
	}
	return mcp.GroupOther
}

// Labels for what has no method, after those of the methods.
const (
	labelResponse = mcp.MethodCount + iota
	labelArray
	labelGet
	labelDelete
	labelMetadata
	labelCount
)

var labelNames = func() (names [labelCount]string) {
	for m := range mcp.MethodCount {
		names[m] = mcp.Method(m).String()
	}
	copy(names[labelResponse:], []string{"response", "rpc", "GET", "DELETE", "metadata"})
	return names
}()

// laneLabels are the labels of the lanes on which the method is none, or is not trusted. LaneArray is the last of the lanes.
var laneLabels = [mcp.LaneArray + 1]int{
	mcp.LaneResponse: labelResponse, mcp.LaneOpaque: int(mcp.MethodOther), mcp.LaneArray: labelArray,
	mcp.LaneStream: labelGet, mcp.LaneEnd: labelDelete, mcp.LaneFetch: labelMetadata,
}

// labelOf returns the call's place in the closed set of method labels.
func labelOf(c *mcp.Call) int { return cmp.Or(laneLabels[c.Lane], int(c.Method())) }

func methodLabel(c *mcp.Call) string { return labelNames[labelOf(c)] }
