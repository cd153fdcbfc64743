package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestTwoSharedTiers has two daemons share Redis and Postgres both: the one that hears of a change tells both, so that the other
// one shows it and nothing of before from either tier. Where the first one's way to a tier is cut, it tells that tier as soon as
// the way is back.
func TestTwoSharedTiers(t *testing.T) {
	for _, away := range []string{"redis", "database"} {
		t.Run(away+" away", func(t *testing.T) {
			t.Parallel()
			testTwoSharedTiers(t, away)
		})
	}
}

func testTwoSharedTiers(t *testing.T, away string) {
	r, s, key := startRedis(t), startPostgres(t), sharedKey(t)
	links := map[string]*link{"redis": startLink(t, r.addr()), "database": startLink(t, s.addr())}
	m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true})
	first := tiering{redis: brisk(r.urlAt(links["redis"].addr)), database: brisk(s.urlAt(links["database"].addr)), key: key}.run(t, m.url, newPlaces(t))
	second := tiering{redis: brisk(r.url()), database: brisk(s.url()), key: key, cache: "listen: off"}.run(t, m.url, newPlaces(t))
	p := &pairing{t: t, m: m, first: first, second: second, who: "ada"}

	p.ask(first, "tools/list", "ada")
	for tier := range links {
		first.awaitWritten(tier, 1)
	}
	within(t, 5*time.Second, "the first one hears of changes", func() bool { return m.listens("ada") == 1 })
	if got := p.ask(second, "tools/list", "ada"); got.tier() == "" {
		t.Fatalf("the second one does not share: %s", got.header.Get("Cache-Status"))
	}
	for i := range 3 { // each makes memory stale, so that the tiers are asked
		tool := fmt.Sprint("changed-", i)
		t.Logf("a change is shown by the second one after %v", p.change(tool).Round(time.Microsecond))
		for range 20 {
			if got := p.ask(second, "tools/list", "ada"); !slices.Contains(got.tools, tool) {
				t.Fatalf("what is stale again: %s", got.header.Get("Cache-Status"))
			}
		}
	}
	links[away].cut()
	p.m.addTool("while-away")
	links[away].restore()
	p.awaitTool("while-away")
	written := second.scrape().written(away, "written")
	within(t, 5*time.Second, "the second one uses both tiers", func() bool {
		p.askers++
		p.ask(second, "tools/list", fmt.Sprint("bob-", p.askers))
		return second.scrape().written(away, "written") > written
	})
}
