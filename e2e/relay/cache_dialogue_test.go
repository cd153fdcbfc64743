// The ways to cache in which the Go client's dialogues are played.

package relay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// cacheWay is a daemon for dialogues, and what the servers in front of which it stands say of caching.
type cacheWay struct {
	name   string
	before func(t *testing.T, upstreams map[string]string) *harness.Daemon
	server func(harness.Server) harness.Server
}

// cacheWays are the daemon as it comes, and with every tier: with the operator's word on how long answers live, and with
// the server's.
var cacheWays = []cacheWay{
	{"plain", func(t *testing.T, upstreams map[string]string) *harness.Daemon {
		return harness.ThroughAll(t, upstreams)
	}, func(s harness.Server) harness.Server { return s }},
	{"operator", func(t *testing.T, upstreams map[string]string) *harness.Daemon {
		return throughTiers(t, upstreams, operatorTTL)
	}, func(s harness.Server) harness.Server { return s }},
	{"server", func(t *testing.T, upstreams map[string]string) *harness.Daemon {
		return throughTiers(t, upstreams, "")
	}, func(s harness.Server) harness.Server { return harness.WithTTL(s, serverTTL) }},
}

// cacheDialogue is a server with which a dialogue is played directly and in several ways to cache, each with a server of its own.
type cacheDialogue struct {
	start   harness.Server
	ways    []cacheWay
	direct  string   // its URL
	through []string // the daemon's, for each way
}

// startAll starts the servers of all dialogues, and one daemon for each way to cache before those that are played in it: what is kept of
// one server is no other's.
func startAll(t *testing.T, dialogues []*cacheDialogue) {
	t.Helper()
	for _, d := range dialogues {
		d.direct = d.start(t)
	}
	for i, w := range cacheWays {
		upstreams := map[string]string{}
		for n, d := range dialogues {
			if i < len(d.ways) {
				upstreams[fmt.Sprint("s", n)] = w.server(d.start)(t)
			}
		}
		daemon := w.before(t, upstreams)
		for n, d := range dialogues {
			if i < len(d.ways) {
				d.through = append(d.through, daemon.URL(fmt.Sprint("/mcp/s", n)))
			}
		}
	}
}

// unnoticed is the scenario that a cache changes where the operator says how long answers live and nobody can tell that one
// is stale: a legacy server without sessions has no stream for it. It is "" for other servers and clients.
func unnoticed(server string, legacy bool) string {
	if server == "go stateless" && legacy {
		return "list changes"
	}
	return ""
}

func (w cacheWay) compare(t *testing.T, direct, through *harness.Play, unnoticed string) {
	t.Helper()
	if w.name == "operator" && unnoticed != "" {
		direct, through = direct.Without(unnoticed), through.Without(unnoticed)
	}
	harness.ComparePlays(t, direct, through)
	atHand := 0
	for _, tr := range through.Transcripts {
		for _, text := range tr.Lines {
			var l harness.Line
			if json.Unmarshal([]byte(text), &l) == nil {
				for _, exchange := range l.HTTP {
					if strings.Contains(exchange, " "+harness.CachedMark) {
						atHand++
					}
				}
			}
		}
	}
	t.Logf("%d answers were at hand", atHand)
}
