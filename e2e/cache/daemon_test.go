// What the tests of this package read of a daemon with a cache: its metrics, its statistics, who an answer came from.

package cache

import (
	"fmt"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// sqliteFile is the block of the embedded database that keeps what was read, too.
const sqliteFile = "url: sqlite:cache.db, private_reads: true, " + harness.LongTimeout

// sharedKey writes a partition key for several daemons.
func sharedKey(t *testing.T) (file string) {
	t.Helper()
	return harness.WriteFile(t, "partition.key", "a key of thirty-two bytes, no less")
}

// writtenTo is what became of entries that were written behind: written, dropped or failed.
func writtenTo(m harness.Metrics, tier, result string) int {
	return int(m.Sum("fluentd_perf_cache_writes_total", fmt.Sprintf("tier=%q", tier), fmt.Sprintf("result=%q", result)))
}

// circuitOpen reports whether the tier's breaker is open, or tries.
func circuitOpen(m harness.Metrics, tier string) bool {
	return m.Sum("fluentd_perf_tier_breaker_state", fmt.Sprintf("tier=%q", tier)) != 0
}

// awaitWritten waits until a tier has been given so many entries by the daemon since its start.
func awaitWritten(d *harness.Daemon, tier string, n int) {
	d.T.Helper()
	d.Eventually(fmt.Sprintf("%d entries written to %s", n, tier), func() bool { return writtenTo(d.Scrape(), tier, "written") >= n })
}

// stats is what cache-stats -o json prints.
type stats struct {
	Tiers []struct {
		Tier, Breaker, Error    string
		Entries, Bytes          int64
		Hits, Misses, Errors    int
		Skipped, Written, Queue int
		Dropped                 int
		Pending                 int `json:"owed"`
	}
	Upstreams []struct {
		Upstream                  string
		Hits                      map[string]int
		Misses, Stale, Collapsed  int
		Bypass, Stored, Listening int
		Keys                      []struct{ Method, Key string }
	}
}

// cacheStats asks the daemon that runs there.
func cacheStats(t testing.TB, p harness.Folders, flags ...string) (s stats) {
	t.Helper()
	p.VerbJSON(t, &s, append([]string{"cache-stats"}, flags...)...)
	return s
}

// servedBy is the tier that the answer came from, or "stale-error" and the like; "" if it was no hit (RFC 9211).
func servedBy(a harness.Answered) string {
	for member := range strings.SplitSeq(a.Header.Get("Cache-Status"), ",") {
		if strings.HasPrefix(strings.TrimSpace(member), "fluentd-perf; hit;") {
			_, detail, _ := strings.Cut(member, "detail=")
			return detail
		}
	}
	return ""
}
