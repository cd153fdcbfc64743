package main

import (
	"net/url"
	"slices"
	"testing"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/loadgen/scenario"
)

// TestListensAt: a daemon that listens on all addresses listens on those of this machine, and on no other's.
func TestListensAt(t *testing.T) {
	for _, c := range []struct {
		url, address string
		want         bool
	}{
		{"http://127.0.0.1:7300/mcp/x", "127.0.0.1:7300", true},
		{"http://localhost:7300/mcp/x", "0.0.0.0:7300", true},
		{"http://[::1]:7300/mcp/x", "[::]:7300", true},
		{"http://127.0.0.1/mcp/x", "[::]:80", true},
		{"http://127.0.0.1:7301/mcp/x", "0.0.0.0:7300", false},
		{"http://192.0.2.1:7300/mcp/x", "0.0.0.0:7300", false}, // nobody's (RFC 5737)
		{"http://192.0.2.1:7300/mcp/x", "[::]:7300", false},
		{"http://127.0.0.1:7300/mcp/x", "unix:/run/x", false},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := listensAt(t.Context(), u, c.address); got != c.want {
			t.Errorf("%s, %s: %v", c.url, c.address, got)
		}
	}
}

// TestFewestProcesses: with several commands the one that may have the fewest processes bounds the calls at once.
func TestFewestProcesses(t *testing.T) {
	for _, c := range []struct{ before, behind, want int }{{16, 64, 16}, {16, 4, 4}, {0, 64, 64}, {16, 0, 16}} {
		f := targetFlags{maxProcesses: c.before}
		if err := f.lookBehind(t.Context(), api.UpstreamStatus{MaxProcesses: c.behind}); err != nil || f.maxProcesses != c.want {
			t.Errorf("%+v: %d, %v", c, f.maxProcesses, err)
		}
	}
}

// TestBridgeBehind: a command of a running daemon may be a bridge to a server that may not be loaded.
func TestBridgeBehind(t *testing.T) {
	f := new(targetFlags)
	u := api.UpstreamStatus{MaxProcesses: 16, CommandHosts: []string{"127.0.0.1", "192.0.2.1", "no-such-name.invalid"}}
	if err := f.lookBehind(t.Context(), u); err != nil || !slices.Equal(f.others, []string{"192.0.2.1", "no-such-name.invalid"}) {
		t.Errorf("%q, %v", f.others, err)
	}
}

// TestDaemonElsewhere: it is noted of a daemon whether it is on this machine.
func TestDaemonElsewhere(t *testing.T) {
	t.Setenv("FLUENTD_PERF_SOCKET", t.TempDir()+"/none.sock")
	c := benchmarkCommand()
	c.SetContext(t.Context())
	for address, want := range map[string]bool{"http://192.0.2.1/mcp/x": true, "http://127.0.0.1:9/mcp/x": false} {
		f, o := targetFlags{daemon: address}, new(scenario.Options)
		if err := f.resolve(t.Context(), c, o); err != nil || o.Daemon.Elsewhere != want || len(f.others) != 1 {
			t.Errorf("%s: %+v, %v, %v", address, o.Daemon, f.others, err)
		}
	}
}
