// The official TypeScript clients see the same directly and through the daemon.

package relay

import (
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestTypeScriptClients plays every suite of scenarios with the official TypeScript clients: 1.32.2, 2.4.0 as it comes
// (legacy) and 2.4.0 when it negotiates (modern where the server is). They play through daemons with and without a cache
// that speaks.
func TestTypeScriptClients(t *testing.T) {
	suites := []struct {
		name  string
		suite string
		start harness.Server
		ways  []cacheWay
	}{
		{"everything", "everything", harness.NPMServer("streamableHttp"), cacheWays[:2]},
		{"go stateful", "gosdk", harness.GoStateful, cacheWays[:2]},
		{"go stateless", "gosdk", harness.GoStateless, cacheWays},
		{"dual", "dual", harness.DualServer, cacheWays[:2]},
	}
	for _, s := range suites {
		for _, client := range []string{"ts1", "ts2", "ts2-auto"} {
			t.Run(s.name+"/"+client, func(t *testing.T) {
				t.Parallel()
				dialogues(t, client, s.suite, s.start, s.ways, unnoticed(s.name, client != "ts2-auto"))
			})
		}
	}
}

// dialogue plays a suite against a server of its own directly and against another one through the daemon, and compares.
// Without scenarios all of the suite's are played.
func dialogue(t *testing.T, client, suite string, start harness.Server, way func(testing.TB, string) string, scenarios ...string) {
	t.Helper()
	playTypeScript(t, client, suite, start(t), way(t, start(t)), scenarios...)
}

// dialogues is dialogue through several daemons at once, each with a name and a server of its own. Where the operator says
// how long answers live, the unnoticed scenario is left out.
func dialogues(t *testing.T, client, suite string, start harness.Server, ways []cacheWay, unnoticed string) {
	t.Helper()
	urls := []string{start(t)}
	for _, w := range ways {
		urls = append(urls, w.through(t, w.server(start)(t)))
	}
	plays := harness.ParsePlays(t, harness.RunNode(t, harness.Script("dialogue"), client, suite, strings.Join(urls, ",")), urls...)
	for i, w := range ways {
		t.Run(w.name, func(t *testing.T) { w.compare(t, plays[0], plays[i+1], unnoticed) })
	}
}

// playTypeScript runs dialogue.mjs with both URLs and compares what it printed.
func playTypeScript(t *testing.T, client, suite, direct, through string, scenarios ...string) {
	t.Helper()
	args := append([]string{harness.Script("dialogue"), client, suite, direct + "," + through}, scenarios...)
	plays := harness.ParsePlays(t, harness.RunNode(t, args...), direct, through)
	harness.ComparePlays(t, plays[0], plays[1])
}
