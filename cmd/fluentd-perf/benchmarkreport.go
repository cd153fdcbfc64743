package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/page"
)

// maxReport bounds the file of a report, in bytes. One of the largest scenario takes some 500 KB.
const maxReport = 64 << 20

// benchmarkReportCommand writes pages of reports that are files.
func benchmarkReportCommand() *cobra.Command {
	var html string
	c := &cobra.Command{
		Use: "report FILE...", Short: "Write reports of benchmark -o json as a page for people",
		Long: "Writes one page with all of the reports, in their order. The page has all that it needs in it, and no script.\n" +
			"Reports of different runs are shown one after the other: no difference between them is claimed.",
		Example: "  fluentd-perf benchmark report monday.json tuesday.json --html week.html",
		Args: func(_ *cobra.Command, files []string) error {
			if len(files) == 0 {
				return daemon.UsageError{Err: errors.New("name the files of the reports")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, files []string) error {
			if html == "" {
				return daemon.UsageError{Err: errors.New("--html says where the page is written")}
			}
			var sources []page.Source
			for _, file := range files {
				report, err := readReport(file)
				if err != nil {
					return err
				}
				sources = append(sources, page.Source{Name: filepath.Base(file), Report: report})
			}
			return writePage(html, sources...)
		},
	}
	c.Flags().StringVar(&html, "html", "", "the `file` of the page")
	return c
}

// readReport reads a file that benchmark -o json wrote.
func readReport(file string) (*loadgen.Report, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxReport {
		return nil, fmt.Errorf("%s: no report is larger than %s", file, size(maxReport))
	}
	var report loadgen.Report
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("%s is no report of a benchmark: %w", file, err)
	}
	if report.Schema != loadgen.SchemaID {
		return nil, fmt.Errorf("%s is no report of a benchmark: its $schema is %q, not %s", file, report.Schema, loadgen.SchemaID)
	}
	return &report, nil
}

// writePage writes the page of reports.
func writePage(file string, sources ...page.Source) error {
	return writeFile(file, func(w io.Writer) error { return page.Write(w, sources...) })
}
