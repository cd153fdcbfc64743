package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/loadgen"
)

// exitWorse is for a comparison that failed a condition.
const exitWorse = 4

// worseError says how many changes are over their bounds.
type worseError struct{ failed int }

// Error says so.
func (e worseError) Error() string {
	return fmt.Sprintf("%d figures are over their bound and over the noise", e.failed)
}

func compareCommand() *cobra.Command {
	var failOn, output string
	c := &cobra.Command{
		Use: "compare OLD.json NEW.json", Short: "Compare the reports of two builds",
		Args: wrongUsage(cobra.ExactArgs(2)),
		Long: "Compares what `benchmark -o json` printed of two builds. A file may hold several reports, one after the other: of builds\n" +
			"that took turns, which is what tells most. Figures: " + loadgen.FigurePerSecond + ", " + loadgen.FigureP50 + ", " + loadgen.FigureP99 + ", " +
			loadgen.FigureCPU + ", " + loadgen.FigureAllocs + ", " + loadgen.FigureAllocBytes + ".\n\n" +
			"A figure fails where its change over at least five rounds is over the bound that --fail-on names for it and is no chance:\n" +
			"the more figures are judged, the less likely it has to be. Nothing else fails.\n\n" +
			"Exit code 0: no condition failed; 1: it could not be done, a condition could be judged nowhere, or none of a load of OLD.json;\n" +
			"2: the flags are wrong; 4: a condition failed.",
		Example: "  fluentd-perf benchmark compare old.json new.json\n" +
			"  fluentd-perf benchmark compare old.json new.json --fail-on 'cpu>+10%,allocs>+0%'",
		RunE: func(c *cobra.Command, files []string) error {
			return compareReports(c.OutOrStdout(), files, c.Flags().Changed("fail-on"), failOn, output)
		},
	}
	c.Flags().StringVar(&failOn, "fail-on", "", "`conditions` that fail the comparison, as cpu>+10%,allocs>+0%,perSecond<-10%")
	outputFlag(c, &output)
	return c
}

// compareReports compares two files and writes what comes of it.
func compareReports(w io.Writer, files []string, asked bool, failOn, output string) error {
	var conditions []loadgen.Condition
	if asked {
		var err error
		if conditions, err = loadgen.ParseConditions(failOn); err != nil {
			return daemon.UsageError{Err: fmt.Errorf("--fail-on: %w", err)}
		}
	}
	old, err := readFile(files[0], loadgen.ReadReports)
	if err != nil {
		return err
	}
	new, err := readFile(files[1], loadgen.ReadReports)
	if err != nil {
		return err
	}
	comparison, err := loadgen.CompareReports(old, new, conditions)
	if err != nil {
		return err
	}
	switch err := writeOutput(w, output, comparison, comparisonTable); {
	case err != nil:
		return err
	case comparison.Failed > 0:
		return worseError{comparison.Failed}
	case len(comparison.NotJudged) > 0:
		return errors.New("nothing could be said of " + strings.Join(comparison.NotJudged, ", "))
	case asked && len(comparison.LeftOut) > 0:
		return errors.New("nothing could be said of these loads: " + strings.Join(comparison.LeftOut, "; "))
	}
	return nil
}

// comparisonTable writes a comparison for people.
func comparisonTable(w io.Writer, c *loadgen.Comparison) error {
	fmt.Fprintf(w, "%s: %s beside %s\n", printable(c.Scenario), printable(c.New), printable(c.Old))
	t := newTable(w)
	row(t, "LOAD", "FIGURE", "OLD", "NEW", "CHANGE", "99 % INTERVAL", "NOISE", "ROUNDS", "BOUND", "RESULT")
	for _, change := range c.Changes {
		changeRow(t, change)
	}
	for _, n := range c.Notes {
		fmt.Fprintln(t, printable(n))
	}
	return t.Flush()
}

func changeRow(w io.Writer, c loadgen.Change) {
	between, noise, bound, result := "-", "-", "-", c.Result
	if c.High > 0 {
		between = fmt.Sprintf("%+.1f - %s %%", 100*(c.Low-1), loadgen.Bounded(100*(c.High-1), 1000, "%+.1f"))
	}
	if c.Noise > 0 {
		noise = loadgen.Bounded(100*c.Noise, 1000, "%.1f") + " %"
	}
	if c.Condition != nil {
		bound = strings.TrimPrefix(c.Condition.String(), c.Figure)
	}
	if c.Result == loadgen.ResultShown {
		result = "-"
	}
	if c.Why != "" {
		result += ": " + c.Why
	}
	name := loadgen.FigureText(c.Figure)
	switch c.Figure {
	case loadgen.FigureP50, loadgen.FigureP99, loadgen.FigureCPU:
		name += ", µs"
	}
	if c.Basis == "direct" {
		name += ", beside direct"
	}
	row(w, c.Run, name, fmt.Sprintf("%.4g", c.Old), fmt.Sprintf("%.4g", c.New), loadgen.Bounded(100*(c.Median-1), 1000, "%+.1f")+" %", between, noise, len(c.Rounds), bound, result)
}
