// A tier's address leads to another server: the daemons go on, and receive changes there.

package cache

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// movable is a shared tier with two servers, one of which is at the daemons' address.
type movable struct {
	name      string // redis or database
	addrs     [2]string
	block     func(addr string) harness.Tiering
	end       map[string]func() // ends connections at the first server
	listeners func() int        // to changes, at the second one
}

var movables = map[string]func(t *testing.T) movable{
	"Redis": func(t *testing.T) movable {
		a, b := harness.StartRedis(t), harness.StartRedis(t)
		return movable{
			"redis", [2]string{a.Addr(), b.Addr()},
			func(addr string) harness.Tiering { return harness.Tiering{Redis: withShortTimeout(a.URLAt(addr))} },
			map[string]func(){
				"the calls": func() { a.CLI("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") },
				"the link":  func() { a.CLI("CLIENT", "KILL", "TYPE", "pubsub") },
			},
			func() int { return strings.Count(b.CLI("CLIENT", "LIST", "TYPE", "pubsub"), "name=fluentd-perf") },
		}
	},
	"Postgres": func(t *testing.T) movable {
		a, b := harness.StartPostgres(t), harness.StartPostgres(t)
		const of = " FROM pg_stat_activity WHERE application_name = 'fluentd-perf' AND query "
		const listens = "~ '^(LISTEN|-- ping)'" // calls do not ping
		end := func(which string) func() {
			return func() { a.Query("SELECT pg_terminate_backend(pid)" + of + which) }
		}
		return movable{
			"database", [2]string{a.Addr(), b.Addr()},
			func(addr string) harness.Tiering {
				return harness.Tiering{Database: withShortTimeout(a.URLAt(addr)) + ", private_reads: true"}
			},
			map[string]func(){"the calls": end("!" + listens), "the link": end(listens)},
			func() int { n, _ := strconv.Atoi(b.Query("SELECT count(*)" + of + listens)); return n },
		}
	},
}

// TestTierMoves has the address of two daemons move from one server to another that lives beside it, and the connections of
// calls, or those on which changes are received, or all of them be made anew: no daemon keeps serving what has changed, both are
// at the new server soon, and share it.
func TestTierMoves(t *testing.T) {
	for name, start := range movables {
		for _, what := range []string{"the calls", "the link", "all"} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				testTierMoves(t, start(t), what)
			})
		}
	}
}

func testTierMoves(t *testing.T, tier movable, what string) {
	l, key := harness.StartLink(t, tier.addrs[0]), sharedKey(t)
	p := &pairing{
		t: t, tier: sharedTier{name: tier.name}, link: l, at: [2]harness.Folders{harness.NewFolders(t), harness.NewFolders(t)},
		m: harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true}),
	}
	p.own = [2]harness.Tiering{tier.block(l.Addr), tier.block(l.Addr)}
	p.own[0].Key, p.own[1].Key = key, key
	p.own[1].Cache = "listen: off"
	p.first, p.second = p.start(0), p.start(1)
	p.settle()
	tier.block(tier.addrs[1]).Run(t, p.m.URL, harness.NewFolders(t)) // so that the second server has what a tier needs
	l.Move(tier.addrs[1])
	if what == "all" {
		p.goneAWhile()
	} else {
		tier.end[what]()
	}
	p.ask(p.second, "tools/list", "eve") // for which memory does not do: without calls it finds out within 15 s
	for i := range 3 {
		tool := fmt.Sprint("moved-", i)
		t.Logf("a change is shown by the second one after %v", p.change(tool).Round(time.Microsecond))
		// It may have asked the server itself while neither reached the tier. Until that is told of the change, it has what was before.
		harness.Within(t, 5*time.Second, "the first one has told the tier", func() bool { return p.report(0).Pending == 0 })
		for range 20 {
			if got := p.ask(p.second, "tools/list", p.who); !slices.Contains(got.Tools, tool) {
				t.Fatalf("what is stale again: %s", got.Header.Get("Cache-Status"))
			}
		}
	}
	p.awaitListening("settled")
	harness.Within(t, 5*time.Second, "both listen to the new server", func() bool { return tier.listeners() == 3 })
	harness.Within(t, 5*time.Second, "nothing is wrong any more", func() bool { return p.wrong(0) == "" && p.wrong(1) == "" })
}

// goneAWhile cuts the way to the shared tier: each daemon says that it is not there, until it is.
func (p *pairing) goneAWhile() {
	p.t.Helper()
	p.link.Cut()
	harness.Within(p.t, 5*time.Second, "the status says what is wrong", func() bool { return p.wrong(0) != "" && p.wrong(1) != "" })
	p.t.Logf("the status says %q", p.wrong(1))
	p.link.Restore()
}

// wrong is what the status of one of the daemons says to be wrong with the shared tier.
func (p *pairing) wrong(daemon int) string { return p.report(daemon).Error }

// tierReport is a part of what the status says of a tier.
type tierReport struct {
	Tier, Error string
	Pending     int `json:"owed"` // invalidations of which the tier has not been told
}

// report is what the status of one of the daemons says of the shared tier.
func (p *pairing) report(daemon int) tierReport {
	p.t.Helper()
	var status struct{ Tiers []tierReport }
	p.at[daemon].VerbJSON(p.t, &status, "status")
	for _, tier := range status.Tiers {
		if tier.Tier == p.tier.name {
			return tier
		}
	}
	p.t.Fatalf("no tier %s: %+v", p.tier.name, status)
	return tierReport{}
}
