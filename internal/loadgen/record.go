package loadgen

import (
	"maps"
	"runtime"
	"sync"
	"time"
)

// cell holds the times of the calls of one kind with one cache outcome.
type cell struct{ service, intended *Histogram }

// shard is a part of a record, for some of the clients: a histogram for each client would take too much memory.
type shard struct {
	mu    sync.Mutex // guards the following
	cells [][cacheOutcomes]cell
	tallyCounts
}

// tallyCounts are the counts of calls.
type tallyCounts struct {
	succeeded, failed int64
	faults            map[string]int64
	firstFault        string
	late              int64
}

// record is what the calls of a run come to while it goes on.
type record struct {
	shards []*shard
	open   bool // the time from the intended send is kept, too
}

func newRecord(kinds int, open bool) *record {
	r := &record{shards: make([]*shard, 2*runtime.GOMAXPROCS(0)), open: open}
	for i := range r.shards {
		r.shards[i] = &shard{cells: make([][cacheOutcomes]cell, kinds), tallyCounts: tallyCounts{faults: make(map[string]int64)}}
	}
	return r
}

// lateAfter is how long after it was meant to be sent a call of an open loop is late.
const lateAfter = 10 * time.Millisecond

// count records one call. due is when it was meant to be sent.
func (r *record) count(worker, kind int, cache cacheOutcome, due time.Time, t timing, f *fault) {
	s := r.shards[worker%len(r.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.sent.Sub(due) > lateAfter {
		s.late++
	}
	if f != nil {
		s.failed++
		s.faults[f.reason]++
		if s.firstFault == "" {
			s.firstFault = f.reason + ": " + f.detail
		}
		return
	}
	s.succeeded++
	s.time(kind, cache, t.done.Sub(t.sent))
	if r.open {
		c := &s.cells[kind][cache]
		if c.intended == nil {
			c.intended = NewHistogram()
		}
		c.intended.Record(t.done.Sub(due))
	}
}

// part records the time of one step of a call, which counts as no call.
func (r *record) part(worker, kind int, cache cacheOutcome, took time.Duration) {
	s := r.shards[worker%len(r.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.time(kind, cache, took)
}

func (s *shard) time(kind int, cache cacheOutcome, took time.Duration) {
	c := &s.cells[kind][cache]
	if c.service == nil {
		c.service = NewHistogram()
	}
	c.service.Record(took)
}

// tally adds up what the shards have.
func (r *record) tally(kinds []tallyKind) *Tally {
	t := &Tally{kinds: kinds, tallyCounts: tallyCounts{faults: make(map[string]int64)}}
	for _, s := range r.shards {
		t.add(&Tally{kinds: kindsWith(kinds, s.cells), tallyCounts: s.tallyCounts})
	}
	return t
}

func kindsWith(kinds []tallyKind, cells [][cacheOutcomes]cell) []tallyKind {
	with := make([]tallyKind, len(kinds))
	for i, k := range kinds {
		with[i] = tallyKind{name: k.name, part: k.part, cells: cells[i]}
	}
	return with
}

// Tally is what a load came to, with all its times. Tallies of the same work can be added up.
type Tally struct {
	kinds   []tallyKind
	seconds float64
	dropped int64
	opened  int64
	curve   []Point
	tallyCounts
}

type tallyKind struct {
	name  string
	part  bool
	cells [cacheOutcomes]cell
}

// Sum adds up tallies of the same work. It has no curve.
func Sum(all ...*Tally) *Tally {
	sum := &Tally{tallyCounts: tallyCounts{faults: make(map[string]int64)}}
	for _, t := range all {
		if sum.kinds == nil {
			sum.kinds = kindsWith(t.kinds, make([][cacheOutcomes]cell, len(t.kinds)))
		}
		sum.add(t)
	}
	return sum
}

func (t *Tally) add(other *Tally) {
	for i := range other.kinds {
		for outcome := range other.kinds[i].cells {
			to, from := &t.kinds[i].cells[outcome], &other.kinds[i].cells[outcome]
			to.service, to.intended = merged(to.service, from.service), merged(to.intended, from.intended)
		}
	}
	t.seconds += other.seconds
	t.dropped += other.dropped
	t.opened += other.opened
	t.succeeded += other.succeeded
	t.failed += other.failed
	t.late += other.late
	if t.firstFault == "" {
		t.firstFault = other.firstFault
	}
	for reason, n := range other.faults {
		t.faults[reason] += n
	}
}

// merged adds a histogram to one that is made where it is missing.
func merged(to, from *Histogram) *Histogram {
	if from == nil {
		return to
	}
	if to == nil {
		to = NewHistogram()
	}
	to.Add(from)
	return to
}

// Succeeded returns how many calls got the right answer.
func (t *Tally) Succeeded() int64 { return t.succeeded }

// Requests returns how many calls were made.
func (t *Tally) Requests() int64 { return t.succeeded + t.failed }

// Times returns the service times, and those from the intended send, which is nil unless the loop was open.
func (t *Tally) Times() (service, intended *Histogram) {
	for _, k := range t.kinds {
		if k.part {
			continue
		}
		for _, c := range k.cells {
			service, intended = merged(service, c.service), merged(intended, c.intended)
		}
	}
	return service, intended
}

// Round returns the figures.
func (t *Tally) Round() Round {
	service, intended := t.Times()
	r := Round{
		Seconds: t.seconds, Requests: t.Requests(), Succeeded: t.succeeded, Failed: t.failed, FirstFault: t.firstFault,
		Late: t.late, Dropped: t.dropped, Opened: t.opened, Service: service.Latency(), Intended: intended.Latency(), Curve: t.curve,
	}
	if len(t.faults) > 0 {
		r.Faults = maps.Clone(t.faults)
	}
	if t.seconds > 0 {
		r.PerSecond = float64(t.succeeded) / t.seconds
	}
	t.byCache(&r)
	if len(t.kinds) > 1 {
		for _, k := range t.kinds {
			r.Kinds = append(r.Kinds, k.round())
		}
	}
	return r
}

// byCache tells hits from misses, where there is a cache that says so.
func (t *Tally) byCache(r *Round) {
	var hits, misses *Histogram
	for _, k := range t.kinds {
		if k.part {
			continue
		}
		r.Cache.add(k.counts())
		hits = merged(merged(hits, k.cells[cacheHit].service), k.cells[cacheCollapsed].service)
		misses = merged(merged(misses, k.cells[cacheMiss].service), k.cells[cacheNone].service)
	}
	if r.Cache.Hits+r.Cache.Collapsed+r.Cache.Misses > 0 {
		r.Hits, r.Misses = hits.Latency(), misses.Latency()
	}
}

func (k *tallyKind) counts() CacheCounts {
	n := func(outcome cacheOutcome) int64 {
		if h := k.cells[outcome].service; h != nil {
			return h.Count()
		}
		return 0
	}
	return CacheCounts{Hits: n(cacheHit), Collapsed: n(cacheCollapsed), Misses: n(cacheMiss), None: n(cacheNone)}
}

func (c *CacheCounts) add(other CacheCounts) {
	c.Hits += other.Hits
	c.Collapsed += other.Collapsed
	c.Misses += other.Misses
	c.None += other.None
}

func (k *tallyKind) round() KindRound {
	var service *Histogram
	for _, c := range k.cells {
		service = merged(service, c.service)
	}
	return KindRound{Name: k.name, Part: k.part, Cache: k.counts(), Service: service.Latency()}
}
