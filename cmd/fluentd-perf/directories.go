package main

import (
	"github.com/spf13/cobra"

	"fluentd-perf/internal/daemon"
)

// directoryFlags say where the daemon keeps its files.
type directoryFlags struct{ daemon.Paths }

func (f *directoryFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.State, "state-dir", "",
		"`directory` for what outlives a restart (default $STATE_DIRECTORY, $XDG_STATE_HOME/fluentd-perf or ~/.local/state/fluentd-perf)")
	c.Flags().StringVar(&f.Cache, "cache-dir", "",
		"`directory` for packages of npx commands (default $CACHE_DIRECTORY, $XDG_CACHE_HOME/fluentd-perf or ~/.cache/fluentd-perf)")
	c.Flags().StringVar(&f.Runtime, "runtime-dir", "",
		"`directory` for the admin socket (default $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/fluentd-perf, "+daemon.SystemRuntime()+" for root, or run in the state directory)")
}
