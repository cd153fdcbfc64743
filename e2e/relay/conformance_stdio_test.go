// The official suites in front of a server over stdio.

package relay

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"fluentd-perf/e2e/harness"
)

// conformanceStdio is a suite in front of the Go SDK's server over stdio: what it must count, and the checks that it makes of the
// same server over HTTP only. They are about the fields of an event stream, and the suite leaves them out where an answer is none.
// Over HTTP that server writes every answer as a stream. A server over stdio says nothing of HTTP: the daemon answers by JSON where
// nothing precedes the answer, which both versions of the protocol leave to it.
var conformanceStdio = []struct {
	name           string
	passed, failed int
	missing        []string
}{
	{"2025-11-25", 80, 0, []string{
		"server-sse-multiple-streams: server-sse-streams-functional SUCCESS",
		"server-sse-polling: server-sse-priming-event WARNING",
		"server-sse-polling: server-sse-retry-field SUCCESS",
	}},
	{"2026-07-28", 164, 30, []string{
		"server-sse-multiple-streams: server-sse-streams-functional SUCCESS",
	}},
}

// TestConformanceStdio runs the suites of both eras through the daemon in front of a server that is a command. Every scenario counts
// what it counts of the same server directly over HTTP, but for the checks that are missing.
func TestConformanceStdio(t *testing.T) {
	server := filepath.Join(harness.CacheBin, "everything-server")
	for _, c := range conformanceStdio {
		suite := conformances[slices.IndexFunc(conformances, func(s conformance) bool { return s.name == c.name })]
		t.Run(c.name, func(t *testing.T) {
			for run := range conformanceRuns(t) {
				t.Run(fmt.Sprint(run+1), func(t *testing.T) {
					d := harness.Start(t, harness.Config{Args: []string{"--stdio", "up=" + server, "--log-level", "warn"}, Steady: true})
					direct, got := suite.directly(t), suite.run(t, d.URL("/mcp/up"))
					t.Logf("%s\n%s", c.name, table(direct, got))
					if passed, failed := got.sum(success), got.sum(failure); passed != c.passed || failed != c.failed {
						t.Errorf("%d passed, %d failed; want %d and %d", passed, failed, c.passed, c.failed)
					}
					if missing := missingChecks(t, direct, got); !slices.Equal(missing, c.missing) {
						t.Errorf("missing are\n%q\nwant\n%q", missing, c.missing)
					}
				})
			}
		})
	}
}

// missingChecks returns the checks that only the direct run has, sorted. The counts of the other scenarios must be equal.
func missingChecks(t *testing.T, direct, got scores) (missing []string) {
	t.Helper()
	for _, scenario := range scenariosOf(direct, got) {
		before := len(missing)
		for check := range direct[scenario].checks {
			if !got[scenario].checks[check] {
				missing = append(missing, scenario+": "+check)
			}
		}
		if len(missing) == before && !maps.Equal(direct[scenario].counts, got[scenario].counts) {
			t.Errorf("%s: over HTTP %v, over stdio %v%s", scenario, direct[scenario].counts, got[scenario].counts, got[scenario].failures)
		}
	}
	slices.Sort(missing)
	return missing
}
