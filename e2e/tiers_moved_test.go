package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// movable is a shared tier with two servers, one of which is at the daemons' address.
type movable struct {
	name      string // redis or database
	addrs     [2]string
	block     func(addr string) tiering
	end       map[string]func() // ends connections at the first server
	listeners func() int        // to changes, at the second one
}

var movables = map[string]func(t *testing.T) movable{
	"Redis": func(t *testing.T) movable {
		a, b := startRedis(t), startRedis(t)
		return movable{
			"redis", [2]string{a.addr(), b.addr()},
			func(addr string) tiering { return tiering{redis: brisk(a.urlAt(addr))} },
			map[string]func(){
				"the calls": func() { a.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") },
				"the link":  func() { a.cli("CLIENT", "KILL", "TYPE", "pubsub") },
			},
			func() int { return strings.Count(b.cli("CLIENT", "LIST", "TYPE", "pubsub"), "name=fluentd-perf") },
		}
	},
	"Postgres": func(t *testing.T) movable {
		a, b := startPostgres(t), startPostgres(t)
		const of = " FROM pg_stat_activity WHERE application_name = 'fluentd-perf' AND query "
		const listens = "~ '^(LISTEN|-- ping)'" // calls do not ping
		end := func(which string) func() {
			return func() { a.query("SELECT pg_terminate_backend(pid)" + of + which) }
		}
		return movable{
			"database", [2]string{a.addr(), b.addr()},
			func(addr string) tiering { return tiering{database: brisk(a.urlAt(addr)) + ", private_reads: true"} },
			map[string]func(){"the calls": end("!" + listens), "the link": end(listens)},
			func() int { n, _ := strconv.Atoi(b.query("SELECT count(*)" + of + listens)); return n },
		}
	},
}

// TestTierMoves has the address of two daemons move from one server to another that lives beside it, and the connections of
// calls, or those on which changes are heard, or all of them be made anew: no daemon keeps serving what has changed, both are
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
	l, key := startLink(t, tier.addrs[0]), sharedKey(t)
	p := &pairing{
		t: t, tier: sharedTier{name: tier.name}, link: l, at: [2]places{newPlaces(t), newPlaces(t)},
		m: startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true}),
	}
	p.own = [2]tiering{tier.block(l.addr), tier.block(l.addr)}
	p.own[0].key, p.own[1].key = key, key
	p.own[1].cache = "listen: off"
	p.first, p.second = p.start(0), p.start(1)
	p.settle()
	tier.block(tier.addrs[1]).run(t, p.m.url, newPlaces(t)) // so that the second server has what a tier needs
	l.move(tier.addrs[1])
	if what == "all" {
		p.goneAWhile()
	} else {
		tier.end[what]()
	}
	p.ask(p.second, "tools/list", "eve") // for which memory does not do: without calls it finds out within 15 s
	for i := range 3 {
		tool := fmt.Sprint("moved-", i)
		t.Logf("a change is shown by the second one after %v", p.change(tool).Round(time.Microsecond))
		for range 20 {
			if got := p.ask(p.second, "tools/list", p.who); !slices.Contains(got.tools, tool) {
				t.Fatalf("what is old again: %s", got.header.Get("Cache-Status"))
			}
		}
	}
	p.awaitHearing("settled")
	within(t, 5*time.Second, "both hear the new server", func() bool { return tier.listeners() == 3 })
	within(t, 5*time.Second, "nothing is wrong any more", func() bool { return p.wrong(0) == "" && p.wrong(1) == "" })
}

// goneAWhile cuts the way to the shared tier: each daemon says that it is not there, until it is.
func (p *pairing) goneAWhile() {
	p.t.Helper()
	p.link.cut()
	within(p.t, 5*time.Second, "the status says what is wrong", func() bool { return p.wrong(0) != "" && p.wrong(1) != "" })
	p.t.Logf("the status says %q", p.wrong(1))
	p.link.restore()
}

// wrong is what the status of one of the daemons says to be wrong with the shared tier.
func (p *pairing) wrong(daemon int) string {
	p.t.Helper()
	out, complaints, code := p.at[daemon].verb(p.t, "status", "-o", "json")
	var status struct {
		Tiers []struct{ Tier, Error string }
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || code != 0 {
		p.t.Fatalf("status: exit code %d, %v\n%s%s", code, err, out, complaints)
	}
	for _, tier := range status.Tiers {
		if tier.Tier == p.tier.name {
			return tier.Error
		}
	}
	p.t.Fatalf("no tier %s:\n%s", p.tier.name, out)
	return ""
}
