package scenario_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen/scenario"
)

// TestInterrupted: the report of a benchmark that was interrupted has the rounds that all targets have had, and says so.
func TestInterrupted(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, whole int }{{1, 0}, {3, 2}} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		report, err := scenario.Run(ctx, scenario.Options{
			Scenario: "high_throughput", NoDaemon: true, Own: []string{program, ownServer}, Concurrency: 2, Duration: 500 * time.Millisecond, Rounds: 4,
			Progress: func(p scenario.Progress) {
				if p.Round == c.in {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("in round %d: %v", c.in, err)
		}
		if c.whole == 0 {
			if len(report.Runs) > 0 {
				t.Errorf("in round %d: %+v", c.in, report.Runs)
			}
			continue
		}
		if len(report.Runs) != 1 || !slices.Contains(report.Notes, "2 at once: interrupted after 2 of 4 rounds.") {
			t.Fatalf("in round %d: %d runs, %q", c.in, len(report.Runs), report.Notes)
		}
		for _, target := range report.Runs[0].Targets {
			if len(target.Rounds) != c.whole || target.Sum.Succeeded == 0 || target.Sum.Failed > 0 {
				t.Errorf("%s: %d rounds, %+v", target.Name, len(target.Rounds), target.Sum)
			}
		}
	}
}
