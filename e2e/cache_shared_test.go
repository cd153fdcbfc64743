package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sharedTier is a server that two daemons use as one tier of theirs.
type sharedTier struct {
	name       string // redis or database
	addr       string
	block      func(addr string) tiering // the cache of a daemon that reaches it at an address
	everything func() string
}

// sharedTiers start the servers that daemons can share.
var sharedTiers = map[string]func(t *testing.T) sharedTier{
	"Redis": func(t *testing.T) sharedTier {
		r := startRedis(t)
		return sharedTier{"redis", r.addr(), func(addr string) tiering { return tiering{redis: brisk(r.urlAt(addr)), database: "url: off"} }, r.everything}
	},
	"Postgres": func(t *testing.T) sharedTier {
		s := startPostgres(t)
		return sharedTier{"database", s.addr(), func(addr string) tiering { return tiering{database: brisk(s.urlAt(addr)) + ", private_reads: true"} }, s.everything}
	},
}

// brisk is the block of a tier that is given up soon where its link is frozen.
func brisk(url string) string { return fmt.Sprintf("url: %q, timeout: 500ms", url) }

// pairing is two daemons with one partition key and one shared tier. Both are in front of one server, and only the first
// hears from it what changes.
type pairing struct {
	t      *testing.T
	m      *modernServer
	tier   sharedTier
	key    string
	first  *sidecar
	second *sidecar
	link   *link // from the second to the tier
	askers int
	who    string // asks at the moment
	own    [2]tiering
	at     [2]places
}

func startPairing(t *testing.T, start func(t *testing.T) sharedTier) *pairing {
	t.Helper()
	p := &pairing{t: t, tier: start(t), key: sharedKey(t), at: [2]places{newPlaces(t), newPlaces(t)}}
	p.m = startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true})
	p.link = startLink(t, p.tier.addr)
	p.own = [2]tiering{p.tier.block(p.tier.addr), p.tier.block(p.link.addr)}
	p.own[0].key, p.own[1].key = p.key, p.key
	p.own[1].cache = "listen: off"
	p.first, p.second = p.start(0), p.start(1)
	return p
}

// start starts one of the daemons, in its places.
func (p *pairing) start(i int) *sidecar { return p.own[i].run(p.t, p.m.url, p.at[i]) }

// ask asks one of the daemons for a list.
func (p *pairing) ask(d *sidecar, method, who string) answered {
	p.t.Helper()
	got := d.agent(p.t).ask("/mcp/s", method, "", as(who))
	if got.status != 200 || got.fault != nil {
		p.t.Fatalf("%s as %s: %d %s", method, who, got.status, got.body)
	}
	return got
}

// settle has the first daemon fetch and listen for a new credential, and the second one keep a copy from the shared tier.
// It returns how long it took until the second one had such a copy: at once, or after the link was away.
func (p *pairing) settle() time.Duration {
	p.t.Helper()
	return within(p.t, 5*time.Second, "the second has the first one's copy", func() bool {
		p.askers++
		p.who = fmt.Sprint("ada-", p.askers)
		written := p.first.scrape().written(p.tier.name, "written")
		own := p.ask(p.first, "tools/list", p.who)
		if !comesSoon(func() bool { return p.first.scrape().written(p.tier.name, "written") > written }) {
			return false // the tier was being told of a change, so that nothing could be kept there
		}
		for _, from := range []string{p.tier.name, "memory"} {
			if got := p.ask(p.second, "tools/list", p.who); got.serial != own.serial || got.tier() != from {
				return false
			}
		}
		return comesSoon(func() bool { return p.m.listens(p.who) == 1 })
	})
}

// change adds a tool, of which the first daemon hears, and returns how long it took until the second one shows it.
func (p *pairing) change(tool string) time.Duration {
	p.t.Helper()
	p.m.addTool(tool)
	return p.awaitTool(tool)
}

func (p *pairing) awaitTool(tool string) time.Duration {
	p.t.Helper()
	return within(p.t, 5*time.Second, tool+" is shown", func() bool { return slices.Contains(p.ask(p.second, "tools/list", p.who).tools, tool) })
}

// TestTwoDaemons has two daemons share what they fetched and hear, whatever becomes of one of them and of its link.
func TestTwoDaemons(t *testing.T) {
	for name, start := range sharedTiers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPairing(t, start)
			p.testEntries()
			p.testChanges()
			p.testRestarts()
		})
	}
}

// testEntries has the second daemon answer with what the first one fetched: to the same credential, and to every known one
// what is public.
func (p *pairing) testEntries() {
	t := p.t
	p.settle()
	if got := p.ask(p.second, "tools/list", "bob"); got.asker != "bob" || got.tier() != "" {
		t.Errorf("bob got another's: for %s, %s", got.asker, got.header.Get("Cache-Status"))
	}
	p.m.say("prompts/list", hint{10 * time.Minute, "public"})
	written := p.first.scrape().written(p.tier.name, "written")
	public := p.ask(p.first, "prompts/list", p.who)
	p.first.awaitWritten(p.tier.name, written+1)
	if got := p.ask(p.second, "prompts/list", "bob"); got.tier() != p.tier.name || got.serial != public.serial {
		t.Errorf("what is public: %s, answer %d, want %d", got.header.Get("Cache-Status"), got.serial, public.serial)
	}
	if got := p.ask(p.second, "prompts/list", "carol"); got.tier() != "" || got.asker != "carol" {
		t.Errorf("somebody whom the server has not seen got %s, for %s", got.header.Get("Cache-Status"), got.asker)
	}
}

// testChanges changes a list with the link between them whole, cut and frozen.
func (p *pairing) testChanges() {
	t := p.t
	t.Logf("the second one has what the first one fetched after %v", p.settle().Round(time.Millisecond))
	t.Logf("a change that the first one hears is shown by the second one after %v", p.change("whole").Round(time.Microsecond))

	p.settle()
	p.link.cut()
	t.Logf("the same with the link cut: after %v", p.change("cut").Round(time.Microsecond))
	p.link.restore()
	p.awaitHearing("restored")

	p.settle()
	p.link.freeze()
	t.Logf("the same with the link frozen: after %v", p.change("frozen").Round(time.Microsecond))
	p.link.restore()
	p.awaitHearing("thawed")
}

// awaitHearing waits until the second daemon uses the tier again, and hears of a change over it.
func (p *pairing) awaitHearing(tool string) {
	p.t.Helper()
	back := p.settle()
	p.t.Logf("%s: the second uses the tier again after %v; a change is shown after %v", tool, back.Round(time.Millisecond), p.change(tool).Round(time.Microsecond))
}

// testRestarts changes a list while the second daemon is away, after a good end and after a crash, and after the first one
// was.
func (p *pairing) testRestarts() {
	t := p.t
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		p.settle()
		p.second.stop(t, end)
		tool := fmt.Sprint("while-away-", int(end))
		p.m.addTool(tool)
		within(t, 5*time.Second, "the first one knows", func() bool { return slices.Contains(p.ask(p.first, "tools/list", p.who).tools, tool) })
		p.second = p.start(1)
		if got := p.ask(p.second, "tools/list", p.who); !slices.Contains(got.tools, tool) {
			t.Errorf("%v: the second one came back with %q, %s", end, got.tools, got.header.Get("Cache-Status"))
		}
	}
	p.settle()
	p.first.stop(t, syscall.SIGTERM)
	p.m.awaitListens(t, 0)
	p.first = p.start(0)
	p.settle()
	t.Logf("after a restart of the first one a change is shown after %v", p.change("restarted").Round(time.Microsecond))
	if strings.Contains(p.tier.everything(), "while-away") {
		t.Error("the names of tools lie open in the shared tier")
	}
}
