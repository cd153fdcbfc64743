// Two daemons share both tiers, and one of the tiers is away for one of them.

package cache

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestTwoSharedTiers has two daemons share Redis and Postgres both: the one that receives a change tells both, so that the other
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
	r, s, key := harness.StartRedis(t), harness.StartPostgres(t), sharedKey(t)
	links := map[string]*harness.Link{"redis": harness.StartLink(t, r.Addr()), "database": harness.StartLink(t, s.Addr())}
	m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true})
	first := harness.Tiering{Redis: withShortTimeout(r.URLAt(links["redis"].Addr)), Database: withShortTimeout(s.URLAt(links["database"].Addr)), Key: key}.Run(t, m.URL, harness.NewFolders(t))
	second := harness.Tiering{Redis: withShortTimeout(r.URL()), Database: withShortTimeout(s.URL()), Key: key, Cache: "listen: off"}.Run(t, m.URL, harness.NewFolders(t))
	p := &pairing{t: t, m: m, first: first, second: second, who: "ada"}

	p.ask(first, "tools/list", "ada")
	for tier := range links {
		awaitWritten(first, tier, 1)
	}
	harness.Within(t, 5*time.Second, "the first one listens for changes", func() bool { return m.Listens("ada") == 1 })
	if got := p.ask(second, "tools/list", "ada"); servedBy(got) == "" {
		t.Fatalf("the second one does not share: %s", got.Header.Get("Cache-Status"))
	}
	for i := range 3 { // each makes memory stale, so that the tiers are asked
		tool := fmt.Sprint("changed-", i)
		t.Logf("a change is shown by the second one after %v", p.change(tool).Round(time.Microsecond))
		for range 20 {
			if got := p.ask(second, "tools/list", "ada"); !slices.Contains(got.Tools, tool) {
				t.Fatalf("what is stale again: %s", got.Header.Get("Cache-Status"))
			}
		}
	}
	links[away].Cut()
	p.m.AddTool("while-away")
	links[away].Restore()
	p.awaitTool("while-away")
	written := writtenTo(second.Scrape(), away, "written")
	harness.Within(t, 5*time.Second, "the second one uses both tiers", func() bool {
		p.principals++
		p.ask(second, "tools/list", fmt.Sprint("bob-", p.principals))
		return writtenTo(second.Scrape(), away, "written") > written
	})
}
