package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"sync"

	"fluentd-perf/internal/loadgen"
)

//go:embed page.html
var markup string

//go:embed page.css
var style string

// Source is a report, and where it was read from; Name is empty where it was not.
type Source struct {
	Name   string
	Report *loadgen.Report
}

// view is what the template is given. The policy lets in the one style sheet, by its hash.
type view struct {
	Title, Policy string
	Style         template.CSS
	Reports       []reportView
}

type reportView struct {
	ID, Name string
	*loadgen.Report
	Facts []fact
	Goals []goalView
	Runs  []runView
}

type fact struct{ Name, Value string }

type goalView struct {
	loadgen.Goal
	Wanted, Got, Again string
}

type runView struct {
	ID string
	*loadgen.Run
	Counts, Rounds table
	Times          []timesView
	Pairs          []pairView
	Charts         []*chart
}

// table has a row for each figure and a column for each target, or the other way round.
type table struct {
	Head []string
	Rows []tableRow
}

type tableRow struct {
	Name  string
	Cells []string
}

type timesView struct {
	Target string
	Rows   []tableRow
}

// pairView are the ratios of one target to another.
type pairView struct {
	Of, To string
	Ratios []ratioView
}

type ratioView struct {
	Figure, Median, Interval, Noise, Difference string
	Claimed                                     bool
}

// parsed is made by the first page: most runs of the program write none.
var parsed = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(markup)) })

// Write writes a page with all of the reports, in their order. The error is w's.
func Write(w io.Writer, sources ...Source) error {
	hash := sha256.Sum256([]byte(style))
	v := view{
		Title: "fluentd-perf benchmark", Style: template.CSS(style),
		Policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'",
	}
	for i, s := range sources {
		v.Reports = append(v.Reports, newReportView(fmt.Sprintf("report-%d", i+1), s))
	}
	if len(sources) == 1 {
		v.Title += ": " + sources[0].Report.Scenario
	}
	return parsed().Execute(w, v)
}

func newReportView(id string, s Source) reportView {
	v := reportView{ID: id, Name: s.Name, Report: s.Report, Facts: facts(s.Report)}
	for _, g := range s.Report.Goals {
		bound := "at least "
		if g.AtMost {
			bound = "at most "
		}
		v.Goals = append(v.Goals, goalView{g, bound + fmt.Sprintf("%.5g", g.Wanted), g.GotText(), g.AgainText()})
	}
	for i := range s.Report.Runs {
		run := &s.Report.Runs[i]
		v.Runs = append(v.Runs, runView{
			ID: fmt.Sprintf("%s-run-%d", id, i+1), Run: run, Counts: counts(run), Rounds: rounds(run), Times: times(run), Pairs: pairs(run),
			Charts: charts(run),
		})
	}
	return v
}

// charts returns those of a run that can be drawn.
func charts(run *loadgen.Run) (all []*chart) {
	for _, c := range []*chart{spectrum(run), throughput(run)} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// pairs groups the ratios of a run by the targets, in their order.
func pairs(run *loadgen.Run) (all []pairView) {
	for i := range run.Ratios {
		r := &run.Ratios[i]
		if n := len(all); n == 0 || all[n-1].Of != r.Of || all[n-1].To != r.To {
			all = append(all, pairView{Of: r.Of, To: r.To})
		}
		noise, difference := run.Difference(r)
		p := &all[len(all)-1]
		p.Ratios = append(p.Ratios, ratioView{
			r.FigureText(), ratioText(r.Median), r.IntervalText(), noise, difference, run.Claims(r),
		})
	}
	return all
}
