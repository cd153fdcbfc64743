package monitor

import (
	"maps"
	"slices"
	"time"

	"fluentd-perf/internal/api"
)

// change is what happened at one upstream, or at several, in some time. Changes of times that follow each other can be added, and so
// can those of several upstreams.
type change struct {
	took time.Duration // over which it happened

	requests, failed, shed, retries uint64
	savedCalls, coalesced           uint64
	savedSeconds                    float64
	outcomes, methods               map[string]uint64
	hits                            map[string]uint64 // fresh answers by tier
	stale, collapsed, asked         uint64            // of requests that the cache could answer: asked is all of them
	durations, server               map[string]durations
}

// answered are the outcomes of requests that were answered as METRICS.md has it: by the server, by the cache or not any more.
var answered = []string{"ok", "tool_error", "rpc_error", "http_error", "opaque", "resumable", "canceled"}

// changeOf returns what happened at an upstream between two samples of the same daemon.
func changeOf(before, after *api.UpstreamSample, took time.Duration) change {
	c := change{
		took: took, shed: grown(before.Shed, after.Shed), retries: grown(before.Retries, after.Retries),
		savedCalls: grown(before.SavedCalls, after.SavedCalls), coalesced: grown(before.Coalesced, after.Coalesced),
		savedSeconds: after.SavedSeconds - before.SavedSeconds,
		outcomes:     grownAll(before.Requests, after.Requests), methods: grownAll(before.Methods, after.Methods),
		durations: grownKinds(before.Durations, after.Durations), server: grownKinds(before.Server, after.Server),
		hits: map[string]uint64{},
	}
	if c.savedSeconds < 0 {
		c.savedSeconds = after.SavedSeconds
	}
	for outcome, n := range c.outcomes {
		c.requests += n
		if !slices.Contains(answered, outcome) {
			c.failed += n
		}
	}
	c.addCache(before.Cache, after.Cache)
	return c
}

// addCache adds what the cache did. A request that it could answer is once in hit or miss of memory, or collapsed (METRICS.md).
func (c *change) addCache(before, after map[string]map[string]uint64) {
	for tier := range after {
		outcomes := grownAll(before[tier], after[tier])
		if hits := outcomes["hit"]; hits > 0 {
			c.hits[tier] += hits
		}
		c.stale += outcomes["stale"]
		c.collapsed += outcomes["collapsed"]
		if tier == "memory" {
			c.asked += outcomes["hit"] + outcomes["miss"]
		}
		c.asked += outcomes["collapsed"]
	}
}

// grown returns by how much a counter grew. One that is smaller than before began again in between, as Prometheus takes it.
func grown(before, after uint64) uint64 {
	if after < before {
		return after
	}
	return after - before
}

// grownAll returns those of the counters that grew, and by how much.
func grownAll(before, after map[string]uint64) map[string]uint64 {
	all := map[string]uint64{}
	for name, n := range after {
		if n = grown(before[name], n); n > 0 {
			all[name] = n
		}
	}
	return all
}

func grownKinds(before, after map[string]api.Histogram) map[string]durations {
	all := map[string]durations{}
	for kind, h := range after {
		if d := grownDurations(before[kind], h); d.count > 0 {
			all[kind] = d
		}
	}
	return all
}

// add puts to c what else happened, at the same time or at another; took is c's to say.
func (c *change) add(other *change) {
	c.requests, c.failed, c.shed, c.retries = c.requests+other.requests, c.failed+other.failed, c.shed+other.shed, c.retries+other.retries
	c.savedCalls, c.coalesced, c.savedSeconds = c.savedCalls+other.savedCalls, c.coalesced+other.coalesced, c.savedSeconds+other.savedSeconds
	c.stale, c.collapsed, c.asked = c.stale+other.stale, c.collapsed+other.collapsed, c.asked+other.asked
	addCounts(&c.outcomes, other.outcomes)
	addCounts(&c.methods, other.methods)
	addCounts(&c.hits, other.hits)
	addKinds(&c.durations, other.durations)
	addKinds(&c.server, other.server)
}

func addCounts(to *map[string]uint64, more map[string]uint64) {
	if *to == nil {
		*to = map[string]uint64{}
	}
	for name, n := range more {
		(*to)[name] += n
	}
}

func addKinds(to *map[string]durations, more map[string]durations) {
	if *to == nil {
		*to = map[string]durations{}
	}
	for kind, d := range more {
		sum := (*to)[kind]
		sum.add(d)
		(*to)[kind] = sum
	}
}

// allKinds returns the times of all requests.
func allKinds(kinds map[string]durations) (all durations) {
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		all.add(kinds[kind])
	}
	return all
}

// rate returns how many of n there were a second.
func (c *change) rate(n float64) float64 {
	if c.took <= 0 {
		return 0
	}
	return n / c.took.Seconds()
}

// hitShare returns which share of what the cache could answer it did answer; false where there was nothing.
func (c *change) hitShare() (float64, bool) {
	given := c.stale + c.collapsed
	for _, n := range c.hits {
		given += n
	}
	return share(given, c.asked)
}

// share returns n of all, at most 1: two counters are not read at the same moment.
func share(n, all uint64) (float64, bool) {
	if all == 0 {
		return 0, false
	}
	return min(float64(n)/float64(all), 1), true
}
