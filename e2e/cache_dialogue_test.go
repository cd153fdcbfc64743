package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// cacheWay is a daemon for a dialogue, and what the server in front of which it stands says of caching.
type cacheWay struct {
	name    string
	through func(t *testing.T, upstream string) string
	server  func(server) server
}

// cacheWays are the daemon as it comes, and with every tier: with the operator's word on how long answers live, and with
// the server's.
var cacheWays = []cacheWay{
	{"plain", func(t *testing.T, upstream string) string { return through(t, upstream) }, func(s server) server { return s }},
	{"operator", func(t *testing.T, upstream string) string {
		return throughTiers(t, upstream, operatorTTL).url("/mcp/s")
	}, func(s server) server { return s }},
	{"server", func(t *testing.T, upstream string) string {
		return throughTiers(t, upstream, "").url("/mcp/s")
	}, func(s server) server { return withTTL(s, serverTTL) }},
}

// unheard is the scenario that a cache changes where the operator says how long answers live and nobody can tell that one
// is old: a legacy server without sessions has no stream for it. It is "" for other servers and clients.
func unheard(server string, legacy bool) string {
	if server == "go stateless" && legacy {
		return "list changes"
	}
	return ""
}

func (w cacheWay) compare(t *testing.T, direct, through *play, unheard string) {
	t.Helper()
	if w.name == "operator" && unheard != "" {
		direct, through = direct.without(unheard), through.without(unheard)
	}
	compare(t, direct, through)
	atHand := 0
	for _, tr := range through.transcripts {
		for _, text := range tr.lines {
			var l line
			if json.Unmarshal([]byte(text), &l) == nil {
				for _, exchange := range l.HTTP {
					if strings.Contains(exchange, " "+cachedMark) {
						atHand++
					}
				}
			}
		}
	}
	t.Logf("%d answers were at hand", atHand)
}
