package e2e

import (
	"fmt"
	"testing"
)

// Every tier, for servers that say nothing of caching, and for those that do.
const (
	operatorTTL = `ttl: {server/discover: 60s, tools/list: 60s, prompts/list: 60s, resources/list: 60s, ` +
		`resources/templates/list: 60s, resources/read: 60s}`
	serverTTL = 60_000 // ms
)

// throughTiers starts a daemon with every tier in front of an upstream.
func throughTiers(t *testing.T, upstream, cache string) *sidecar {
	t.Helper()
	c := tiering{redis: redisAt(startRedis(t).url()), database: databaseAt(startPostgres(t).url()), cache: cache}
	return c.run(t, upstream, newPlaces(t))
}

// TestCacheConformance runs the official suites with every tier: with the operator's word on how long answers live, and
// with the server's. Each scenario counts what it counts directly.
//
// The suite of 2025-11-25 asks one thing again in one session once only: `server-sse-multiple-streams` sends three equal
// tools/list at the same time. Whether the second and the third are hits or take part in the first one's flight is then
// timing. In the runs of that suite they reach the daemon in turn, the second and the third once it hears the session's
// changes, so that the last one must be a hit: the key is the session's, and no other scenario has two equal questions in
// a session. What the scenario checks keeps its sense, in that each of the three is accepted with a 200, and that the
// answers which are streams, the first one's at least, carry an event; but not that the daemon answers them side by side.
// That is held by the runs of 2026-07-28 here, which have the same scenario, and by TestConformance, both with nothing
// between the suite and the daemon.
func TestCacheConformance(t *testing.T) {
	type way struct {
		name, suite, cache string
		start              func(server) server
		share              float64 // of the cacheable requests, that must be hits at least
		least              int     // hits
		inTurn             bool    // tools/list is
	}
	same := func(s server) server { return s }
	stated := func(s server) server { return withTTL(s, serverTTL) }
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
				d := throughTiers(t, w.start(c.start)(t), w.cache)
				endpoint := d.url("/mcp/s")
				if w.inTurn {
					endpoint = inTurn(t, endpoint, "tools/list")
				}
				c.judge(t, c.direct(t), c.run(t, endpoint))
				checkHits(t, d, w.share, w.least)
			}
		})
	}
}

// checkHits reads from the metrics which part of the requests that the cache could answer it did answer, and how many.
func checkHits(t *testing.T, d *sidecar, share float64, least int) {
	t.Helper()
	m := d.scrape()
	byTier := map[string]int{}
	hits := 0
	for _, tier := range []string{"memory", "redis", "database"} {
		byTier[tier] = m.asked(tier, "hit")
		hits += byTier[tier]
	}
	cacheable := m.asked("memory", "hit", "miss") + m.asked("none", "collapsed")
	got := float64(hits) / float64(max(cacheable, 1))
	t.Logf("%d hits of %d cacheable requests, %.0f %%: %s; %d collapsed, %d stored, %d bypassed", hits, cacheable, 100*got,
		fmt.Sprint(byTier), m.asked("none", "collapsed"), m.asked("none", "stored"), m.asked("none", "bypass"))
	if got < share {
		t.Errorf("%.0f %% are hits, want %.0f %% at least", 100*got, 100*share)
	}
	if hits < least {
		t.Errorf("%d hits, want %d at least", hits, least)
	}
}
