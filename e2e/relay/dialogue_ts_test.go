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
	clients := []string{"ts1", "ts2", "ts2-auto"}
	var dialogues []*cacheDialogue
	for _, s := range suites {
		for range clients {
			dialogues = append(dialogues, &cacheDialogue{start: s.start, ways: s.ways})
		}
	}
	startAll(t, dialogues)
	for i, s := range suites {
		for j, client := range clients {
			t.Run(s.name+"/"+client, func(t *testing.T) {
				t.Parallel()
				dialogues[i*len(clients)+j].play(t, client, s.suite, unnoticed(s.name, client != "ts2-auto"))
			})
		}
	}
}

// play plays a suite directly and in all ways at the same time. Where the operator says how long answers live, the unnoticed scenario
// is left out.
func (d *cacheDialogue) play(t *testing.T, client, suite, unnoticed string) {
	t.Helper()
	urls := append([]string{d.direct}, d.through...)
	plays := harness.ParsePlays(t, harness.RunNode(t, harness.Script("dialogue"), client, suite, strings.Join(urls, ",")), urls...)
	for i, w := range d.ways {
		t.Run(w.name, func(t *testing.T) { w.compare(t, plays[0], plays[i+1], unnoticed) })
	}
}

// dialogue plays a suite against a server of its own directly and against another one through the daemon, and compares.
// Without scenarios all of the suite's are played.
func dialogue(t *testing.T, client, suite string, start harness.Server, way func(testing.TB, string) string, scenarios ...string) {
	t.Helper()
	playTypeScript(t, client, suite, start(t), way(t, start(t)), scenarios...)
}

// playTypeScript runs dialogue.mjs with both URLs and compares what it printed.
func playTypeScript(t *testing.T, client, suite, direct, through string, scenarios ...string) {
	t.Helper()
	args := append([]string{harness.Script("dialogue"), client, suite, direct + "," + through}, scenarios...)
	plays := harness.ParsePlays(t, harness.RunNode(t, args...), direct, through)
	harness.ComparePlays(t, plays[0], plays[1])
}
