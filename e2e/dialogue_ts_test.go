package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestTypeScriptClients plays every suite of scenarios with the official TypeScript clients: 1.32.2, 2.4.0 as it comes
// (legacy) and 2.4.0 when it negotiates (modern where the server is).
func TestTypeScriptClients(t *testing.T) {
	suites := []struct {
		name  string
		suite string
		start server
	}{
		{"everything", "everything", npmServer("streamableHttp")},
		{"go stateful", "gosdk", goStateful},
		{"go stateless", "gosdk", goStateless},
		{"dual", "dual", dualServer},
	}
	for _, s := range suites {
		for _, client := range []string{"ts1", "ts2", "ts2-auto"} {
			t.Run(s.name+"/"+client, func(t *testing.T) {
				t.Parallel()
				dialogue(t, client, s.suite, s.start, through)
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
