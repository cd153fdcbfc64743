package main

import (
	"encoding/json"
	"fmt"
	"io"

	"fluentd-perf/internal/daemon"

	"github.com/spf13/cobra"
)

// outputFlag adds -o: a table for people, JSON for programs.
func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "table", "table or json")
	completeWords(c, "output", "table", "json")
	c.PreRunE = func(*cobra.Command, []string) error {
		if *output != "table" && *output != "json" {
			return daemon.UsageError{Err: fmt.Errorf("--output %q: use table or json", *output)}
		}
		return nil
	}
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
