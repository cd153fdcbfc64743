package e2e

import (
	"fmt"
	"testing"
	"time"
)

// tierFault is one way in which a tier fails, and comes back.
type tierFault struct {
	name        string
	begin, mend func()
	partly      bool // some of what the tier is asked still works: its breaker need not open
}

// serverFaults are those of a server behind a link. Rubbish begins as the server's protocol says, with an answer of about
// a gigabyte.
func serverFaults(s *tierServer, l *link, rubbish string) []tierFault {
	return []tierFault{
		{name: "killed", begin: s.kill, mend: s.restart},
		{name: "hung", begin: s.hang, mend: s.resume},
		{name: "slow", begin: func() { l.slow(time.Second) }, mend: l.restore},
		{name: "rubbish", begin: func() { l.babble(rubbish) }, mend: l.restore},
		{name: "cut", begin: l.cut, mend: l.restore},
	}
}

// What a read of a tier may cost in these tests: tight enough to be seen, wide enough for a busy machine.
const faultTimeout = 250 * time.Millisecond

// mostMemory is what a daemon that has a few megabytes cached may take on top, in bytes.
const mostMemory = 256e6

// TestRedisFailsAlone has Redis fail in every way under load.
func TestRedisFailsAlone(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	l := startLink(t, r.addr())
	faults := append(serverFaults(r.tierServer, l, "$999999999\r\nwhat?"), tierFault{
		name: "out of memory", partly: true,
		begin: func() { r.cli("CONFIG", "SET", "maxmemory", "1") },
		mend:  func() { r.cli("CONFIG", "SET", "maxmemory", "0") },
	})
	c := tiering{redis: fmt.Sprintf("url: %q, timeout: %v", r.urlAt(l.addr), faultTimeout), database: "url: off"}
	failAlone(t, "redis", c, faults)
}

// TestPostgresFailsAlone is the same with Postgres.
func TestPostgresFailsAlone(t *testing.T) {
	t.Parallel()
	s := startPostgres(t)
	l := startLink(t, s.addr())
	c := tiering{database: fmt.Sprintf("url: %q, timeout: %v, private_reads: true", s.urlAt(l.addr), faultTimeout)}
	failAlone(t, "database", c, serverFaults(s.tierServer, l, "D\x3f\xff\xff\xffwhat?"))
}

// failAlone runs a daemon under load through all the faults of one tier.
func failAlone(t *testing.T, tier string, c tiering, faults []tierFault) {
	m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true})
	d := c.run(t, m.url, newPlaces(t))
	crowd := startCrowd(t, d)
	inUse := func(since metrics) func() bool {
		return func() bool {
			now := d.scrape().minus(since)
			return now.asked(tier, "hit", "miss") > 0 && now.written(tier, "written") > 0
		}
	}
	for _, f := range faults {
		within(t, 0, tier+" in use", inUse(d.scrape()))
		crowd.lap()
		before := d.scrape()
		f.begin()
		opened := within(t, time.Second, f.name+" is seen", func() bool {
			now := d.scrape()
			return now.leftAlone(tier) || f.partly && now.minus(before).written(tier, "failed") > 0
		})
		atOpening := d.scrape().minus(before)
		crowd.awaitMore(200)
		slowest, broken := crowd.lap(), d.scrape().minus(before)
		if grown := broken.sum("go_memstats_heap_sys_bytes"); grown > mostMemory {
			t.Errorf("%s: the daemon took %.0f MB of memory", f.name, grown/1e6)
		}
		if errors := atOpening.asked(tier, "error"); !f.partly && errors > crowdSize+3 {
			t.Errorf("%s: %d reads failed before the breaker opened", f.name, errors)
		}
		f.mend()
		back := within(t, 5*time.Second, "in use again after it was "+f.name, inUse(d.scrape()))
		t.Logf("%s %s: left alone after %v, %d reads failed until then and %d in all, %d skipped, slowest answer %v (timeout %v), in use again after %v",
			tier, f.name, opened.Round(time.Millisecond), atOpening.asked(tier, "error"), broken.asked(tier, "error"),
			broken.asked(tier, "skipped"), slowest.Round(time.Millisecond), faultTimeout, back.Round(time.Millisecond))
	}
	crowd.end()
}
