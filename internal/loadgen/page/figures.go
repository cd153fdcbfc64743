package page

import (
	"fmt"
	"strings"

	"fluentd-perf/internal/loadgen"
)

// facts says what made a report, and where. What is not known is left out.
func facts(r *loadgen.Report) (all []fact) {
	add := func(name string, values ...string) {
		if value := strings.TrimSpace(strings.Join(values, " ")); value != "" {
			all = append(all, fact{name, value})
		}
	}
	if !r.Started.IsZero() {
		add("Started", r.Started.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	add("Took", fmt.Sprintf("%.1f s", float64(r.TookMs)/1e3))
	add("Program", "fluentd-perf", programText(&r.Program))
	for _, d := range daemons(r) {
		add("Daemon", d)
	}
	m := &r.Machine
	add("System", m.OS, m.Kernel)
	add("CPU", fmt.Sprintf("%d ×", m.CPUs), m.CPU)
	add("Governor", m.Governor)
	if m.Memory > 0 {
		add("Memory", bytesText(m.Memory))
	}
	if len(m.LoadAvg) > 0 {
		add("Load average", strings.Trim(fmt.Sprintf("%.2f", m.LoadAvg), "[]"), "at the start")
	}
	for _, c := range r.Ceiling {
		add(fmt.Sprintf("Generator's ceiling, %d at once", c.Concurrency), number(c.PerSecond)+" calls a second")
	}
	return all
}

func programText(p *loadgen.Program) string {
	text := p.Version
	for _, part := range []string{p.Go, p.Platform} {
		if part != "" {
			text += ", " + part
		}
	}
	return text
}

// daemons returns the versions of the daemons that were measured, each once.
func daemons(r *loadgen.Report) (all []string) {
	seen := make(map[string]bool)
	for i := range r.Runs {
		for _, t := range r.Runs[i].Targets {
			if t.Program == nil {
				continue
			}
			if text := programText(t.Program); !seen[text] {
				seen[text] = true
				all = append(all, text)
			}
		}
	}
	return all
}

// countRows are the figures of a target's rounds together; "" is not known, or nothing to tell.
var countRows = []struct {
	name string
	of   func(*loadgen.Result) string
}{
	{"calls a second", func(r *loadgen.Result) string { return number(r.Sum.PerSecond) }},
	{"right answers", func(r *loadgen.Result) string { return fmt.Sprint(r.Sum.Succeeded) }},
	{"failed", func(r *loadgen.Result) string { return fmt.Sprint(r.Sum.Failed) }},
	{"sent late", func(r *loadgen.Result) string { return some(r.Sum.Late) }},
	{"not sent", func(r *loadgen.Result) string { return some(r.Sum.Dropped) }},
	{"hits", func(r *loadgen.Result) string { hits, _, _ := r.Sum.Cache.Texts(); return hits }},
	{"shared answers", func(r *loadgen.Result) string { _, shared, _ := r.Sum.Cache.Texts(); return shared }},
	{"misses", func(r *loadgen.Result) string { _, _, misses := r.Sum.Cache.Texts(); return misses }},
	{"requests at the server", func(r *loadgen.Result) string {
		if r.Sum.Server == nil {
			return ""
		}
		return fmt.Sprint(r.Sum.Server.Posts)
	}},
	{"CPU of a call", usage(func(u *loadgen.Usage) string {
		if u.CPUSeconds == 0 {
			return ""
		}
		return loadgen.TimeText(u.CPUUs)
	})},
	{"most memory", usage(func(u *loadgen.Usage) string {
		if u.PeakRSS == 0 {
			return ""
		}
		return bytesText(u.PeakRSS)
	})},
	{"allocations of a call", usage(func(u *loadgen.Usage) string { return some(int64(u.Allocs)) })},
	{"bytes of a call", usage(func(u *loadgen.Usage) string { return some(int64(u.AllocBytes)) })},
	{"streams still open", func(r *loadgen.Result) string {
		if r.Streams == nil {
			return ""
		}
		return fmt.Sprintf("%d of %d", r.Streams.Alive, r.Streams.Wanted)
	}},
	{"processes with the list", processes(func(c *loadgen.ProcessCounts) (int, int64) { return c.Listed, c.ListedPSS })},
	{"processes with the call", processes(func(c *loadgen.ProcessCounts) (int, int64) { return c.Called, c.CalledPSS })},
	{"the daemon's own memory", func(r *loadgen.Result) string {
		if r.Sum.Processes == nil || r.Sum.Processes.DaemonPSS == 0 {
			return ""
		}
		return bytesText(r.Sum.Processes.DaemonPSS)
	}},
	{"transport, era", func(r *loadgen.Result) string { return strings.Trim(r.Transport+", "+r.Era, ", ") }},
}

// processes are those of a server that is a command, with their memory.
func processes(of func(*loadgen.ProcessCounts) (n int, pss int64)) func(*loadgen.Result) string {
	return func(r *loadgen.Result) string {
		if r.Sum.Processes == nil {
			return ""
		}
		n, pss := of(r.Sum.Processes)
		switch {
		case n == 0:
			return ""
		case pss == 0:
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d, %s", n, bytesText(pss))
	}
}

// usage reads a figure of the target's process.
func usage(of func(*loadgen.Usage) string) func(*loadgen.Result) string {
	return func(r *loadgen.Result) string {
		if r.Sum.Process == nil {
			return ""
		}
		return of(r.Sum.Process)
	}
}

// counts has a column for each target, and a row for each figure that one of them has.
func counts(run *loadgen.Run) table {
	t := table{Head: targetNames(run)}
	for _, c := range countRows {
		row, any := tableRow{Name: c.name}, false
		for i := range run.Targets {
			text := c.of(&run.Targets[i])
			any = any || text != ""
			row.Cells = append(row.Cells, or(text))
		}
		if any {
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// rounds has a row for each round, with what each target did in it.
func rounds(run *loadgen.Run) table {
	t := table{Head: targetNames(run)}
	for n := range roundCount(run) {
		row := tableRow{Name: fmt.Sprint(n + 1)}
		for i := range run.Targets {
			text := ""
			if all := run.Targets[i].Rounds; n < len(all) {
				text = roundText(&all[n])
			}
			row.Cells = append(row.Cells, or(text))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func roundText(r *loadgen.Round) string {
	text := number(r.PerSecond) + "/s"
	l := r.Intended
	if l == nil {
		l = r.Service
	}
	if l != nil {
		text += ", p50 " + loadgen.TimeText(l.P50) + ", p99 " + loadgen.TimeText(l.P99)
	}
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d failed", r.Failed)
	}
	return text
}

// times are the distributions of each target, all rounds together.
func times(run *loadgen.Run) (all []timesView) {
	for i := range run.Targets {
		v := timesView{Target: run.Targets[i].Name}
		for _, d := range run.Targets[i].Sum.Distributions() {
			row := tableRow{Name: d.Name}
			for _, us := range []float64{d.P50, d.P90, d.P99, d.P999, d.Max} {
				row.Cells = append(row.Cells, loadgen.TimeText(us))
			}
			v.Rows = append(v.Rows, row)
		}
		if v.Rows != nil {
			all = append(all, v)
		}
	}
	return all
}

func targetNames(run *loadgen.Run) (all []string) {
	for _, t := range run.Targets {
		all = append(all, t.Name)
	}
	return all
}

func roundCount(run *loadgen.Run) (n int) {
	for _, t := range run.Targets {
		n = max(n, len(t.Rounds))
	}
	return n
}

// some writes a count, and nothing of none.
func some(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func or(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// number writes a rate, a large one without a fraction.
func number(n float64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.3g", n)
	case n >= 100:
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.3g", n)
}

// ratioText writes a ratio, a small or large one by its first digits.
func ratioText(n float64) string {
	if n < 0.1 || n >= 1000 {
		return fmt.Sprintf("%.2g", n)
	}
	return fmt.Sprintf("%.2f", n)
}

func bytesText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
