package stdio

import (
	"testing"

	"fluentd-perf/e2e/harness"
)

func TestMain(m *testing.M) {
	callIfAsked()
	becomeIfRestricted()
	harness.RunTests(m)
}

// serverCommand is the command of a server: the peer of the tests with arguments. It is without the race detector, which has nothing to
// find in it.
func serverCommand(t *testing.T, args ...string) []string {
	t.Helper()
	binary, err := harness.BuildPeer()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{binary, "stdio"}, args...)
}
