package cache

import (
	"slices"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/cache/tier"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// outcome is what came of asking a tier, or of a request: a closed set, since it is a label.
type outcome uint8

const (
	outcomeHit         outcome = iota // a fresh answer
	outcomeStale                      // an expired one, for want of another
	outcomeMiss                       // none
	outcomeError                      // the tier failed or was too slow
	outcomeSkipped                    // the tier was not read: its breaker is open, or it has not been told of a change
	outcomeCollapsed                  // another caller's flight brought the answer
	outcomeStored                     // the server's answer was kept
	outcomeUncacheable                // the server's answer may not be kept
	outcomeBypass                     // a request that does not concern the cache
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

// tierLabel returns the label of a tier by its name. A new kind of tier has a row in each table here: it panics for one without.
func tierLabel(name string) int {
	i := slices.Index(tierNames[:], name)
	if i < 0 {
		panic("cache: the tier " + name + " has no label in metrics.go (this is a bug)")
	}
	return i
}

// outcomesOf says which outcomes a tier may have, from the first to the last: the series that exist.
var outcomesOf = [tierCount][2]outcome{
	tierMemory: {outcomeHit, outcomeMiss}, tierRedis: {outcomeHit, outcomeSkipped}, tierDatabase: {outcomeHit, outcomeSkipped},
	tierNone: {outcomeCollapsed, outcomeBypass},
}

// Metrics are the stage's, for all upstreams. Make them once with NewMetrics.
type Metrics struct {
	requests  *prometheus.CounterVec
	bumps     *prometheus.CounterVec
	saved     *prometheus.CounterVec
	seconds   *prometheus.CounterVec
	coalesced *prometheus.CounterVec
	scrape    scrape
}

// NewMetrics makes the metrics and registers them. A nil reg registers nothing.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	auto := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Name: "fluentd_perf_" + name, Help: help}, append([]string{"upstream"}, labels...))
	}
	m := &Metrics{
		requests:  counter("cache_requests_total", "What came of asking a tier, and of each request to the cache.", "tier", "outcome"),
		bumps:     counter("cache_invalidations_total", "Invalidations, by cause.", "cause"),
		saved:     counter("saved_calls_total", "Calls that the server was spared: hits, and answers of an equal call under way."),
		seconds:   counter("saved_seconds_total", "How long the server would have taken for them, by its own recent times."),
		coalesced: counter("coalesced_total", "Calls that were answered by an equal one under way."),
	}
	if reg != nil {
		reg.MustRegister(&m.scrape)
	}
	return m
}

// scrape looks at what the stores hold when it is asked.
type scrape struct {
	mu     sync.Mutex // guards the following
	stores []*Store
}

// What is only known by looking, at a scrape.
var (
	entriesDesc = tierDesc("cache_entries", "Entries that a tier holds, stale ones included; of a shared one, those that this daemon has written.")
	bytesDesc   = tierDesc("cache_bytes", "Bytes that a tier holds; of a shared one, what this daemon has written.")
	evictedDesc = tierDesc("cache_evictions_total", "Entries that were removed for want of room.")
	queueDesc   = tierDesc("cache_queue", "Entries that wait to be written behind.")
	writesDesc  = tierDesc("cache_writes_total", "Entries for the tiers behind memory, by what became of them.", "result")
	streamsDesc = upstreamDesc("cache_listening", "Streams of the daemon's own on which changes would come.")

	subscriptionsDesc = upstreamDesc("cache_subscriptions", "Credentials for which the daemon subscribes to changes.")
)

func tierDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fluentd_perf_"+name, help, append([]string{"tier"}, labels...), nil)
}

func upstreamDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("fluentd_perf_"+name, help, []string{"upstream"}, nil)
}

func (s *scrape) add(one *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores = append(s.stores, one)
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{entriesDesc, bytesDesc, evictedDesc, queueDesc, writesDesc, streamsDesc, subscriptionsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.stores {
		collect(ch, one)
	}
}

func collect(ch chan<- prometheus.Metric, s *Store) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	show := func(name string, held tier.Stats) {
		send(entriesDesc, prometheus.GaugeValue, float64(held.Entries), name)
		send(bytesDesc, prometheus.GaugeValue, float64(held.Bytes), name)
		if held.Evictions >= 0 { // a tier that does not know has no series
			send(evictedDesc, prometheus.CounterValue, float64(held.Evictions), name)
		}
	}
	show(tierNames[tierMemory], s.memory.Holds())
	workers, upstreams := s.parts()
	for _, w := range workers {
		name, r := w.Tier.Name(), w.Report()
		show(name, w.Holds())
		send(queueDesc, prometheus.GaugeValue, float64(r.Queue), name)
		send(writesDesc, prometheus.CounterValue, float64(r.Written), name, "written")
		send(writesDesc, prometheus.CounterValue, float64(r.Dropped), name, "dropped")
		send(writesDesc, prometheus.CounterValue, float64(r.Failed), name, "failed")
	}
	listening, subscribed := make(map[string]int), make(map[string]int) // an upstream that was replaced and its successor count together
	for _, u := range upstreams {
		credentials, streams := u.Subscribed()
		listening[u.opts.Name] += streams
		subscribed[u.opts.Name] += credentials
	}
	for name := range listening {
		send(streamsDesc, prometheus.GaugeValue, float64(listening[name]), name)
		send(subscriptionsDesc, prometheus.GaugeValue, float64(subscribed[name]), name)
	}
}

// meter is one series that can be read back.
type meter struct {
	n     atomic.Uint64
	shown prometheus.Counter // nil for a series that cannot be
}

func (m *meter) inc() {
	m.n.Add(1)
	m.shown.Inc()
}

// cause is of an invalidation: a closed set, since it is a label.
type cause uint8

const (
	causeNotification cause = iota // the server said so
	causeCall                      // a tools/call may have changed them
	causeRefused                   // the server refused the credential
	causeServer                    // another server at the address; a command's process that ended by itself, or with other files
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
	byTier   func(tier, outcome string) prometheus.Counter

	savedCalls, savedSeconds, coalesced prometheus.Counter
}

func (m *Metrics) upstream(name string) *upstreamMetrics {
	u := &upstreamMetrics{
		savedCalls: m.saved.WithLabelValues(name), savedSeconds: m.seconds.WithLabelValues(name), coalesced: m.coalesced.WithLabelValues(name),
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
	for o := outcomesOf[tier][0]; o <= outcomesOf[tier][1]; o++ {
		u.requests[tier][o].shown = u.byTier(tierNames[tier], outcomeNames[o])
	}
}

func (u *upstreamMetrics) count(tier int, o outcome) { u.requests[tier][o].inc() }

func (u *upstreamMetrics) counted(tier int, o outcome) uint64 { return u.requests[tier][o].n.Load() }

func (u *upstreamMetrics) bumped(c cause) { u.bumps[c].Inc() }
