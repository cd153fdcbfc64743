package cache

import (
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/cache/tier"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what came of asking a tier, or of a request: a closed set, since it is a label.
type outcome uint8

const (
	outcomeHit         outcome = iota // a fresh answer
	outcomeStale                      // an expired one, for want of another
	outcomeMiss                       // none
	outcomeError                      // the tier failed or was too slow
	outcomeSkipped                    // the tier was not asked: its breaker is open, or it has not been told of a change
	outcomeCollapsed                  // another caller's flight brought the answer
	outcomeStored                     // the server's answer was kept
	outcomeUncacheable                // the server's answer may not be kept
	outcomeBypass                     // a request that is none of the cache's
	outcomeCount
)

var outcomeNames = [outcomeCount]string{
	"hit", "stale", "miss", "error", "skipped", "collapsed", "stored", "uncacheable", "bypass",
}

// Labels of tiers. Outcomes of a request that no tier has a part in have the tier "none".
const (
	tierMemory = iota
	tierRedis
	tierDatabase
	tierNone
	tierCount
)

var tierNames = [tierCount]string{"memory", "redis", "database", "none"}

// tierLabel returns the label of a tier by its name, tierNone for one that is not known.
func tierLabel(name string) int {
	for i, known := range tierNames[:tierNone] {
		if known == name {
			return i
		}
	}
	return tierNone
}

// allowed says which outcomes a tier may have: the series that exist.
func allowed(tier int, o outcome) bool {
	switch {
	case tier == tierNone:
		return o >= outcomeCollapsed
	case tier == tierMemory:
		return o <= outcomeMiss
	}
	return o <= outcomeSkipped
}

// Metrics are the stage's, for all upstreams. Make them once with NewMetrics.
type Metrics struct {
	requests *prometheus.CounterVec
	writes   *prometheus.CounterVec
	entries  *prometheus.GaugeVec
	bytes    *prometheus.GaugeVec
	queue    *prometheus.GaugeVec
	evicted  *prometheus.CounterVec
	streams  *prometheus.GaugeVec
	bumps    *prometheus.CounterVec
	saved    *prometheus.CounterVec
	seconds  *prometheus.CounterVec
	followed *prometheus.CounterVec

	mu    sync.Mutex // guards the following
	looks []func()   // run before a scrape, for what is only known by looking
}

// NewMetrics makes the metrics and registers them. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_cache_requests_total", Help: "What came of asking a tier, and of each request to the cache.",
		}, []string{"upstream", "tier", "outcome"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_cache_writes_total", Help: "Entries for the tiers behind memory, by what became of them.",
		}, []string{"tier", "result"}),
		entries: tierGauge("cache_entries", "Entries that a tier holds, stale ones included; of a shared one, those that this daemon has written."),
		bytes:   tierGauge("cache_bytes", "Bytes that a tier holds; of a shared one, what this daemon has written."),
		queue:   tierGauge("cache_queue", "Entries that wait to be written behind."),
		evicted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_cache_evictions_total", Help: "Entries that went for want of room.",
		}, []string{"tier"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fluentd_perf_cache_listening", Help: "Streams of the daemon's own on which changes would come.",
		}, []string{"upstream"}),
		bumps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_cache_invalidations_total", Help: "Times that something made answers old, by cause.",
		}, []string{"upstream", "cause"}),
		saved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_saved_calls_total", Help: "Calls that the server was spared: hits, and answers of an equal call under way.",
		}, []string{"upstream"}),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fluentd_perf_saved_seconds_total", Help: "How long the server would have taken for them, by its own recent times.",
		}, []string{"upstream"}),
	}
	m.followed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_coalesced_total", Help: "Calls that were answered by an equal one under way.",
	}, []string{"upstream"})
	if reg != nil {
		reg.MustRegister(m)
	}
	return m
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.writes, m.entries, m.bytes, m.queue, m.evicted, m.streams, m.bumps, m.saved, m.seconds, m.followed}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	for _, look := range m.looks {
		look()
	}
	m.mu.Unlock()
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

// before has a scrape run look first.
func (m *Metrics) before(look func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks = append(m.looks, look)
}

func tierGauge(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fluentd_perf_" + name, Help: help}, []string{"tier"})
}

// meter is one series that can be read back.
type meter struct {
	n     atomic.Uint64
	shown prometheus.Counter // nil for a series that cannot be
}

func (m *meter) add(n uint64) {
	m.n.Add(n)
	m.shown.Add(float64(n))
}

func (m *meter) inc() {
	m.n.Add(1)
	m.shown.Inc()
}

// cause is why answers became old: a closed set, since it is a label.
type cause uint8

const (
	causeNotification cause = iota // the server said so
	causeCall                      // a tools/call may have changed them
	causeRefused                   // the server refused the credential
	causeServer                    // another server answers at the address
	causeCursor                    // the server refused a cursor: the pages are another list's
	causeStream                    // a stream on which changes would have come has ended
	causePurge                     // the operator said so
	causeCount
)

var causeNames = [causeCount]string{"notification", "call", "refused", "server", "cursor", "stream", "purge"}

// upstreamMetrics are one upstream's series, each looked up once.
type upstreamMetrics struct {
	requests [tierCount][outcomeCount]meter
	bumps    [causeCount]prometheus.Counter
	streams  prometheus.Gauge
	byTier   func(tier, outcome string) prometheus.Counter

	savedCalls, savedSeconds, coalesced prometheus.Counter
}

func (m *Metrics) upstream(name string) *upstreamMetrics {
	u := &upstreamMetrics{
		streams: m.streams.WithLabelValues(name), savedCalls: m.saved.WithLabelValues(name), savedSeconds: m.seconds.WithLabelValues(name), coalesced: m.followed.WithLabelValues(name),
		byTier: func(tier, outcome string) prometheus.Counter { return m.requests.WithLabelValues(name, tier, outcome) },
	}
	u.add(tierMemory)
	u.add(tierNone)
	for c := range causeCount {
		u.bumps[c] = m.bumps.WithLabelValues(name, causeNames[c])
	}
	return u
}

// add makes the series of a tier: there are none of one that is not there.
func (u *upstreamMetrics) add(tier int) {
	for o := range outcomeCount {
		if allowed(tier, o) {
			u.requests[tier][o].shown = u.byTier(tierNames[tier], outcomeNames[o])
		}
	}
}

func (u *upstreamMetrics) count(tier int, o outcome) { u.requests[tier][o].inc() }

func (u *upstreamMetrics) counted(tier int, o outcome) uint64 { return u.requests[tier][o].n.Load() }

func (u *upstreamMetrics) bumped(c cause) { u.bumps[c].Inc() }

// tierMetrics are one tier's series.
type tierMetrics struct {
	written, dropped, failed meter
	entries, bytes, queued   prometheus.Gauge
	all                      *Metrics
	name                     string

	mu      sync.Mutex
	evicted int64 // so far
}

func (m *Metrics) tier(name string) *tierMetrics {
	t := &tierMetrics{
		entries: m.entries.WithLabelValues(name), bytes: m.bytes.WithLabelValues(name), all: m, name: name,
	}
	if name != tierNames[tierMemory] {
		t.queued = m.queue.WithLabelValues(name)
		t.written.shown = m.writes.WithLabelValues(name, "written")
		t.dropped.shown = m.writes.WithLabelValues(name, "dropped")
		t.failed.shown = m.writes.WithLabelValues(name, "failed")
	}
	return t
}

func (t *tierMetrics) show(s tier.Stats) {
	t.entries.Set(float64(s.Entries))
	t.bytes.Set(float64(s.Bytes))
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Evictions > t.evicted { // a tier that does not know has no series
		t.all.evicted.WithLabelValues(t.name).Add(float64(s.Evictions - t.evicted))
		t.evicted = s.Evictions
	}
}
