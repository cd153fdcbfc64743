// Two daemons share a tier: entries, changes, restarts.

package cache

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// sharedTier is a server that two daemons use as one tier of theirs.
type sharedTier struct {
	name       string // redis or database
	addr       string
	block      func(addr string) harness.Tiering // the cache of a daemon that reaches it at an address
	everything func() string
}

// sharedTiers start the servers that daemons can share.
var sharedTiers = map[string]func(t *testing.T) sharedTier{
	"Redis": func(t *testing.T) sharedTier {
		r := harness.StartRedis(t)
		return sharedTier{"redis", r.Addr(), func(addr string) harness.Tiering {
			return harness.Tiering{Redis: withShortTimeout(r.URLAt(addr)), Database: "url: off"}
		}, r.Everything}
	},
	"Postgres": func(t *testing.T) sharedTier {
		s := harness.StartPostgres(t)
		return sharedTier{"database", s.Addr(), func(addr string) harness.Tiering {
			return harness.Tiering{Database: withShortTimeout(s.URLAt(addr)) + ", private_reads: true"}
		}, s.Everything}
	},
}

// withShortTimeout is the block of a tier that is given up soon where its link is frozen.
func withShortTimeout(url string) string { return fmt.Sprintf("url: %q, timeout: 500ms", url) }

// pairing is two daemons with one partition key and one shared tier. Both are in front of one server, and only the first
// is told by it what changes.
type pairing struct {
	t          *testing.T
	m          *harness.ModernServer
	tier       sharedTier
	key        string
	first      *harness.Daemon
	second     *harness.Daemon
	link       *harness.Link // from the second to the tier
	principals int
	who        string // asks at the moment
	own        [2]harness.Tiering
	at         [2]harness.Folders
}

func startPairing(t *testing.T, start func(t *testing.T) sharedTier) *pairing {
	t.Helper()
	p := &pairing{t: t, tier: start(t), key: sharedKey(t), at: [2]harness.Folders{harness.NewFolders(t), harness.NewFolders(t)}}
	p.m = harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true})
	p.link = harness.StartLink(t, p.tier.addr)
	p.own = [2]harness.Tiering{p.tier.block(p.tier.addr), p.tier.block(p.link.Addr)}
	p.own[0].Key, p.own[1].Key = p.key, p.key
	p.own[1].Cache = "listen: off"
	p.first, p.second = p.start(0), p.start(1)
	return p
}

// start starts one of the daemons, in its folders.
func (p *pairing) start(i int) *harness.Daemon { return p.own[i].Run(p.t, p.m.URL, p.at[i]) }

// ask asks one of the daemons for a list.
func (p *pairing) ask(d *harness.Daemon, method, who string) harness.Answered {
	p.t.Helper()
	got := d.Agent(p.t).Ask("/mcp/s", method, "", harness.Bearer(who))
	if got.Status != 200 || got.Fault != nil {
		p.t.Fatalf("%s as %s: %d %s", method, who, got.Status, got.Body)
	}
	return got
}

// settle has the first daemon fetch and listen for a new credential, and the second one keep a copy from the shared tier.
// It returns how long it took until the second one had such a copy: at once, or after the link was away.
func (p *pairing) settle() time.Duration {
	p.t.Helper()
	return harness.Within(p.t, 5*time.Second, "the second has the first one's copy", func() bool {
		p.principals++
		p.who = fmt.Sprint("ada-", p.principals)
		written := writtenTo(p.first.Scrape(), p.tier.name, "written")
		own := p.ask(p.first, "tools/list", p.who)
		if !harness.Poll(2*time.Second, func() bool { return writtenTo(p.first.Scrape(), p.tier.name, "written") > written }) {
			return false // the tier was being told of a change, so that nothing could be kept there
		}
		for _, from := range []string{p.tier.name, "memory"} {
			if got := p.ask(p.second, "tools/list", p.who); got.Serial != own.Serial || servedBy(got) != from {
				return false
			}
		}
		return harness.Poll(2*time.Second, func() bool { return p.m.Listens(p.who) == 1 })
	})
}

// change adds a tool, which the first daemon is told, and returns how long it took until the second one shows it.
func (p *pairing) change(tool string) time.Duration {
	p.t.Helper()
	p.m.AddTool(tool)
	return p.awaitTool(tool)
}

func (p *pairing) awaitTool(tool string) time.Duration {
	p.t.Helper()
	return harness.Within(p.t, 5*time.Second, tool+" is shown", func() bool { return slices.Contains(p.ask(p.second, "tools/list", p.who).Tools, tool) })
}

// TestTwoDaemons has two daemons share what they fetched and the changes that they receive, whatever becomes of one of them and of its link.
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
	if got := p.ask(p.second, "tools/list", "bob"); got.Principal != "bob" || servedBy(got) != "" {
		t.Errorf("bob got another's: for %s, %s", got.Principal, got.Header.Get("Cache-Status"))
	}
	p.m.Say("prompts/list", harness.Hint{TTL: 10 * time.Minute, Scope: "public"})
	written := writtenTo(p.first.Scrape(), p.tier.name, "written")
	public := p.ask(p.first, "prompts/list", p.who)
	awaitWritten(p.first, p.tier.name, written+1)
	if got := p.ask(p.second, "prompts/list", "bob"); servedBy(got) != p.tier.name || got.Serial != public.Serial {
		t.Errorf("what is public: %s, answer %d, want %d", got.Header.Get("Cache-Status"), got.Serial, public.Serial)
	}
	if got := p.ask(p.second, "prompts/list", "carol"); servedBy(got) != "" || got.Principal != "carol" {
		t.Errorf("somebody whom the server has not seen got %s, for %s", got.Header.Get("Cache-Status"), got.Principal)
	}
}

// testChanges changes a list with the link between them whole, cut and frozen.
func (p *pairing) testChanges() {
	t := p.t
	t.Logf("the second one has what the first one fetched after %v", p.settle().Round(time.Millisecond))
	t.Logf("a change that the first one receives is shown by the second one after %v", p.change("whole").Round(time.Microsecond))

	p.settle()
	p.link.Cut()
	t.Logf("the same with the link cut: after %v", p.change("cut").Round(time.Microsecond))
	p.link.Restore()
	p.awaitListening("restored")

	p.settle()
	p.link.Freeze()
	t.Logf("the same with the link frozen: after %v", p.change("frozen").Round(time.Microsecond))
	p.link.Restore()
	p.awaitListening("thawed")
}

// awaitListening waits until the second daemon uses the tier again, and receives a change over it.
func (p *pairing) awaitListening(tool string) {
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
		p.second.Stop(t, end)
		tool := fmt.Sprint("while-away-", int(end))
		p.m.AddTool(tool)
		harness.Within(t, 5*time.Second, "the first one knows", func() bool { return slices.Contains(p.ask(p.first, "tools/list", p.who).Tools, tool) })
		p.second = p.start(1)
		if got := p.ask(p.second, "tools/list", p.who); !slices.Contains(got.Tools, tool) {
			t.Errorf("%v: the second one came back with %q, %s", end, got.Tools, got.Header.Get("Cache-Status"))
		}
	}
	p.settle()
	p.first.Stop(t, syscall.SIGTERM)
	p.m.AwaitListens(t, 0)
	p.first = p.start(0)
	p.settle()
	t.Logf("after a restart of the first one a change is shown after %v", p.change("restarted").Round(time.Microsecond))
	if strings.Contains(p.tier.everything(), "while-away") {
		t.Error("the names of tools lie open in the shared tier")
	}
}
