// The same over net/http's client.

package relay

import (
	"os"
	"os/exec"
	"testing"

	"fluentd-perf/e2e/harness"
)

// overCompat are the tests that TestCompat runs: how requests and answers pass, whole, as streams and broken off, and who leaves.
// What stands above the client behaves the same over either.
const overCompat = "^Test(AgentLeaves|POSTStreamThatBreaks|AnswersThatBreakOff|LargeAnswersStream|SlowAnswersStream|" +
	"HopByHopFieldsComeOffFirst|TemporaryRedirects|OrderOfGETAndCalls)$"

// TestCompat runs some of the tests of this package once more, with `http: compat`.
func TestCompat(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+overCompat, "-test.timeout=10m")
	cmd.Env = append(os.Environ(), harness.HTTPEnv+"=compat", "E2E_SETUP=done", "E2E_DAEMON="+harness.DaemonBinary)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
