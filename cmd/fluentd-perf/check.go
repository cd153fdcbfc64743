package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
)

func checkCommand() *cobra.Command {
	var sources sourceFlags
	var output string
	c := &cobra.Command{
		Use: "check", Short: "Check the configuration and say what it comes to", Args: cobra.NoArgs,
		Long: "Reads the configuration as serve does, names all faults at once (file, line, key) and changes nothing.\n" +
			"Exit code 0: it can be served; 2: it has faults.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, warnings, err := sources.load()
			if output == "json" {
				return checkJSON(c, warnings, err)
			}
			for _, w := range warnings {
				fmt.Fprintln(c.ErrOrStderr(), "warning:", w)
			}
			if err != nil {
				return err
			}
			return cfg.Summary(c.OutOrStdout())
		},
	}
	sources.register(c)
	outputFlag(c, &output)
	return c
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON schema of the configuration file", Args: cobra.NoArgs,
		Long: "Prints a JSON schema (draft 2020-12), by which editors complete and check a configuration whose first line is\n" +
			"# yaml-language-server: $schema=fluentd-perf.schema.json\n" +
			"What keys must agree on between them, check alone knows.",
		Example: "  fluentd-perf schema > fluentd-perf.schema.json",
		RunE: func(c *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(schema)
			return err
		},
	}
}

// checkJSON prints faults and warnings for programs.
func checkJSON(c *cobra.Command, warnings []config.Warning, err error) error {
	faults := faultsOf(err)
	report := struct {
		OK       bool             `json:"ok"`
		Faults   []config.Fault   `json:"faults"`
		Warnings []config.Warning `json:"warnings"`
	}{err == nil, append([]config.Fault{}, faults...), append([]config.Warning{}, warnings...)}
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

func faultsOf(err error) config.Faults {
	var faults config.Faults
	errors.As(err, &faults)
	return faults
}
