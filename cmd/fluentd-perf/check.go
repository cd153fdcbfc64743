package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/accesslog"
	"fluentd-perf/internal/monitor"
	"fluentd-perf/internal/profiler"
)

func checkCommand() *cobra.Command {
	var sources sourceFlags
	var output string
	c := &cobra.Command{
		Use: "check", Short: "Check the configuration and say what it comes to", Args: cobra.NoArgs,
		Long: "Reads the configuration as serve does, names all faults at once (file, line, key) and changes nothing.\n" +
			"Of servers that are commands it says what will probably not work on this machine and in this environment, and where\n" +
			"programs are looked for; where the daemon would ask your login shell (processes.path), so does check, for 10 s at most.\n" +
			"Of npx commands it says which run without npx; it asks npm for its settings.\n" +
			"Exit code 0: it can be served; 2: it has faults.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, warnings, err := sources.load()
			var stdio stdioCheck
			var npx npxCheck
			if err == nil {
				if stdio, err = newStdioCheck(c.Context(), cfg, os.Environ(), 0); err != nil {
					return err
				}
				npx = newNPXCheck(c.Context(), stdio)
				warnings = slices.Concat(warnings, stdio.warnings(), npx.warnings())
			}
			if output == "json" {
				return checkJSON(c, warnings, npx.commands, err)
			}
			for _, w := range warnings {
				fmt.Fprintln(c.ErrOrStderr(), "warning:", w)
			}
			if err != nil {
				return err
			}
			return errors.Join(cfg.Summary(c.OutOrStdout()), stdio.pathLines(c.OutOrStdout()), npx.table(c.OutOrStdout()), stdio.sharedLine(c.OutOrStdout()))
		},
	}
	sources.register(c)
	c.Flags().BoolVar(&sources.system, "system", false, "check as for the system's unit, in which commands are refused")
	outputFlag(c, &output)
	return c
}

func schemaCommand() *cobra.Command {
	var benchmark, compared, log, profile, recording bool
	c := &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of the configuration file, or of what a verb prints or records", Args: cobra.NoArgs,
		Long: "Prints a JSON schema (draft 2020-12), by which editors complete and check a configuration whose first line is\n" +
			"# yaml-language-server: $schema=fluentd-perf.schema.json\n" +
			"What keys must agree on between them, check alone knows.",
		Example: "  fluentd-perf schema > fluentd-perf.schema.json",
		RunE: func(c *cobra.Command, _ []string) error {
			made, of := config.Schema, 0
			for _, one := range []struct {
				wanted bool
				made   func() ([]byte, error)
			}{{benchmark, loadgen.Schema}, {compared, loadgen.ComparisonSchema}, {log, accesslog.Schema}, {profile, profiler.Schema}, {recording, monitor.Schema}} {
				if one.wanted {
					made, of = one.made, of+1
				}
			}
			if of > 1 {
				return daemon.UsageError{Err: errors.New("it prints one schema: give one flag")}
			}
			schema, err := made()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(schema)
			return err
		},
	}
	c.Flags().BoolVar(&benchmark, "benchmark", false, "of what benchmark -o json prints")
	c.Flags().BoolVar(&compared, "benchmark-compare", false, "of what benchmark compare -o json prints")
	c.Flags().BoolVar(&log, "benchmark-log", false, "of what benchmark --from-log -o json prints")
	c.Flags().BoolVar(&profile, "profile", false, "of what profile -o json prints")
	c.Flags().BoolVar(&recording, "monitor", false, "of what monitor --output writes")
	return c
}

// checkJSON prints faults and warnings for programs.
func checkJSON(c *cobra.Command, warnings []config.Warning, npx []npxCommand, err error) error {
	var faults config.Faults
	errors.As(err, &faults)
	report := struct {
		OK       bool             `json:"ok"`
		Faults   []config.Fault   `json:"faults"`
		Warnings []config.Warning `json:"warnings"`
		NPX      []npxCommand     `json:"npx"`
	}{err == nil, append([]config.Fault{}, faults...), append([]config.Warning{}, warnings...), append([]npxCommand{}, npx...)}
	if werr := writeJSON(c.OutOrStdout(), report); werr != nil {
		return werr
	}
	if err != nil && len(faults) > 0 {
		return daemon.UsageError{Err: fmt.Errorf("%d faults", len(faults))}
	}
	return err
}

func healthcheckCommand() *cobra.Command {
	var addr string
	c := &cobra.Command{
		Use: "healthcheck", Short: "Ask a running daemon whether it is alive", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return daemon.CheckHealth(c.Context(), addr, 5*time.Second)
		},
	}
	c.Flags().StringVar(&addr, "address", "127.0.0.1:7300", "the daemon's `address`")
	return c
}
