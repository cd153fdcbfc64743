package page_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/page"
)

var update = flag.Bool("update", false, "write the structure of the page")

// element is one of a page, with the text that is directly in it and in elements of text.
type element struct {
	name  string
	attrs map[string]string
	text  string
	depth int
}

// parse reads a page, which is well-formed XML, too.
func parse(t *testing.T, text string) (all []*element) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	var open []*element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			if len(all) == 0 {
				t.Fatal("the page is empty")
			}
			return all
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attrs: make(map[string]string), depth: len(open)}
			for _, a := range token.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			all, open = append(all, e), append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, e := range open {
				e.text += string(token)
			}
		}
	}
}

// write returns the page of these reports.
func write(t *testing.T, sources ...page.Source) string {
	t.Helper()
	var text bytes.Buffer
	if err := page.Write(&text, sources...); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// named returns the texts of all elements of that name.
func named(all []*element, name string) (texts []string) {
	for _, e := range all {
		if e.name == name {
			texts = append(texts, e.text)
		}
	}
	return texts
}

// latencies are those that were made: encoding one takes a while.
var latencies = make(map[string]*loadgen.Latency)

func latency(times ...time.Duration) *loadgen.Latency {
	key := fmt.Sprint(times)
	if l := latencies[key]; l != nil {
		return l
	}
	h := loadgen.NewHistogram()
	for _, d := range times {
		h.Record(d)
	}
	latencies[key] = h.Latency()
	return latencies[key]
}

// round is one in which a thousand calls took up to slowest, a tenth of them failed.
func round(n int, slowest time.Duration) loadgen.Round {
	times := make([]time.Duration, 0, 1000)
	for i := range 1000 {
		times = append(times, slowest*time.Duration(i+1)/1000)
	}
	return loadgen.Round{
		Round: n, Seconds: 1, Requests: 1100, Succeeded: 1000, Failed: 100, PerSecond: 1000, Late: 3,
		Service: latency(times...), Intended: latency(times...), Hits: latency(time.Millisecond), Misses: latency(time.Second),
		Cache: loadgen.CacheCounts{Hits: 1, Collapsed: 2, Misses: 3}, Process: &loadgen.Usage{CPUUs: 50, CPUSeconds: 1, PeakRSS: 1 << 21, Allocs: 10, AllocBytes: 1000},
		Server: &loadgen.ServerCounts{Posts: 7}, Curve: []loadgen.Point{{AtMs: 250, Done: 250}, {AtMs: 500, Done: 400, Failed: 100}, {AtMs: 1000, Done: 1100, Failed: 100}},
		Kinds: []loadgen.KindRound{{Name: "tools/list", Part: true, Service: latency(time.Millisecond)}},
	}
}

func target(name string, role loadgen.Role, slowest time.Duration) loadgen.Result {
	return loadgen.Result{
		Name: name, Role: role, Era: "modern", Transport: "tcp", Program: &loadgen.Program{Version: "v1"},
		Rounds: []loadgen.Round{round(1, slowest), round(2, slowest)}, Sum: round(0, slowest), Streams: &loadgen.StreamCounts{Wanted: 9, Opened: 9, Alive: 8},
	}
}

// whole is a report with all that there can be.
func whole() *loadgen.Report {
	ratio := func(figure, of, to string, median float64, claimed bool) loadgen.Ratio {
		return loadgen.Ratio{Figure: figure, Of: of, To: to, Median: median, Low: median / 1.1, High: median * 1.1, Rounds: []float64{median}, Noise: 0.05, Claimed: claimed}
	}
	return &loadgen.Report{
		Schema: loadgen.SchemaID, Scenario: "high_throughput", Program: loadgen.Program{Version: "v1", Go: "go1.26", Platform: "linux/amd64"},
		Machine: loadgen.Machine{OS: "linux", Kernel: "6.1", CPU: "x86", CPUs: 2, Governor: "performance", Memory: 1 << 31, LoadAvg: []float64{0.5, 1, 2}},
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), TookMs: 1500, Ceiling: []loadgen.Ceiling{{Concurrency: 8, PerSecond: 20000}},
		Goals: []loadgen.Goal{{Name: "errors", Unit: "calls", AtMost: true, Met: true}, {Name: "hits", Wanted: 90, Got: 80, Again: new(float64), Unit: "%", Detail: "of repeated work"}},
		Notes: []string{"a note"},
		Runs: []loadgen.Run{{
			Name: "8 at once", Load: loadgen.Load{Loop: loadgen.Closed, Concurrency: 8, Requests: 1100}, Valid: true,
			Targets: []loadgen.Result{target("direct", loadgen.RoleDirect, 10*time.Millisecond), target("daemon", loadgen.RoleDaemon, 20*time.Millisecond), target("daemon again", loadgen.RoleAgain, 21*time.Millisecond)},
			Ratios: []loadgen.Ratio{
				ratio(loadgen.FigurePerSecond, "daemon", "direct", 0.5, true), ratio(loadgen.FigureP99, "daemon", "direct", 1.02, false),
				ratio(loadgen.FigurePerSecond, "daemon again", "daemon", 0.98, false),
			},
		}},
	}
}

// outline is what a page consists of, without the figures.
func outline(all []*element) string {
	var b strings.Builder
	for _, e := range all {
		switch e.name {
		case "h1", "h2", "h3", "figcaption", "caption", "th", "dt", "summary", "li":
			fmt.Fprintf(&b, "%s%s %s\n", strings.Repeat(" ", e.depth), e.name, strings.Join(strings.Fields(e.text), " "))
		case "nav", "main", "article", "section", "figure", "table", "details", "polyline", "circle":
			fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", e.depth), strings.TrimSpace(e.name+" "+e.attrs["class"]))
		}
	}
	return b.String()
}

// TestStructure holds what a page consists of. `go test ./internal/loadgen/page -update` writes it.
func TestStructure(t *testing.T) {
	got := outline(parse(t, write(t, page.Source{Name: "a.json", Report: whole()})))
	const file = "testdata/structure.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != got {
		t.Errorf("%s is not what the page has (%v): go test ./internal/loadgen/page -update\n%s", file, err, got)
	}
}

// TestSelfContained: nothing is loaded, nothing runs, and the policy that forbids it lets in the page's own style sheet.
func TestSelfContained(t *testing.T) {
	text := write(t, page.Source{Name: "a", Report: whole()}, page.Source{Name: "b", Report: whole()})
	ids, policy := make(map[string]bool), ""
	all := parse(t, text)
	for _, e := range all {
		if slices.Contains([]string{"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "foreignObject"}, e.name) {
			t.Errorf("an element %s", e.name)
		}
		for name, value := range e.attrs {
			if name == "src" || name == "srcset" || name == "style" || strings.HasPrefix(name, "on") || name == "href" && !strings.HasPrefix(value, "#") {
				t.Errorf("%s has %s=%q", e.name, name, value)
			}
		}
		if id := e.attrs["id"]; id != "" {
			if ids[id] {
				t.Errorf("the id %s twice", id)
			}
			ids[id] = true
		}
		if e.attrs["http-equiv"] == "Content-Security-Policy" {
			policy = e.attrs["content"]
		}
	}
	for _, outside := range []string{"://", "url(", "@import"} {
		if strings.Contains(text, outside) {
			t.Errorf("the page has %s", outside)
		}
	}
	style := named(all, "style")
	if len(style) != 1 {
		t.Fatalf("%d style sheets", len(style))
	}
	hash := sha256.Sum256([]byte(style[0]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'"
	if policy != want {
		t.Errorf("policy %q, want %q", policy, want)
	}
	checkLinks(t, all, ids)
}

// checkLinks holds that what elements refer to is there, and that drawings and tables that scroll have names and can be reached.
func checkLinks(t *testing.T, all []*element, ids map[string]bool) {
	links := 0
	for _, e := range all {
		for _, to := range []string{strings.TrimPrefix(e.attrs["href"], "#"), e.attrs["aria-labelledby"]} {
			if to != "" && !ids[to] {
				t.Errorf("%s refers to %s, which is not there", e.name, to)
			}
		}
		if e.name == "a" {
			links++
		}
		if (e.attrs["role"] == "img" || e.attrs["role"] == "region") && e.attrs["aria-label"] == "" {
			t.Errorf("a %s without a name", e.name)
		}
		if e.attrs["class"] == "scroll" && e.attrs["tabindex"] != "0" {
			t.Error("a table that the keyboard cannot scroll")
		}
	}
	if links != 2 {
		t.Errorf("%d links to two reports", links)
	}
}

// TestHostileNames: whatever a report has for a name is text.
func TestHostileNames(t *testing.T) {
	const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(2)> javascript:alert(3) {{.}} </style>`
	r := whole()
	r.Scenario, r.Program.Version, r.Machine.CPU, r.Notes[0], r.Goals[0].Name, r.Goals[1].Detail, r.Goals[0].Unit = hostile, hostile, hostile, hostile, hostile, hostile, hostile
	run := &r.Runs[0]
	run.Name, run.Problems, run.Load.Loop = hostile, []string{hostile}, hostile
	run.Ratios[0].Figure, run.Ratios[0].Of, run.Ratios[0].To = hostile, hostile, hostile
	for i := range run.Targets {
		run.Targets[i].Name, run.Targets[i].Role, run.Targets[i].Era, run.Targets[i].Transport = hostile, hostile, hostile, hostile
		run.Targets[i].Sum.Kinds[0].Name, run.Targets[i].Program.Version = hostile, hostile
	}
	all := parse(t, write(t, page.Source{Name: hostile, Report: r}))
	for _, e := range all {
		if e.name == "script" || e.name == "img" {
			t.Errorf("a name became an element %s", e.name)
		}
		for name := range e.attrs {
			if strings.HasPrefix(name, "on") {
				t.Errorf("a name became an attribute %s", name)
			}
		}
		if e.name == "polyline" && e.attrs["class"] != "other" && e.attrs["class"] != "other dashed" {
			t.Errorf("a line has the class %q", e.attrs["class"])
		}
	}
	for _, name := range []string{"title", "h2", "h3", "dd", "th", "caption", "td", "li", "p"} {
		if !strings.Contains(strings.Join(named(all, name), "\n"), hostile) {
			t.Errorf("no %s has the name as text", name)
		}
	}
}

// TestClaims: a difference is emphasised only where it is larger than the noise, and the figures are good.
func TestClaims(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*loadgen.Run)
		want   []string
	}{
		"a difference":                           {func(*loadgen.Run) {}, []string{"-50 %"}},
		"one that the report does not claim":     {func(run *loadgen.Run) { run.Ratios[0].Claimed = false }, nil},
		"one that is smaller than the noise":     {func(run *loadgen.Run) { run.Ratios[0].Noise = 1.1 }, nil},
		"one without a noise":                    {func(run *loadgen.Run) { run.Ratios[0].Noise = 0 }, nil},
		"one of the same build":                  {func(run *loadgen.Run) { run.Ratios[0].Of = "daemon again" }, nil},
		"one of figures that are not to be used": {func(run *loadgen.Run) { run.Problems = []string{"late"} }, []string{"These figures are not to be used:"}},
	} {
		r := whole()
		c.change(&r.Runs[0])
		all := parse(t, write(t, page.Source{Report: r}))
		if got := named(all, "strong"); !slices.Equal(got, c.want) {
			t.Errorf("%s: emphasised %q, want %q", name, got, c.want)
		}
		for _, td := range named(all, "td") {
			if strings.HasPrefix(td, "+") || strings.HasPrefix(td, "-5") && !slices.Contains(c.want, td) {
				t.Errorf("%s: claims %s", name, td)
			}
		}
	}
}

// TestBadReports: what is empty, failed or makes no sense has a page all the same, and no drawing that is none.
func TestBadReports(t *testing.T) {
	failed := loadgen.Round{Round: 1, Requests: 5, Failed: 5, FirstFault: "refused", Curve: []loadgen.Point{{AtMs: 250, Failed: 5, Done: 5}}}
	of := func(targets ...loadgen.Result) *loadgen.Report {
		return &loadgen.Report{Runs: []loadgen.Run{{Targets: targets}}}
	}
	curve := func(points ...loadgen.Point) *loadgen.Report {
		return of(loadgen.Result{Rounds: []loadgen.Round{{Curve: points}}})
	}
	const huge = math.MaxInt64
	for name, c := range map[string]struct {
		report *loadgen.Report
		charts int
	}{
		"nothing":          {&loadgen.Report{}, 0},
		"no targets":       {of(), 0},
		"no rounds":        {of(loadgen.Result{Name: "direct"}), 0},
		"all failed":       {of(loadgen.Result{Rounds: []loadgen.Round{failed}, Sum: failed}), 1},
		"unequal rounds":   {of(loadgen.Result{Rounds: []loadgen.Round{failed}}, loadgen.Result{Rounds: []loadgen.Round{failed, failed}}, loadgen.Result{}), 1},
		"one call":         {of(loadgen.Result{Sum: loadgen.Round{Service: latency(time.Millisecond)}}), 1},
		"times of nothing": {of(loadgen.Result{Sum: loadgen.Round{Service: latency(0), Intended: latency(time.Hour)}}), 1},
		"no histogram":     {of(loadgen.Result{Sum: loadgen.Round{Service: &loadgen.Latency{HDR: "none", P50: 1}}}), 0},
		"one kind":         {of(loadgen.Result{Sum: loadgen.Round{Kinds: []loadgen.KindRound{{Name: "x", Service: latency(1)}}}}), 0},
		"backwards":        {curve(loadgen.Point{AtMs: 500, Done: 500}, loadgen.Point{AtMs: 250, Done: 400}, loadgen.Point{AtMs: 1000, Done: 1}), 0},
		"before its start": {curve(loadgen.Point{AtMs: -huge, Done: 1}, loadgen.Point{AtMs: 300, Done: 3}), 1},
		"for ever":         {curve(loadgen.Point{AtMs: huge, Done: huge}), 0},
		"at once":          {curve(loadgen.Point{AtMs: 0, Done: 100}), 0},
		"too fast":         {curve(loadgen.Point{AtMs: 1, Done: huge}), 0},
		"one a day":        {curve(loadgen.Point{AtMs: 86400e3, Done: 1}), 1},
		"figures": {&loadgen.Report{Ceiling: []loadgen.Ceiling{{PerSecond: math.MaxFloat64}}, Runs: []loadgen.Run{{
			Ratios: []loadgen.Ratio{{Median: math.MaxFloat64, Low: 1, High: math.MaxFloat64, Noise: math.MaxFloat64, Claimed: true}, {Median: -1, Claimed: true, Noise: 1}}}}}, 0},
	} {
		text := write(t, page.Source{Name: name, Report: c.report})
		all := parse(t, text)
		if got := len(named(all, "figure")); got != c.charts {
			t.Errorf("%s: %d charts, want %d", name, got, c.charts)
		}
		if len(text) > 20000 {
			t.Errorf("%s: %d bytes", name, len(text))
		}
		inDrawing(t, name, all)
	}
}

// inDrawing holds that all coordinates are within the drawings.
func inDrawing(t *testing.T, name string, all []*element) {
	t.Helper()
	for _, e := range all {
		numbers := e.attrs["points"]
		for _, a := range []string{"x", "y", "x1", "x2", "y1", "y2", "cx", "cy"} {
			numbers += " " + e.attrs[a]
		}
		for _, field := range strings.FieldsFunc(numbers, func(r rune) bool { return r == ' ' || r == ',' }) {
			if n, err := strconv.ParseFloat(field, 64); err != nil || !(n >= 0 && n <= 360) {
				t.Errorf("%s: %s has a coordinate %s", name, e.name, field)
			}
		}
	}
}

// TestDrawings holds where lines are: a hundred calls a second twice as high as fifty, the slowest call at the right.
func TestDrawings(t *testing.T) {
	r := whole()
	r.Runs[0].Targets = r.Runs[0].Targets[:1]
	all := parse(t, write(t, page.Source{Report: r}))
	inDrawing(t, "whole", all)
	var lines []string
	for _, e := range all {
		if e.name == "polyline" && e.attrs["points"] != "0,4 24,4" {
			lines = append(lines, e.attrs["points"])
		}
	}
	// Service and intended times, then two rounds.
	if len(lines) != 4 || lines[0] != lines[1] {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	if !strings.HasPrefix(lines[0], "52.0,") || !strings.Contains(lines[0], " 350.0,") {
		t.Errorf("the spectrum is drawn from %s", lines[0])
	}
	// 1000 a second for 250 ms, 600 for 250 ms, 1400 for 500 ms; the scale ends at 1500, the time at 2 s.
	y := func(perSecond float64) string { return fmt.Sprintf("%.1f", 212-200*perSecond/1500) }
	x := func(seconds float64) string { return fmt.Sprintf("%.1f", 52+298*seconds/2) }
	for i, start := range []float64{0, 1} {
		want := fmt.Sprintf("%[1]s,%[5]s %[2]s,%[5]s %[2]s,%[6]s %[3]s,%[6]s %[3]s,%[7]s %[4]s,%[7]s",
			x(start), x(start+0.25), x(start+0.5), x(start+1), y(1000), y(600), y(1400))
		if lines[2+i] != want {
			t.Errorf("round %d is %s, want %s", i+1, lines[2+i], want)
		}
	}
}

// TestShortSteps: no rate is taken over a moment. The few milliseconds at the end of a round count with what was before them.
func TestShortSteps(t *testing.T) {
	r := &loadgen.Report{Runs: []loadgen.Run{{Targets: []loadgen.Result{{Rounds: []loadgen.Round{{
		Curve: []loadgen.Point{{AtMs: 100, Done: 100}, {AtMs: 200, Done: 300}, {AtMs: 300, Done: 310}, {AtMs: 400, Done: 400}, {AtMs: 405, Done: 1000, Failed: 1}},
	}}}}}}}
	x := func(ms float64) string { return fmt.Sprintf("%.1f", 52+298*ms/405) }
	y := func(perSecond float64) string { return fmt.Sprintf("%.1f", 212-200*perSecond/4000) }
	first, second := y(1500), y(700/0.205)
	want := fmt.Sprintf("%s,%s %s,%s %s,%s %s,%s", x(0), first, x(200), first, x(200), second, x(405), second)
	var lines, marks []string
	for _, e := range parse(t, write(t, page.Source{Report: r})) {
		switch {
		case e.name == "circle":
			marks = append(marks, e.attrs["cx"]+","+e.attrs["cy"])
		case e.name == "polyline" && e.attrs["points"] != "0,4 24,4":
			lines = append(lines, e.attrs["points"])
		}
	}
	if !slices.Equal(lines, []string{want}) {
		t.Errorf("drawn %q, want %s", lines, want)
	}
	if !slices.Equal(marks, []string{x(405) + "," + second}) {
		t.Errorf("failed calls are marked at %q", marks)
	}
}
