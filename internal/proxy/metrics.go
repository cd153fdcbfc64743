package proxy

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcp"
)

// Metrics are the door's, for all upstreams. Make them once with NewMetrics.
type Metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	shed      *prometheus.CounterVec
	streams   *prometheus.GaugeVec
	refused   [refusalCount]prometheus.Counter
}

// NewMetrics makes the door's metrics and registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_requests_total", Help: "Requests of agents, by upstream, method and outcome.",
		}, []string{"upstream", "method", "outcome"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fluentd_perf_request_duration_seconds", Help: "From the head of an agent's request to the end of its answer; not for GET and listen streams.",
			Buckets:                     mcp.DurationBuckets,
			NativeHistogramBucketFactor: mcp.NativeFactor, NativeHistogramMaxBucketNumber: mcp.NativeBuckets,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"upstream", "kind"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_shed_total", Help: "Requests refused because a limit was reached, by upstream and reason.",
		}, []string{"upstream", "reason"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fluentd_perf_streams_open", Help: "Open GET and listen streams of agents.",
		}, []string{"upstream"}),
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_refused_total", Help: "Requests that the door did not let in, by reason.",
	}, []string{"reason"})
	reg.MustRegister(m.requests, m.durations, m.shed, m.streams, refused)
	for why := range refusalCount {
		m.refused[why] = refused.WithLabelValues(refusalNames[why])
	}
	return m
}

func (m *Metrics) shedding(upstream string, reason mcp.Reason, calls int) {
	m.shed.WithLabelValues(upstream, string(reason)).Add(float64(calls))
}

// upstreamMetrics are one upstream's handles, each looked up once.
type upstreamMetrics struct {
	name    string
	all     *Metrics
	streams prometheus.Gauge

	mu        sync.Mutex // guards the filling of the tables
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

func (u *upstreamMetrics) requestCounter(label int, o outcome) prometheus.Counter {
	slot := &u.requests[label][o]
	if c := slot.Load(); c != nil {
		return *c
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.all.requests.WithLabelValues(u.name, labelNames[label], o.String())
	slot.Store(&c)
	return c
}

func (u *upstreamMetrics) duration(group mcp.Group) prometheus.Observer {
	slot := &u.durations[group]
	if o := slot.Load(); o != nil {
		return *o
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	o := u.all.durations.WithLabelValues(u.name, group.String())
	slot.Store(&o)
	return o
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
	names[labelResponse], names[labelArray] = "response", "rpc"
	names[labelGet], names[labelDelete], names[labelMetadata] = "GET", "DELETE", "metadata"
	return names
}()

// labelOf returns the call's place in the closed set of method labels.
func labelOf(c *mcp.Call) int {
	switch c.Lane {
	case mcp.LaneResponse:
		return labelResponse
	case mcp.LaneOpaque:
		return int(mcp.MethodOther)
	case mcp.LaneArray:
		return labelArray
	case mcp.LaneStream:
		return labelGet
	case mcp.LaneEnd:
		return labelDelete
	case mcp.LaneFetch:
		return labelMetadata
	}
	return int(c.Method())
}

func methodLabel(c *mcp.Call) string { return labelNames[labelOf(c)] }

// outcome is what came of a request: a closed set, since it is a label.
type outcome uint8

const (
	outcomeOK outcome = iota
	outcomeRPCError
	outcomeHTTPError
	outcomeOpaque    // an answer to a request that the daemon did not understand, relayed as bytes
	outcomeResumable // a legacy stream ended early; its client resumes by Last-Event-ID
	outcomeSlowBody
	outcomeToolError // a result with isError
	outcomeFailed    // the first of those that are a failure's reason
)

var failureOutcomes = []mcp.Reason{
	mcp.ReasonParse, mcp.ReasonInvalidMessage, mcp.ReasonBodyTooLarge, mcp.ReasonPoolWait, mcp.ReasonTooManyStreams,
	mcp.ReasonTooManyCalls, mcp.ReasonConnect, mcp.ReasonBrokeOff, mcp.ReasonBadAnswer, mcp.ReasonRedirect,
	mcp.ReasonDraining, mcp.ReasonConnectTimeout, mcp.ReasonFirstByte, mcp.ReasonIdle, mcp.ReasonCallTimeout,
	mcp.ReasonCanceled, mcp.ReasonBreakerOpen, mcp.ReasonQueueFull, mcp.ReasonQueueWait, mcp.ReasonInFlight,
	mcp.ReasonSessionRestarted, mcp.ReasonSessionLost, mcp.ReasonRPCAnswers, mcp.ReasonRPCTimeout,
	mcp.ReasonBuffered,
}

// outcomeCount has room for every reason; a test holds that none is missing.
const outcomeCount = int(outcomeFailed) + 25

func (o outcome) String() string {
	switch o {
	case outcomeOK:
		return "ok"
	case outcomeRPCError:
		return "rpc_error"
	case outcomeHTTPError:
		return "http_error"
	case outcomeOpaque:
		return "opaque"
	case outcomeResumable:
		return "resumable"
	case outcomeSlowBody:
		return "slow_body"
	case outcomeToolError:
		return "tool_error"
	}
	return string(failureOutcomes[o-outcomeFailed])
}

func outcomeOfReason(r mcp.Reason) outcome {
	for i, known := range failureOutcomes {
		if known == r {
			return outcomeFailed + outcome(i)
		}
	}
	panic("proxy: the reason " + string(r) + " is in no list of outcomes (this is a bug)")
}

func outcomeOfStatus(status int) outcome {
	if status >= http.StatusBadRequest {
		return outcomeHTTPError
	}
	return outcomeOK
}

// outcomeOf is the outcome of a whole answer. What is no request has no answer in JSON-RPC, and the answer to an array of
// /rpc is the daemon's own.
func outcomeOf(lane mcp.Lane, res *mcp.Result) outcome {
	o := outcomeOfMessage(res.Message.Kind)
	if o == outcomeOpaque && (res.Status >= http.StatusBadRequest || !isAnswered(lane) || len(res.Body) == 0) {
		return outcomeOfStatus(res.Status)
	}
	return o
}

// isAnswered reports whether what comes on a lane has an answer in JSON-RPC.
func isAnswered(lane mcp.Lane) bool {
	return lane == mcp.LaneRequest || lane == mcp.LaneOpaque || lane == mcp.LaneListen
}

// outcomeOfRaw is the outcome of an answer that nobody has looked into. By its type a page is no JSON-RPC, whatever its
// status says; what is encoded, or too large to be looked into, may be.
func outcomeOfRaw(c *mcp.Call, res *mcp.Result) outcome {
	o := outcomeOfStatus(res.Status)
	if o != outcomeOK || !isAnswered(c.Lane) || c.Era == mcp.EraPlain || res.Header.Get("Content-Encoding") != "" {
		return o
	}
	media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "", "application/json", "text/event-stream":
		return o
	}
	return outcomeOpaque
}

// outcomeOfMessage is the outcome of an answer in JSON-RPC, of outcomeOpaque where it is none.
func outcomeOfMessage(k mcp.Kind) outcome {
	switch k {
	case mcp.KindResult:
		return outcomeOK
	case mcp.KindError:
		return outcomeRPCError
	}
	return outcomeOpaque
}
