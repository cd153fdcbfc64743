package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/monitor"

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

// writeOutput writes what a verb answers: as JSON where that is asked for, else as table does for people.
func writeOutput[T any](w io.Writer, output string, v T, table func(io.Writer, T) error) error {
	if output == "json" {
		return writeJSON(w, v)
	}
	return table(w, v)
}

// readFile has read read a file. What is wrong in it is said with the file's name.
func readFile[T any](name string, read func(io.Reader) (T, error)) (v T, err error) {
	file, err := os.Open(name)
	if err != nil {
		return v, err
	}
	defer file.Close()
	if v, err = read(file); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return v, err
}

// writeFile writes a file of what write makes, once that is whole. Where the disk is full the file is left empty: half of it looks like one.
func writeFile(name string, write func(io.Writer) error) error {
	var text bytes.Buffer
	if err := write(&text); err != nil {
		return err
	}
	err := os.WriteFile(name, text.Bytes(), 0o644)
	if err != nil {
		_ = os.Truncate(name, 0) // err says what is wrong
	}
	return err
}

// newTable returns a writer of rows with aligned cells; Flush writes them.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// row writes one line of cells.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = printable(fmt.Sprint(c))
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

// known writes a number that may not be known.
func known(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// percent writes which part of all was hits, "-" of nothing. It rounds down: 100% means that there was no other.
func percent(hits, others uint64) string {
	switch all := hits + others; {
	case all == 0:
		return "-"
	case others == 0:
		return "100%"
	default:
		tenths := hits * 1000 / all
		return fmt.Sprintf("%d.%d%%", tenths/10, tenths%10)
	}
}

// size writes bytes in the largest unit of which there is one, "-" where it is not known.
func size(bytes int64) string {
	switch {
	case bytes < 0:
		return "-"
	case bytes < 1<<10:
		return fmt.Sprintf("%d B", bytes)
	}
	n, units := float64(bytes)/(1<<10), []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for n >= 1023.95 && len(units) > 1 { // which would be written as 1024.0
		n, units = n/(1<<10), units[1:]
	}
	return fmt.Sprintf("%.1f %s", n, units[0])
}

// printable replaces what could move a terminal's cursor: names and errors may be other programs' words.
func printable(text string) string { return monitor.Printable(text) }

// rounded writes a time as people say it.
func rounded(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
