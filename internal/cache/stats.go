package cache

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Stats is what the stage holds and has done since the start, for people: all upstreams and tiers at one moment, each
// number by itself exact.
type Stats struct {
	Tiers     []TierReport     `json:"tiers"`     // in the order in which they are read
	Upstreams []UpstreamReport `json:"upstreams"` // by name
}

// TierReport is one tier.
type TierReport struct {
	Tier      string `json:"tier"`      // memory, redis or database
	Entries   int64  `json:"entries"`   // of Redis and Postgres: what this daemon has written since its start; -1 where it is not known
	Bytes     int64  `json:"bytes"`     // likewise
	Evictions int64  `json:"evictions"` // entries that went for want of room; -1 where it is not known
	Hits      uint64 `json:"hits"`      // answers that it gave
	Misses    uint64 `json:"misses"`    // requests that it had no answer to
	Errors    uint64 `json:"errors"`    // reads that failed or took too long
	Skipped   uint64 `json:"skipped"`   // reads that were not made: the breaker was open, or an invalidation was pending
	Written   uint64 `json:"written"`   // entries
	Queue     int    `json:"queue"`     // entries that wait to be written behind
	Dropped   uint64 `json:"dropped"`   // entries that were not written: the queue was full, or the tier failed
	Pending   int    `json:"owed"`      // pending invalidations: generations of which the tier has not been told yet
	Breaker   string `json:"breaker"`   // closed, half-open or open; "" for memory
	Error     string `json:"error"`     // the last one, without secrets, or that other daemons' changes are not received; "" where there is none
}

// UpstreamReport is one upstream.
type UpstreamReport struct {
	Upstream  string            `json:"upstream"`
	Hits      map[string]uint64 `json:"hits"` // by tier
	Misses    uint64            `json:"misses"`
	Stale     uint64            `json:"stale"`           // expired answers served for want of a fresh one
	Collapsed uint64            `json:"collapsed"`       // answers of another caller's flight
	Bypass    uint64            `json:"bypass"`          // requests that are not for the cache
	Stored    uint64            `json:"stored"`          // answers kept
	Listening int               `json:"listening"`       // streams of the daemon's own on which changes would come
	Scope     *ScopeReport      `json:"scope,omitempty"` // of lists that legacy sessions may share; nil where none do
	Keys      []KeyReport       `json:"keys,omitempty"`
}

// KeyReport is one request: how often memory answered it, and by which method. What it is of is nobody's business.
type KeyReport struct {
	Method string `json:"method"`
	Key    string `json:"key"` // the first eight bytes, in hex
	Hits   uint64 `json:"hits"`
	Bytes  int    `json:"bytes"`
}

// parts are the tiers behind memory and the upstreams that there are by now.
func (s *Store) parts() ([]*slowTier, []*Stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slowTiers, s.upstreams
}

// Stats says what the tiers hold and what has become of requests. With detailed, it names the most used ones.
func (s *Store) Stats(_ context.Context, detailed bool) Stats {
	slow, upstreams := s.parts()
	inMemory := tierReport(upstreams, s.memory.Holds(), tierMemory)
	inMemory.Written = counted(upstreams, tierNone, outcomeStored)
	out := Stats{Tiers: []TierReport{inMemory}, Upstreams: make([]UpstreamReport, 0, len(upstreams))}
	for _, t := range slow {
		out.Tiers = append(out.Tiers, behindReport(upstreams, t))
	}
	for _, u := range upstreams {
		out.Upstreams = append(out.Upstreams, u.report(detailed))
	}
	slices.SortFunc(out.Upstreams, func(a, b UpstreamReport) int { return strings.Compare(a.Upstream, b.Upstream) })
	return out
}

// counted is how often something came of asking a tier, over all upstreams.
func counted(upstreams []*Stage, label int, o outcome) (n uint64) {
	for _, u := range upstreams {
		n += u.metrics.counted(label, o)
	}
	return n
}

func tierReport(upstreams []*Stage, held tier.Stats, label int) TierReport {
	return TierReport{
		Tier: tierNames[label], Entries: held.Entries, Bytes: held.Bytes, Evictions: held.Evictions,
		Hits: counted(upstreams, label, outcomeHit), Misses: counted(upstreams, label, outcomeMiss),
		Errors: counted(upstreams, label, outcomeError), Skipped: counted(upstreams, label, outcomeSkipped),
	}
}

func behindReport(upstreams []*Stage, t *slowTier) TierReport {
	r, w := tierReport(upstreams, t.Holds(), t.label), t.Report()
	r.Tier, r.Breaker = t.Tier.Name(), t.Breaker.State()
	r.Written, r.Dropped, r.Queue, r.Pending = w.Written, w.Dropped+w.Failed, w.Queue, w.Pending
	switch {
	case w.Err != nil:
		r.Error = w.Err.Error()
	case !t.Linked():
		r.Error = unlinked
	}
	return r
}

// unlinked is what is wrong with a shared tier whose calls work while its link does not stand.
const unlinked = "invalidations by other daemons are not received: copies of what they share are not used"

// Subscribed returns for how many credentials the upstream's changes are subscribed to, and how many streams are open for that.
func (u *Stage) Subscribed() (credentials, streams int) {
	return u.listener.Subscriptions(), u.listener.Streams()
}

func (u *Stage) report(detailed bool) UpstreamReport {
	m := u.metrics
	r := UpstreamReport{
		Upstream: u.opts.Name, Misses: m.counted(tierMemory, outcomeMiss), Stale: m.counted(tierMemory, outcomeStale),
		Hits:      map[string]uint64{tierNames[tierMemory]: m.counted(tierMemory, outcomeHit)},
		Collapsed: m.counted(tierNone, outcomeCollapsed), Bypass: m.counted(tierNone, outcomeBypass),
		Stored: m.counted(tierNone, outcomeStored), Listening: u.listener.Streams(),
	}
	for _, t := range u.store.slowTiers {
		hits := m.counted(t.label, outcomeHit)
		r.Hits[t.Tier.Name()] = hits
		r.Stale += m.counted(t.label, outcomeStale)
		r.Misses -= min(r.Misses, hits) // memory's misses that another tier made good
	}
	r.Misses -= min(r.Misses, r.Stale) // and those for which an expired answer was served instead
	if scope := u.views.report(time.Now()); scope.Views > 0 {
		r.Scope = &scope
	}
	if detailed {
		r.Keys = u.keys()
	}
	return r
}

// maxKeys is how many requests a detailed report names per upstream.
const maxKeys = 20

// keys are the most used requests.
func (u *Stage) keys() []KeyReport {
	byKey := make(map[tier.Key]KeyReport)
	for i := range u.requests {
		for q := range u.requests[i].each {
			if hits := q.usage.hits.Load(); q.cacheable && hits > 0 {
				r := byKey[q.private.Key]
				byKey[q.private.Key] = KeyReport{
					Method: q.name, Key: fmt.Sprintf("%x", q.private.Key[:8]), Hits: r.Hits + hits, Bytes: max(r.Bytes, int(q.usage.size.Load())),
				}
			}
		}
	}
	all := slices.SortedFunc(maps.Values(byKey), func(a, b KeyReport) int {
		return cmp.Or(cmp.Compare(b.Hits, a.Hits), strings.Compare(a.Key, b.Key))
	})
	return all[:min(len(all), maxKeys)]
}
