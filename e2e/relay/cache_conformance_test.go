// The official suites count the same with every tier of the cache.

package relay

import (
	"fmt"
	"testing"

	"fluentd-perf/e2e/harness"
)

// Every tier, for servers that say nothing of caching, and for those that do: longer than a suite takes on a slow machine.
const (
	operatorTTL = `ttl: {server/discover: 30m, tools/list: 30m, prompts/list: 30m, resources/list: 30m, ` +
		`resources/templates/list: 30m, resources/read: 30m}`
	serverTTL = 1_800_000 // ms
)

// throughTiers starts a daemon with every tier in front of upstreams that have names.
func throughTiers(t *testing.T, upstreams map[string]string, cache string) *harness.Daemon {
	t.Helper()
	c := harness.Tiering{Redis: harness.RedisAt(harness.StartRedis(t).URL()), Database: harness.DatabaseAt(harness.StartPostgres(t).URL()), Cache: cache}
	return c.RunAll(t, upstreams, harness.NewFolders(t))
}

// TestCacheConformance runs the official suites with every tier: with the operator's word on how long answers live, and
// with the server's. Each scenario counts what it counts directly.
//
// The suite of 2025-11-25 asks one thing again in one session once only: `server-sse-multiple-streams` sends three equal
// tools/list at the same time. Whether the second and the third are hits or take part in the first one's flight is then
// timing. In the runs of that suite they reach the daemon in turn, the second and the third once it receives the session's
// changes, so that the last one must be a hit: the key is the session's, and no other scenario has two equal requests in
// a session. What the scenario checks keeps its sense, in that each of the three is accepted with a 200, and that the
// answers which are streams, the first one's at least, carry an event; but not that the daemon answers them side by side.
// That is held by the runs of 2026-07-28 here, which have the same scenario, and by TestConformance, both with nothing
// between the suite and the daemon.
func TestCacheConformance(t *testing.T) {
	type way struct {
		name, suite, cache string
		start              func(harness.Server) harness.Server
		share              float64 // of the cacheable requests, that must be hits at least
		least              int     // hits
		inTurn             bool    // tools/list is
	}
	same := func(s harness.Server) harness.Server { return s }
	stated := func(s harness.Server) harness.Server { return harness.WithTTL(s, serverTTL) }
	for _, w := range []way{
		{"operator", "2025-11-25", operatorTTL, same, 0, 1, true},
		{"operator", "2026-07-28", operatorTTL, same, 0.3, 1, false},
		{"operator", "0.1.16", operatorTTL, same, 0, 0, false},
		{"server", "2025-11-25", "", stated, 0, 1, true},
		{"server", "2026-07-28", "", stated, 0.3, 1, false},
	} {
		t.Run(w.suite+"/"+w.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range conformances {
				if c.name != w.suite {
					continue
				}
				d := throughTiers(t, map[string]string{"s": w.start(c.start)(t)}, w.cache)
				endpoint := d.URL("/mcp/s")
				if w.inTurn {
					endpoint = serialized(t, endpoint, "tools/list")
				}
				c.judge(t, c.directly(t), c.run(t, endpoint))
				checkHits(t, d, w.share, w.least)
			}
		})
	}
}

// checkHits reads from the metrics which part of the requests that the cache could answer it did answer, and how many.
func checkHits(t *testing.T, d *harness.Daemon, share float64, least int) {
	t.Helper()
	m := d.Scrape()
	byTier := map[string]int{}
	hits := 0
	for _, tier := range []string{"memory", "redis", "database"} {
		byTier[tier] = m.Asked(tier, "hit")
		hits += byTier[tier]
	}
	cacheable := m.Asked("memory", "hit", "miss") + m.Asked("none", "collapsed")
	got := float64(hits) / float64(max(cacheable, 1))
	t.Logf("%d hits of %d cacheable requests, %.0f %%: %s; %d collapsed, %d stored, %d bypassed", hits, cacheable, 100*got,
		fmt.Sprint(byTier), m.Asked("none", "collapsed"), m.Asked("none", "stored"), m.Asked("none", "bypass"))
	if got < share {
		t.Errorf("%.0f %% are hits, want %.0f %% at least", 100*got, 100*share)
	}
	if hits < least {
		t.Errorf("%d hits, want %d at least", hits, least)
	}
}
