// The ways to cache in which the Go client's dialogues are played.

package relay

import (
	"encoding/json"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// cacheWay is a daemon for a dialogue, and what the server in front of which it stands says of caching.
type cacheWay struct {
	name    string
	through func(t *testing.T, upstream string) string
	server  func(harness.Server) harness.Server
}

// cacheWays are the daemon as it comes, and with every tier: with the operator's word on how long answers live, and with
// the server's.
var cacheWays = []cacheWay{
	{"plain", func(t *testing.T, upstream string) string { return harness.Through(t, upstream) }, func(s harness.Server) harness.Server { return s }},
	{"operator", func(t *testing.T, upstream string) string {
		return throughTiers(t, upstream, operatorTTL).URL("/mcp/s")
	}, func(s harness.Server) harness.Server { return s }},
	{"server", func(t *testing.T, upstream string) string {
		return throughTiers(t, upstream, "").URL("/mcp/s")
	}, func(s harness.Server) harness.Server { return harness.WithTTL(s, serverTTL) }},
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
