package main

import (
	"context"
	"strings"
	"testing"

	"fluentd-perf/internal/api"
)

// TestCompletion has the shell complete verbs, flags and what flags may say; names of upstreams are those of the daemon
// that runs.
func TestCompletion(t *testing.T) {
	daemonFor(t, adminCalls{status: func(context.Context, bool) (api.Status, error) {
		return api.Status{Upstreams: []api.UpstreamStatus{{Upstream: "docs"}, {Upstream: "node"}}}, nil
	}})
	for _, c := range []struct{ typed, want string }{
		{"sch", "schema"},
		{"cache-purge --upstream ", "docs node"},
		{"cache-purge --method ", "server/discover tools/list tools/call prompts/list resources/list resources/templates/list resources/read"},
		{"status --output ", "table json"},
		{"serve --log-level ", "debug info warn error"},
		{"serve --log-format ", "text json"},
		{"check --config ", "yaml yml"},
		{"demo --log-level ", "debug info warn error"},
	} {
		if got := completed(t, c.typed); got != c.want {
			t.Errorf("%q: %q, want %q", c.typed, got, c.want)
		}
	}
}

// TestCompletionWithoutADaemon: there is nothing to complete, and nothing is said of it.
func TestCompletionWithoutADaemon(t *testing.T) {
	t.Setenv("FLUENTD_PERF_SOCKET", t.TempDir()+"/none.sock")
	if got := completed(t, "cache-purge --upstream "); got != "" {
		t.Errorf("completed %q", got)
	}
}

// completed returns what the shell is offered behind what is typed.
func completed(t *testing.T, typed string) string {
	t.Helper()
	code, out, errs := command(append([]string{"__complete"}, strings.Split(typed, " ")...)...)
	if code != 0 {
		t.Fatalf("%q: exit %d, %s", typed, code, errs)
	}
	var names []string
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if !strings.HasPrefix(name, ":") { // the directive of the shell's script
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}
