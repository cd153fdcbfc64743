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
	c := tiering{redis: redisAt(startRedis(t).url()), database: sqliteFile, cache: cache}
	return c.run(t, upstream, newPlaces(t))
}

// TestCacheConformance runs the official suites with every tier: with the operator's word on how long answers live, and
// with the server's. Each scenario counts what it counts directly.
func TestCacheConformance(t *testing.T) {
	type way struct {
		name, suite, cache string
		start              func(server) server
		least              float64 // of the cacheable requests, that must be hits
	}
	same := func(s server) server { return s }
	stated := func(s server) server { return withTTL(s, serverTTL) }
	for _, w := range []way{
		{"operator", "2025-11-25", operatorTTL, same, 0},
		{"operator", "2026-07-28", operatorTTL, same, 0.3},
		{"operator", "0.1.16", operatorTTL, same, 0},
		{"server", "2025-11-25", "", stated, 0},
		{"server", "2026-07-28", "", stated, 0.3},
	} {
		t.Run(w.suite+"/"+w.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range conformances {
				if c.name != w.suite {
					continue
				}
				d := throughTiers(t, w.start(c.start)(t), w.cache)
				c.judge(t, c.direct(t), c.run(t, d.url("/mcp/s")))
				checkHits(t, d, w.least, c.name == "2025-11-25")
			}
		})
	}
}

// checkHits reads from the metrics which part of the requests that the cache could answer it did answer. The suite of
// 2025-11-25 asks the same thing in one session once only, three times at once: the second and the third are hits, or, if
// they come before the first one's answer, take part in it.
func checkHits(t *testing.T, d *sidecar, least float64, one bool) {
	t.Helper()
	m := d.scrape()
	byTier := map[string]int{}
	hits := 0
	for _, tier := range []string{"memory", "redis", "database"} {
		byTier[tier] = m.asked(tier, "hit")
		hits += byTier[tier]
	}
	cacheable := m.asked("memory", "hit", "miss") + m.asked("none", "collapsed")
	share := float64(hits) / float64(max(cacheable, 1))
	t.Logf("%d hits of %d cacheable requests, %.0f %%: %s; %d collapsed, %d stored, %d bypassed", hits, cacheable, 100*share,
		fmt.Sprint(byTier), m.asked("none", "collapsed"), m.asked("none", "stored"), m.asked("none", "bypass"))
	if share < least {
		t.Errorf("%.0f %% are hits, want %.0f %% at least", 100*share, 100*least)
	}
	if one && hits+m.asked("none", "collapsed") == 0 {
		t.Error("nothing came from the cache")
	}
}
