package loadgen

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minRounds is how many rounds a figure needs before it is judged.
const minRounds = 5

// Condition is a bound of how much a figure may change between two builds.
type Condition struct {
	Figure string  `json:"figure" jsonschema:"one of those of ratios"`
	Above  bool    `json:"above" jsonschema:"more of it fails; else less of it"`
	Share  float64 `json:"share" jsonschema:"how far it may change, 0.1 is 10 %; negative where it may become less"`
}

// String writes a condition as ParseConditions reads it.
func (c Condition) String() string {
	return fmt.Sprintf("%s%s%+g%%", c.Figure, map[bool]string{true: ">", false: "<"}[c.Above], 100*c.Share)
}

// ParseConditions reads conditions as `cpu>+10%,perSecond<-5%`, one for each figure at most.
func ParseConditions(text string) (all []Condition, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		at := strings.IndexAny(part, "<>")
		if at < 0 {
			return nil, fmt.Errorf("%q: write it as cpu>+10%%", part)
		}
		c := Condition{Figure: part[:at], Above: part[at] == '>'}
		if !slices.Contains(figureNames(), c.Figure) {
			return nil, fmt.Errorf("%q: there is no figure %q; there are %s", part, c.Figure, strings.Join(figureNames(), ", "))
		}
		if slices.ContainsFunc(all, func(other Condition) bool { return other.Figure == c.Figure }) {
			return nil, fmt.Errorf("%q: a figure has one bound, and %s has two", part, c.Figure)
		}
		number, ok := strings.CutSuffix(part[at+1:], "%")
		percent, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil || !(percent > -100 && percent <= 1e6) {
			return nil, fmt.Errorf("%q: write the bound in percent, as +10%%", part)
		}
		c.Share = percent / 100
		if c.Above != (percent >= 0) && percent != 0 {
			return nil, fmt.Errorf("%q: a bound above which it fails is positive, one below which it fails is negative", part)
		}
		all = append(all, c)
	}
	return all, nil
}

func figureNames() (names []string) {
	for _, f := range figures {
		names = append(names, f.name)
	}
	return names
}

// maxReports bounds the reports of one side of a comparison.
const maxReports = 1000

// ReadReports reads the reports of one build, one after the other: what `benchmark -o json` printed, once or several times.
func ReadReports(r io.Reader) (all []Report, err error) {
	for d := json.NewDecoder(r); ; {
		var report Report
		switch err := d.Decode(&report); {
		case errors.Is(err, io.EOF) && len(all) > 0:
			return all, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("there is no report in it")
		case err != nil:
			return nil, fmt.Errorf("report %d: %w", len(all)+1, err)
		case report.Schema != SchemaID:
			return nil, fmt.Errorf("report %d is no %s but %q", len(all)+1, SchemaID, report.Schema)
		case len(all) == maxReports:
			return nil, fmt.Errorf("there are more than %d reports in it", maxReports)
		}
		all = append(all, report)
	}
}

// The results of a Change.
const (
	ResultShown     = "shown"      // nobody asked for it
	ResultWithin    = "within"     // the change is within the bound, or not proven
	ResultFailed    = "failed"     // the change is over the bound, and no chance among all that are judged
	ResultNotJudged = "not judged" // Why says why
)

// Change is how one figure of one target of one load is now, beside how it was.
type Change struct {
	Run    string  `json:"run"`
	Target string  `json:"target" jsonschema:"daemon, or direct where there is none"`
	Basis  string  `json:"basis" jsonschema:"build: new to old; direct: the same, each first divided by the server called directly in the same round"`
	Old    float64 `json:"old" jsonschema:"median of the rounds; of latency microseconds"`
	New    float64 `json:"new"`
	Ratio
	Chance    float64    `json:"chance" jsonschema:"that one build differs from itself so far, by Student's t over the rounds; 1 of a single one"`
	Condition *Condition `json:"condition,omitempty"`
	Result    string     `json:"result" jsonschema:"shown, within, failed or not judged"`
	Why       string     `json:"why,omitempty" jsonschema:"why it was not judged"`
}

// Comparison is what `benchmark compare -o json` prints.
type Comparison struct {
	Schema      string   `json:"$schema" jsonschema:"the version of this format: urn:fluentd-perf:benchmark-comparison:1"`
	Scenario    string   `json:"scenario"`
	Old         string   `json:"old" jsonschema:"version"`
	New         string   `json:"new" jsonschema:"version"`
	Interleaved bool     `json:"interleaved" jsonschema:"old and new took turns"`
	Changes     []Change `json:"changes"`
	Judged      int      `json:"judged" jsonschema:"changes that were judged by a condition"`
	Failed      int      `json:"failed" jsonschema:"of them, those that failed"`
	NotJudged   []string `json:"notJudged,omitempty" jsonschema:"conditions that could be judged nowhere"`
	LeftOut     []string `json:"leftOut,omitempty" jsonschema:"loads of the old build of which nothing could be judged, and why: they are missing in a report, or calls failed or were late"`
	Notes       []string `json:"notes,omitempty"`
}

// ComparisonSchemaID is the `$schema` of a Comparison. Its number changes when a program that reads comparisons would misread one.
const ComparisonSchemaID = "urn:fluentd-perf:benchmark-comparison:1"

// comparing is a comparison under way.
type comparing struct {
	old, new     []Report
	conditions   []Condition
	otherMachine bool
	out          *Comparison
}

// CompareReports compares the reports of two builds. With one report each its rounds are compared; they were not interleaved, so that
// what depends on the moment (all but allocations) is first divided by the server called directly in the same round, and the noise
// between two daemons of one build is the least that counts. With several each, that took turns, each report is one round of one
// pair of processes. A figure is judged where it has at least five rounds, and fails where the change is over the bound of its
// condition and is no chance among all that are judged (fail). The error says why reports cannot be compared at all.
func CompareReports(old, new []Report, conditions []Condition) (*Comparison, error) {
	switch {
	case len(old) == 0 || len(new) == 0:
		return nil, errors.New("there is no report to compare")
	case (len(old) == 1) != (len(new) == 1): // rounds of one report are no rounds of several
		return nil, fmt.Errorf("of the old build there are %d reports, of the new one %d: give one or several of each", len(old), len(new))
	}
	c := &comparing{old: old, new: new, conditions: conditions}
	if err := c.alike(); err != nil {
		return nil, err
	}
	c.out = &Comparison{
		Schema: ComparisonSchemaID, Scenario: old[0].Scenario, Old: old[0].Program.Version, New: new[0].Program.Version,
		Interleaved: interleaved(old, new), Changes: []Change{},
	}
	c.notes()
	for i := range old[0].Runs {
		c.run(&old[0].Runs[i])
	}
	c.fail()
	c.sum()
	return c.out, nil
}

// alike refuses reports of which no figure can be compared, and finds out whether they are of one machine.
func (c *comparing) alike() error {
	for _, side := range [][]Report{c.old, c.new} {
		for i := range side {
			r := &side[i]
			if r.Scenario != c.old[0].Scenario {
				return fmt.Errorf("the reports are of different scenarios: %s and %s", c.old[0].Scenario, r.Scenario)
			}
			if r.Program != side[0].Program {
				return fmt.Errorf("the reports of one side are of different builds: %s and %s", side[0].Program.Version, r.Program.Version)
			}
			c.otherMachine = c.otherMachine || !sameMachine(r.Machine, c.old[0].Machine)
		}
	}
	return nil
}

// sameMachine reports whether two machines are one. How much memory there is differs by some pages from one start of a machine to the
// next: the kernel does not count what its own tables take.
func sameMachine(a, b Machine) bool {
	return a.OS == b.OS && a.Kernel == b.Kernel && a.CPU == b.CPU && a.CPUs == b.CPUs && a.Governor == b.Governor &&
		max(a.Memory, b.Memory)-min(a.Memory, b.Memory) <= max(a.Memory, b.Memory)/100
}

// interleaved reports whether two builds took turns: no report of a pair was begun before all of the pair before it had ended.
func interleaved(old, new []Report) bool {
	if len(old) != len(new) || len(old) < 2 {
		return false
	}
	end := func(r *Report) time.Time { return r.Started.Add(time.Duration(r.TookMs) * time.Millisecond) }
	for i := 1; i < len(old); i++ {
		for _, before := range []*Report{&old[i-1], &new[i-1]} {
			if old[i].Started.Before(end(before)) || new[i].Started.Before(end(before)) {
				return false
			}
		}
	}
	return true
}

func (c *comparing) notes() {
	note := func(text string) { c.out.Notes = append(c.out.Notes, text) }
	if c.otherMachine {
		note("The reports are of different machines: only allocations are judged.")
	}
	if n := min(len(c.old), len(c.new)); len(c.old) != len(c.new) {
		note(fmt.Sprintf("Reports go together by their place: of the old build's %d and the new one's %d the first %d are compared.", len(c.old), len(c.new), n))
	}
	if !c.out.Interleaved && !c.otherMachine {
		note("The builds did not take turns: times and CPU are judged only beside the server called directly in the same rounds.")
	}
	for _, side := range [][]Report{c.old, c.new} {
		for _, r := range side {
			for _, run := range r.Runs {
				if !run.Valid {
					note(fmt.Sprintf("%s, %s: %s", r.Program.Version, run.Name, strings.Join(run.Problems, "; ")))
				}
			}
		}
	}
}

// run compares one load, as far as both builds were put under it.
func (c *comparing) run(first *Run) {
	old, ok := runsOf(c.old, first)
	new, alsoNew := runsOf(c.new, first)
	if !ok || !alsoNew {
		c.leaveOut(first, "it is not in all reports, or not with the same load")
		return
	}
	role := RoleDaemon
	if roleOf(old[0], role) == nil { // --direct: the server is what was measured
		role = RoleDirect
	}
	for _, side := range [][]*Run{old, new} {
		if slices.ContainsFunc(side, func(r *Run) bool { return roleOf(r, role) == nil }) {
			c.leaveOut(first, fmt.Sprintf("not all reports have the target %s", role))
			return
		}
	}
	valid := validRuns(old) && validRuns(new)
	if !valid { // the notes say of which build
		c.out.LeftOut = append(c.out.LeftOut, first.Name+": calls failed or were late")
	}
	for _, f := range figures {
		if change, ok := c.change(old, new, role, f.name, f.of); ok {
			change.Run, change.Target = first.Name, string(role)
			c.judge(&change, valid)
			c.out.Changes = append(c.out.Changes, change)
		}
	}
}

// leaveOut says that a load is not compared at all.
func (c *comparing) leaveOut(run *Run, why string) {
	c.out.LeftOut = append(c.out.LeftOut, run.Name+": "+why)
	c.out.Notes = append(c.out.Notes, run.Name+": not compared: "+why+".")
}

// runsOf finds a load in each report.
func runsOf(reports []Report, like *Run) (all []*Run, ok bool) {
	for i := range reports {
		runs := reports[i].Runs
		at := slices.IndexFunc(runs, func(r Run) bool { return r.Name == like.Name && r.Load == like.Load })
		if at < 0 {
			return nil, false
		}
		all = append(all, &runs[at])
	}
	return all, true
}

func validRuns(runs []*Run) bool {
	return !slices.ContainsFunc(runs, func(r *Run) bool { return !r.Valid })
}

func roleOf(run *Run, role Role) *Result {
	at := slices.IndexFunc(run.Targets, func(r Result) bool { return r.Role == role })
	if at < 0 {
		return nil
	}
	return &run.Targets[at]
}

// change makes the ratios of one figure; false where it is not known in both builds.
func (c *comparing) change(old, new []*Run, role Role, name string, of func(*Round) float64) (Change, bool) {
	change := Change{Basis: "build", Ratio: Ratio{Figure: name, Of: c.out.New, To: c.out.Old}}
	var was, is []float64
	if len(old) > 1 {
		was, is = reportFigures(old, role, of), reportFigures(new, role, of)
	} else {
		was, is = roundFigures(roleOf(old[0], role), of), roundFigures(roleOf(new[0], role), of)
	}
	if len(was) == 0 || len(is) == 0 {
		return change, false
	}
	change.Old, change.New = median(was), median(is)
	if !c.out.Interleaved {
		change.Noise = max(repetition(old, of), repetition(new, of))
		if role == RoleDaemon && !isCount(name) {
			if a, b := besideDirect(old[0], of), besideDirect(new[0], of); len(old) == 1 && len(a) > 0 && len(b) > 0 {
				was, is, change.Basis = a, b, "direct"
			}
		}
	}
	for i := range min(len(was), len(is)) {
		change.Rounds = append(change.Rounds, is[i]/was[i])
	}
	change.Median = median(change.Rounds)
	change.Low, change.High = Interval99(change.Rounds)
	change.Chance = chance(change.Rounds)
	return change, true
}

// isCount reports whether a figure is counted, and does not depend on what else the machine does.
func isCount(figure string) bool { return figure == FigureAllocs || figure == FigureAllocBytes }

// roundFigures returns a figure of each round; nothing where one does not know it, because rounds go together by their place.
func roundFigures(r *Result, of func(*Round) float64) (all []float64) {
	for i := range r.Rounds {
		value := of(&r.Rounds[i])
		if !(value > 0) {
			return nil
		}
		all = append(all, value)
	}
	return all
}

// reportFigures returns a figure of each report: the mean over all its processes of the build, the repeated ones too.
func reportFigures(runs []*Run, role Role, of func(*Round) float64) (all []float64) {
	for _, run := range runs {
		var sum, n float64
		for _, r := range []Role{role, RoleAgain} {
			if t := roleOf(run, r); t != nil && (r == role || role == RoleDaemon) {
				values := roundFigures(t, of)
				if len(values) == 0 {
					return nil
				}
				sum, n = sum+median(values), n+1
			}
		}
		if n == 0 {
			return nil
		}
		all = append(all, sum/n)
	}
	return all
}

// besideDirect returns a figure of the daemon's rounds divided by that of the server called directly in them; nothing where that is
// not known.
func besideDirect(run *Run, of func(*Round) float64) []float64 {
	direct := roleOf(run, RoleDirect)
	if direct == nil {
		return nil
	}
	return ratios(roleOf(run, RoleDaemon).Rounds, direct.Rounds, of)
}

// repetition returns the noise between two daemons of one build; 0 where that is not known.
func repetition(runs []*Run, of func(*Round) float64) float64 {
	var all []float64
	for _, run := range runs {
		if daemon, again := roleOf(run, RoleDaemon), roleOf(run, RoleAgain); daemon != nil && again != nil {
			all = append(all, ratios(again.Rounds, daemon.Rounds, of)...)
		}
	}
	if len(all) < 2 {
		return 0
	}
	return spread(all)
}

// judge finds the condition of a change, and whether it can be judged. Whether it fails depends on all that can be.
func (c *comparing) judge(change *Change, valid bool) {
	change.Result = ResultShown
	at := slices.IndexFunc(c.conditions, func(b Condition) bool { return b.Figure == change.Figure })
	change.Claimed = c.whyNot(change, valid) == "" && (change.Low > 1 || change.High < 1) && outside(change.Median, change.Noise)
	if at < 0 {
		return
	}
	condition := c.conditions[at]
	change.Condition, change.Result = &condition, ResultWithin
	if change.Why = c.whyNot(change, valid); change.Why != "" {
		change.Result = ResultNotJudged
		return
	}
	c.out.Judged++
}

// maxChance is how likely it may be that any of the judged changes of a comparison is taken for one and is none, in either direction.
const maxChance = 0.01

// fail finds the changes that fail. The more are judged, the more of them are far apart by chance: so the least likely one has to be
// less likely than maxChance divided by their number, the next than maxChance divided by one less, and so on until one is not (Holm).
func (c *comparing) fail() {
	var judged []*Change
	for i := range c.out.Changes {
		if c.out.Changes[i].Result == ResultWithin {
			judged = append(judged, &c.out.Changes[i])
		}
	}
	slices.SortStableFunc(judged, func(a, b *Change) int { return cmp.Compare(a.Chance, b.Chance) })
	for i, change := range judged {
		if change.Chance > maxChance/float64(len(judged)-i) {
			return
		}
		if change.Claimed && change.Condition.failedBy(&change.Ratio) {
			change.Result = ResultFailed
			c.out.Failed++
		}
	}
}

// failedBy reports whether a change is over the bound, and all of its interval on that side of none.
func (c *Condition) failedBy(r *Ratio) bool {
	if c.Above {
		return r.Median > 1+c.Share && r.Low > 1
	}
	return r.Median < 1+c.Share && r.High < 1
}

// outside reports whether a ratio is farther from 1 than the noise, in either direction.
func outside(ratio, noise float64) bool { return ratio > 1+noise || ratio < 1/(1+noise) }

// whyNot says why a change cannot be judged; "" where it can.
func (c *comparing) whyNot(change *Change, valid bool) string {
	switch {
	case !valid:
		return "calls failed or were late"
	case len(change.Rounds) < minRounds:
		return fmt.Sprintf("%d of at least %d rounds", len(change.Rounds), minRounds)
	case isCount(change.Figure):
		return ""
	case c.otherMachine:
		return "different machines"
	case !c.out.Interleaved && change.Basis == "build":
		return "the builds did not take turns"
	}
	return ""
}

// sum finds the conditions that were judged nowhere.
func (c *comparing) sum() {
	for _, condition := range c.conditions {
		judged := func(change Change) bool {
			return change.Figure == condition.Figure && (change.Result == ResultFailed || change.Result == ResultWithin)
		}
		if !slices.ContainsFunc(c.out.Changes, judged) {
			c.out.NotJudged = append(c.out.NotJudged, condition.String())
		}
	}
}
