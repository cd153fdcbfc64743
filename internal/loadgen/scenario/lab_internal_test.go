package scenario

import (
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen"
)

// TestElsewhere: of a daemon on another machine no /metrics is read.
func TestElsewhere(t *testing.T) {
	target, err := loadgen.NewTarget("http://192.0.2.1/mcp/x", "") // nobody's (RFC 5737)
	if err != nil {
		t.Fatal(err)
	}
	for _, elsewhere := range []bool{true, false} {
		l := &lab{o: &Options{Daemon: &Endpoint{Target: target, Elsewhere: elsewhere}}}
		all, err := l.subjects(t.Context(), 1)
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		for _, s := range all {
			if (s.metrics == nil) != elsewhere {
				t.Errorf("%s, elsewhere %v: its metrics are read: %v", s.name, elsewhere, s.metrics != nil)
			}
		}
	}
}

// TestOnlyCalls: a daemon in front of a server that is limited is told to send nothing of its own accord, and no other is.
func TestOnlyCalls(t *testing.T) {
	url, err := loadgen.NewTarget("http://192.0.2.1/mcp", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []*loadgen.Target{url, loadgen.NewCommandTarget(loadgen.Command{Args: []string{"cat"}})} {
		for _, limited := range []bool{true, false} {
			yaml, err := (&Options{Server: &Endpoint{Target: target}, Limited: limited}).serverConfig(2)
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"cache: {listen: off}", "retry: {max: 0}", "sessions: {heal: off}"} {
				if strings.Contains(yaml, key) != limited {
					t.Errorf("limited %v: %s", limited, yaml)
				}
			}
			if strings.Contains(yaml, "processes: {warm: 0}") != (limited && target.Command != nil) {
				t.Errorf("limited %v: %s", limited, yaml)
			}
		}
	}
}
