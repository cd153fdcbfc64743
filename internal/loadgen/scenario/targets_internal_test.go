package scenario

import (
	"testing"

	"fluentd-perf/internal/loadgen"
)

// TestGoalNotKnown: a target of which it is not known what came of it is in the report, and not met.
func TestGoalNotKnown(t *testing.T) {
	for _, knows := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
		l := &lab{report: new(loadgen.Report)}
		run := &loadgen.Run{Targets: make([]loadgen.Result, 2)}
		for i, known := range knows {
			if known {
				run.Targets[i].Sum.Process = &loadgen.Usage{PeakRSS: 1e6}
			}
		}
		l.goal(run, loadgen.Goal{Name: "memory", Wanted: 500, AtMost: true}, residentMB)
		if len(l.report.Goals) != 1 {
			t.Fatalf("%v: %+v", knows, l.report.Goals)
		}
		all := knows[0] && knows[1]
		if g := l.report.Goals[0]; g.Met != all || g.Unknown == all || (g.Detail == "") != all || all && *g.Again != 1 {
			t.Errorf("%v: %+v", knows, g)
		}
	}
}

// TestNoteCores: a machine with more CPUs than the targets speak of is noted.
func TestNoteCores(t *testing.T) {
	for cpus, notes := range map[int]int{1: 0, 2: 0, 3: 1, 64: 1} {
		l := &lab{report: &loadgen.Report{Machine: loadgen.Machine{CPUs: cpus}}}
		if l.noteCores(); len(l.report.Notes) != notes {
			t.Errorf("%d CPUs: %q", cpus, l.report.Notes)
		}
	}
}
