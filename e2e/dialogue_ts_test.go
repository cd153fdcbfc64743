package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTypeScriptClients plays every suite of scenarios with the official TypeScript clients: 1.32.2, 2.4.0 as it comes
// (legacy) and 2.4.0 when it negotiates (modern where the server is). They play through daemons with and without a cache
// that speaks.
func TestTypeScriptClients(t *testing.T) {
	suites := []struct {
		name  string
		suite string
		start server
		ways  []cacheWay
	}{
		{"everything", "everything", npmServer("streamableHttp"), cacheWays[:2]},
		{"go stateful", "gosdk", goStateful, cacheWays[:2]},
		{"go stateless", "gosdk", goStateless, cacheWays},
		{"dual", "dual", dualServer, cacheWays[:2]},
	}
	for _, s := range suites {
		for _, client := range []string{"ts1", "ts2", "ts2-auto"} {
			t.Run(s.name+"/"+client, func(t *testing.T) {
				t.Parallel()
				dialogues(t, client, s.suite, s.start, s.ways, unheard(s.name, client != "ts2-auto"))
			})
		}
	}
}

// dialogue plays a suite against a server of its own directly and against another one through the daemon, and compares.
// Without scenarios all of the suite's are played.
func dialogue(t *testing.T, client, suite string, start server, way func(testing.TB, string) string, scenarios ...string) {
	t.Helper()
	playTypeScript(t, client, suite, start(t), way(t, start(t)), scenarios...)
}

// dialogues is dialogue through several daemons at once, each with a name and a server of its own. Where the operator says
// how long answers live, the unheard scenario is left out.
func dialogues(t *testing.T, client, suite string, start server, ways []cacheWay, unheard string) {
	t.Helper()
	urls := []string{start(t)}
	for _, w := range ways {
		urls = append(urls, w.through(t, w.server(start)(t)))
	}
	plays := parse(t, runNode(t, filepath.Join(nodeDir, "dialogue.mjs"), client, suite, strings.Join(urls, ",")), urls...)
	for i, w := range ways {
		t.Run(w.name, func(t *testing.T) { w.compare(t, plays[0], plays[i+1], unheard) })
	}
}

// playTypeScript runs dialogue.mjs with both URLs and compares what it printed.
func playTypeScript(t *testing.T, client, suite, direct, through string, scenarios ...string) {
	t.Helper()
	args := append([]string{filepath.Join(nodeDir, "dialogue.mjs"), client, suite, direct + "," + through}, scenarios...)
	plays := parse(t, runNode(t, args...), direct, through)
	compare(t, plays[0], plays[1])
}

// runNode runs a script of ours to its end and returns its stdout.
func runNode(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node, args...)
	cmd.Dir = nodeDir
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.Bytes())
	}
	return stdout.Bytes()
}
