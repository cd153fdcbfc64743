package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tiering is a configuration of the cache for a daemon with one upstream `s`. Blocks are in flow style, without braces;
// an empty one is left out, so that the default holds.
type tiering struct {
	redis    string // of cache.redis
	database string // of cache.database
	key      string // the file of cache.partition_key
	cache    string // more of the upstream's cache
}

// Whatever a busy machine does, a tier that works answers within this.
const roomy = "timeout: 5s"

// redisAt is the block of a Redis, or of a link to one.
func redisAt(url string) string { return fmt.Sprintf("url: %q, %s", url, roomy) }

// databaseAt is the block of a Postgres that keeps what was read, too.
func databaseAt(url string) string {
	return fmt.Sprintf("url: %q, private_reads: true, %s", url, roomy)
}

// sqliteFile is the block of the embedded database that keeps what was read, too.
const sqliteFile = "url: sqlite:cache.db, private_reads: true, " + roomy

// conf is the daemon's configuration, with the upstream at a URL.
func (c tiering) conf(url string) conf {
	var blocks []string
	for name, block := range map[string]string{"redis": c.redis, "database": c.database} {
		if block != "" {
			blocks = append(blocks, fmt.Sprintf("%s: {%s}", name, block))
		}
	}
	if c.key != "" {
		blocks = append(blocks, fmt.Sprintf("partition_key: %q", "${file:"+c.key+"}"))
	}
	slices.Sort(blocks)
	keys := ""
	if c.cache != "" {
		keys = "cache: {" + c.cache + "}"
	}
	own := one(url, keys)
	own.top += "\ncache: {" + strings.Join(blocks, ", ") + "}"
	own.args = []string{"--log-level", "warn"}
	return own
}

// run starts a daemon with this cache in places.
func (c tiering) run(t *testing.T, url string, at places) *sidecar {
	t.Helper()
	return runSidecar(t, c.conf(url).in(at))
}

// sharedKey writes a partition key for several daemons.
func sharedKey(t *testing.T) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "partition.key")
	if err := os.WriteFile(file, []byte("a key of thirty-two bytes, no less"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// asked is how many reads of a tier came to one of the outcomes.
func (m metrics) asked(tier string, outcomes ...string) (n int) {
	for _, outcome := range outcomes {
		n += int(m.sum("fluentd_perf_cache_requests_total", fmt.Sprintf("tier=%q", tier), fmt.Sprintf("outcome=%q", outcome)))
	}
	return n
}

// written is what became of entries that were written behind: written, dropped or failed.
func (m metrics) written(tier, result string) int {
	return int(m.sum("fluentd_perf_cache_writes_total", fmt.Sprintf("tier=%q", tier), fmt.Sprintf("result=%q", result)))
}

// leftAlone reports whether the tier's breaker is open, or tries.
func (m metrics) leftAlone(tier string) bool {
	return m.sum("fluentd_perf_tier_breaker_state", fmt.Sprintf("tier=%q", tier)) != 0
}

// awaitWritten waits until a tier has been given so many entries by the daemon since its start.
func (d *sidecar) awaitWritten(tier string, n int) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("%d entries written to %s", n, tier), func() bool { return d.scrape().written(tier, "written") >= n })
}

// stats is what cache-stats -o json prints.
type stats struct {
	Tiers []struct {
		Tier, Breaker, Error    string
		Entries, Bytes          int64
		Hits, Misses, Errors    int
		Skipped, Written, Queue int
		Dropped, Owed           int
	}
	Upstreams []struct {
		Upstream                  string
		Hits                      map[string]int
		Misses, Stale, Collapsed  int
		Bypass, Stored, Listening int
		Keys                      []struct{ Method, Key string }
	}
}

// stats asks the daemon that runs there.
func (p places) stats(t testing.TB, flags ...string) stats {
	t.Helper()
	out, complaints, code := p.verb(t, append([]string{"cache-stats", "-o", "json"}, flags...)...)
	var s stats
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		t.Fatalf("cache-stats: exit code %d, %v\n%s%s", code, err, out, complaints)
	}
	return s
}

// within polls until done and returns how long it took. It fails the test at a limit that is far above what is promised,
// so that a slow machine is none of its business.
func within(t *testing.T, promise time.Duration, what string, done func() bool) time.Duration {
	t.Helper()
	const slack = 15 * time.Second
	begun := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if took := time.Since(begun); took > promise+slack {
			t.Fatalf("not within %v: %s", took.Round(time.Second), what)
		}
		<-tick.C
	}
	return time.Since(begun)
}

// comesSoon polls for a moment and reports whether it came to be.
func comesSoon(done func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		if done() {
			return true
		}
		<-tick.C
	}
	return false
}
