package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"fluentd-perf/internal/loadgen"
)

// benchmarkTables writes a report for people.
func benchmarkTables(out io.Writer, report *loadgen.Report) error {
	w, m := newTable(out), report.Machine
	fmt.Fprintf(w, "%s by fluentd-perf %s on %d CPUs%s, %s %s", report.Scenario, printable(report.Program.Version), m.CPUs, inBrackets(m.CPU), m.OS, printable(m.Kernel))
	if len(m.LoadAvg) > 0 {
		fmt.Fprintf(w, ", load %.2f at the start", m.LoadAvg[0])
	}
	fmt.Fprintln(w)
	for _, c := range report.Ceiling {
		fmt.Fprintf(w, "the generator's own ceiling with %d at once: %.0f calls a second, %.1f µs of its CPU for one\n", c.Concurrency, c.PerSecond, c.CPUUs)
	}
	for i := range report.Runs {
		runTables(w, &report.Runs[i])
	}
	goalTable(w, report.Goals)
	if len(report.Notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range report.Notes {
		fmt.Fprintln(w, printable(n))
	}
	return w.Flush()
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + printable(text) + ")"
}

// runTables writes what one load came to.
func runTables(w io.Writer, run *loadgen.Run) {
	fmt.Fprintf(w, "\n%s: %s\n", printable(run.Name), run.LoadText())
	row(w, "TARGET", "ANSWERS", "FAILED", "LATE", "DROPPED", "PER SECOND", "HITS", "SHARED", "MISSES", "AT SERVER", "CPU/CALL", "ALLOCS/CALL", "BYTES/CALL", "MEMORY")
	for i := range run.Targets {
		targetRow(w, &run.Targets[i])
	}
	fmt.Fprintln(w)
	row(w, "TARGET", "TIME", "CALLS", "P50", "P90", "P95", "P99", "P99.9", "MAX")
	for i := range run.Targets {
		timeRows(w, &run.Targets[i])
	}
	processCountTable(w, run)
	ratioTable(w, run)
}

// processCountTable says what the processes of a server that is a command were, where that was counted.
func processCountTable(w io.Writer, run *loadgen.Run) {
	if !slices.ContainsFunc(run.Targets, func(t loadgen.Result) bool { return t.Sum.Processes != nil }) {
		return
	}
	fmt.Fprintln(w)
	row(w, "TARGET", "PROCESSES WITH THE LIST", "PSS", "PROCESSES WITH THE CALL", "PSS", "DAEMON'S PSS")
	for _, r := range run.Targets {
		c := r.Sum.Processes
		if c == nil {
			continue
		}
		called := "-"
		if c.Called > 0 {
			called = fmt.Sprint(c.Called)
		}
		row(w, r.Name, c.Listed, knownSize(c.ListedPSS), called, knownSize(c.CalledPSS), knownSize(c.DaemonPSS))
	}
}

// knownSize writes bytes, and "-" for none.
func knownSize(n int64) string {
	if n == 0 {
		return "-"
	}
	return size(n)
}

func targetRow(w io.Writer, r *loadgen.Result) {
	s := &r.Sum
	hits, shared, misses := s.Cache.Texts()
	cpu, allocs, bytes, memory := "-", "-", "-", "-"
	if u := s.Process; u != nil {
		if u.CPUSeconds > 0 {
			cpu, memory = fmt.Sprintf("%.1f µs", u.CPUUs), size(u.PeakRSS)
		}
		if u.Allocs > 0 {
			allocs, bytes = fmt.Sprintf("%.1f", u.Allocs), fmt.Sprintf("%.0f", u.AllocBytes)
		}
	}
	posts := "-"
	if s.Server != nil {
		posts = fmt.Sprint(s.Server.Posts)
	}
	perSecond := fmt.Sprintf("%.0f", s.PerSecond)
	if s.PerSecond < 10 {
		perSecond = fmt.Sprintf("%.2f", s.PerSecond)
	}
	row(w, r.Name, s.Succeeded, s.Failed, s.Late, s.Dropped, perSecond, cmp.Or(hits, "-"), cmp.Or(shared, "-"), cmp.Or(misses, "-"), posts, cpu, allocs, bytes, memory)
}

// timeRows writes the distributions of a target.
func timeRows(w io.Writer, r *loadgen.Result) {
	for _, d := range r.Sum.Distributions() {
		row(w, r.Name, d.Name, d.Count, loadgen.TimeText(d.P50), loadgen.TimeText(d.P90), loadgen.TimeText(d.P95), loadgen.TimeText(d.P99), loadgen.TimeText(d.P999), loadgen.TimeText(d.Max))
	}
}

func ratioTable(w io.Writer, run *loadgen.Run) {
	if len(run.Ratios) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "RATIO", "OF", "MEDIAN", "99 % INTERVAL", "NOISE", "DIFFERENCE")
	for i := range run.Ratios {
		r := &run.Ratios[i]
		noise, difference := run.Difference(r)
		row(w, r.Of+" / "+r.To, r.FigureText(), fmt.Sprintf("%.2f", r.Median), r.IntervalText(), noise, difference)
	}
}

// goalTable says yes or no to each target, and how far.
func goalTable(w io.Writer, goals []loadgen.Goal) {
	if len(goals) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "TARGET", "MET", "WANTED", "GOT", "AGAIN", "UNIT", "DETAIL")
	for _, g := range goals {
		met, bound := "no", "at least"
		if g.Met {
			met = "yes"
		}
		if g.AtMost {
			bound = "at most"
		}
		row(w, g.Name, met, fmt.Sprintf("%s %.5g", bound, g.Wanted), g.GotText(), g.AgainText(), g.Unit, g.Detail)
	}
}

var notInFileName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// writeHGRM writes a file for each distribution of each target.
func writeHGRM(dir string, report *loadgen.Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, run := range report.Runs {
		for _, t := range run.Targets {
			for what, l := range map[string]*loadgen.Latency{"service": t.Sum.Service, "intended": t.Sum.Intended, "hits": t.Sum.Hits, "misses": t.Sum.Misses} {
				if l == nil {
					continue
				}
				words := []string{report.Scenario, run.Name, t.Name, what}
				for i, word := range words {
					words[i] = strings.Trim(notInFileName.ReplaceAllString(word, "-"), "-")
				}
				if err := writeOneHGRM(filepath.Join(dir, strings.Join(words, ".")+".hgrm"), l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func writeOneHGRM(file string, l *loadgen.Latency) error {
	h, err := l.Histogram()
	if err != nil {
		return err
	}
	return writeFile(file, h.WriteHGRM)
}
