// Redis and Postgres fail in every way, under load: agents see nothing of it, and the tier is in use again soon after.

package cache

import (
	"fmt"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// tierFault is one way in which a tier fails, and comes back.
type tierFault struct {
	name        string
	begin, mend func()
	partly      bool // some of what the tier is asked still works: its breaker need not open
}

// serverFaults are those of a server behind a link. Rubbish begins as the server's protocol says, with an answer of about
// a gigabyte.
func serverFaults(s *harness.TierServer, l *harness.Link, rubbish string) []tierFault {
	return []tierFault{
		{name: "killed", begin: s.Kill, mend: s.Restart},
		{name: "hung", begin: s.Hang, mend: s.Resume},
		{name: "slow", begin: func() { l.Slow(time.Second) }, mend: l.Restore},
		{name: "rubbish", begin: func() { l.Garble(rubbish) }, mend: l.Restore},
		{name: "cut", begin: l.Cut, mend: l.Restore},
	}
}

// What a read of a tier may cost in these tests: tight enough to be seen, wide enough for a busy machine.
const faultTimeout = 250 * time.Millisecond

// mostMemory is what a daemon that has a few megabytes cached may take on top, in bytes.
const mostMemory = 256e6

// TestRedisFailsAlone has Redis fail in every way under load.
func TestRedisFailsAlone(t *testing.T) {
	t.Parallel()
	r := harness.StartRedis(t)
	l := harness.StartLink(t, r.Addr())
	faults := append(serverFaults(r.TierServer, l, "$999999999\r\nwhat?"), tierFault{
		name: "out of memory", partly: true,
		begin: func() { r.CLI("CONFIG", "SET", "maxmemory", "1") },
		mend:  func() { r.CLI("CONFIG", "SET", "maxmemory", "0") },
	})
	c := harness.Tiering{Redis: fmt.Sprintf("url: %q, timeout: %v", r.URLAt(l.Addr), faultTimeout), Database: "url: off"}
	failAlone(t, "redis", c, faults)
}

// TestPostgresFailsAlone is the same with Postgres.
func TestPostgresFailsAlone(t *testing.T) {
	t.Parallel()
	s := harness.StartPostgres(t)
	l := harness.StartLink(t, s.Addr())
	c := harness.Tiering{Database: fmt.Sprintf("url: %q, timeout: %v, private_reads: true", s.URLAt(l.Addr), faultTimeout)}
	failAlone(t, "database", c, serverFaults(s.TierServer, l, "D\x3f\xff\xff\xffwhat?"))
}

// failAlone runs a daemon under load through all the faults of one tier.
func failAlone(t *testing.T, tier string, c harness.Tiering, faults []tierFault) {
	m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true})
	d := c.Run(t, m.URL, harness.NewFolders(t))
	load := startLoad(t, d)
	inUse := func(since harness.Metrics) func() bool {
		return func() bool {
			now := d.Scrape().Minus(since)
			return now.Asked(tier, "hit", "miss") > 0 && writtenTo(now, tier, "written") > 0
		}
	}
	for _, f := range faults {
		harness.Within(t, 0, tier+" in use", inUse(d.Scrape()))
		load.lap()
		before := d.Scrape()
		f.begin()
		opened := harness.Within(t, time.Second, f.name+" is seen", func() bool {
			now := d.Scrape()
			return circuitOpen(now, tier) || f.partly && writtenTo(now.Minus(before), tier, "failed") > 0
		})
		atOpening := d.Scrape().Minus(before)
		load.awaitMore(200)
		slowest, broken := load.lap(), d.Scrape().Minus(before)
		if grown := broken.Sum("go_memstats_heap_sys_bytes"); grown > mostMemory {
			t.Errorf("%s: the daemon took %.0f MB of memory", f.name, grown/1e6)
		}
		if errors := atOpening.Asked(tier, "error"); !f.partly && errors > loadSize+3 {
			t.Errorf("%s: %d reads failed before the breaker opened", f.name, errors)
		}
		f.mend()
		back := harness.Within(t, 5*time.Second, "in use again after it was "+f.name, inUse(d.Scrape()))
		t.Logf("%s %s: not asked any more after %v, %d reads failed until then and %d in all, %d skipped, slowest answer %v (timeout %v), in use again after %v",
			tier, f.name, opened.Round(time.Millisecond), atOpening.Asked(tier, "error"), broken.Asked(tier, "error"),
			broken.Asked(tier, "skipped"), slowest.Round(time.Millisecond), faultTimeout, back.Round(time.Millisecond))
	}
	load.end()
}
