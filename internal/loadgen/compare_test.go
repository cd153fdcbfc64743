package loadgen_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
)

// planted makes reports of a build whose calls take so much CPU, so many allocations and so long, with noise by the round and by the
// process: as many reports as are wanted, with so many rounds each.
type planted struct {
	version          string
	cpu, allocs, p99 float64
	reports, rounds  int
	loads            int // 0: one
	first            time.Time
	noDirect         bool
}

var begun = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (p planted) make(chance *rand.Rand) (all []loadgen.Report) {
	for i := range p.reports {
		report := loadgen.Report{
			Schema: loadgen.SchemaID, Scenario: "high_throughput", Program: loadgen.Program{Version: p.version}, Machine: loadgen.Machine{OS: "linux", CPUs: 2},
			Started: p.first.Add(time.Duration(i) * time.Minute), TookMs: 20_000,
		}
		for load := range max(1, p.loads) {
			report.Runs = append(report.Runs, p.run(fmt.Sprintf("load %d", load), chance))
		}
		all = append(all, report)
	}
	return all
}

func (p planted) run(name string, chance *rand.Rand) loadgen.Run {
	noise := func(deviation float64) float64 { return math.Exp(deviation * chance.NormFloat64()) }
	run := loadgen.Run{Name: name, Valid: true, Load: loadgen.Load{Loop: loadgen.Closed, Concurrency: 32, Requests: 100}}
	moment := noise(0.2)
	for _, role := range []loadgen.Role{loadgen.RoleDirect, loadgen.RoleDaemon, loadgen.RoleAgain} {
		if role == loadgen.RoleDirect && p.noDirect {
			continue
		}
		t, process, allocs := loadgen.Result{Name: string(role), Role: role}, noise(0.02), noise(0.002)
		for n := range p.rounds {
			cpu := p.cpu * moment * process * noise(0.03)
			usage := &loadgen.Usage{CPUUs: cpu, Allocs: p.allocs * allocs * noise(0.002)}
			if role == loadgen.RoleDirect {
				usage = &loadgen.Usage{CPUUs: 10 * moment * noise(0.02)}
			}
			latency := &loadgen.Latency{Count: 100, P50: 100 * moment, P99: p.p99 * moment * noise(0.05)}
			t.Rounds = append(t.Rounds, loadgen.Round{Round: n + 1, PerSecond: 1e6 / cpu, Process: usage, Service: latency})
		}
		run.Targets = append(run.Targets, t)
	}
	return run
}

// turns are reports of a build that takes turns with another; second is the one that comes after.
func turns(version string, second bool) planted {
	p := planted{version: version, cpu: 100, allocs: 113, p99: 1000, reports: 8, rounds: 1, first: begun}
	if second {
		p.first = begun.Add(30 * time.Second)
	}
	return p
}

func compared(t *testing.T, old, new []loadgen.Report, failOn string) *loadgen.Comparison {
	t.Helper()
	conditions, err := loadgen.ParseConditions(failOn)
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadgen.CompareReports(old, new, conditions)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func failedFigures(c *loadgen.Comparison) (names []string) {
	for _, change := range c.Changes {
		if change.Result == loadgen.ResultFailed {
			names = append(names, change.Figure)
		}
	}
	return names
}

// steady takes the moment's 20 % out of pairs: both builds of a pair have the same, as those that take turns nearly have.
func steady(seed uint64) (a, b *rand.Rand) {
	return rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 1))
}

// TestCompareReportsOfOneBuild: of 20 comparisons of a build with itself at most one alarms, whether the builds took turns or not.
func TestCompareReportsOfOneBuild(t *testing.T) {
	for _, reports := range []int{1, 8} {
		alarms := 0
		for seed := range uint64(20) {
			old, new := turns("old", false), turns("new", true)
			old.reports, new.reports = reports, reports
			if reports == 1 {
				old.rounds, new.rounds = 5, 5
			}
			chance := rand.New(rand.NewPCG(seed, 7))
			c := compared(t, old.make(chance), new.make(chance), "cpu>+10%,allocs>+0%,p99>+10%")
			if c.Failed > 0 {
				alarms++
			}
			if len(c.NotJudged) > 0 || c.Interleaved != (reports > 1) {
				t.Errorf("%+v", c)
			}
		}
		if alarms > 1 {
			t.Errorf("%d reports each: %d alarms in 20", reports, alarms)
		}
	}
}

// TestCompareReportsOfManyFigures: 50 figures of one build make no more alarms than one, and a planted regression is found among them.
// Without a correction about every fifth of these comparisons would alarm, as each figure does so in 1 of 200.
func TestCompareReportsOfManyFigures(t *testing.T) {
	alarms, chance := 0, rand.New(rand.NewPCG(1, 9))
	old, new := turns("old", false), turns("new", true)
	old.loads, new.loads = 50, 50
	for range 20 {
		c := compared(t, old.make(chance), new.make(chance), "allocs>+0%")
		if alarms += min(1, c.Failed); c.Judged != 50 {
			t.Errorf("%d figures are judged", c.Judged)
		}
	}
	if alarms > 1 {
		t.Errorf("%d alarms in 20", alarms)
	}
	worse := new.make(chance)
	for i := range worse {
		for _, of := range worse[i].Runs[7].Targets {
			of.Rounds[0].Process.Allocs += 5
		}
	}
	if c := compared(t, old.make(chance), worse, "allocs>+0%"); c.Failed != 1 || c.Changes[0].Chance <= 0 {
		t.Errorf("a planted regression among 50 figures: %d failed", c.Failed)
	}
}

// TestCompareReportsFindsRegressions plants one of each kind.
func TestCompareReportsFindsRegressions(t *testing.T) {
	for name, c := range map[string]struct {
		plant  func(*planted)
		failOn string
		want   []string
	}{
		"nothing":                  {func(*planted) {}, "cpu>+10%,allocs>+0%", nil},
		"two allocations":          {func(p *planted) { p.allocs += 2 }, "cpu>+10%,allocs>+0%", []string{"allocs"}},
		"they are allowed":         {func(p *planted) { p.allocs += 2 }, "cpu>+10%,allocs>+5%", nil},
		"CPU":                      {func(p *planted) { p.cpu *= 1.3 }, "cpu>+10%,allocs>+0%", []string{"cpu"}},
		"CPU within the bound":     {func(p *planted) { p.cpu *= 1.05 }, "cpu>+10%", nil},
		"fewer calls a second":     {func(p *planted) { p.cpu *= 1.3 }, "perSecond<-10%", []string{"perSecond"}},
		"a sleep, asked for":       {func(p *planted) { p.p99 += 1000 }, "cpu>+10%,p99>+20%", []string{"p99"}},
		"a sleep nobody asked for": {func(p *planted) { p.p99 += 1000 }, "cpu>+10%", nil},
		"better":                   {func(p *planted) { p.cpu, p.allocs = 50, 50 }, "cpu>+10%,allocs>+0%", nil},
	} {
		old, new := turns("old", false), turns("new", true)
		c.plant(&new)
		first, second := steady(3)
		got := compared(t, old.make(first), new.make(second), c.failOn)
		if !slices.Equal(failedFigures(got), c.want) || got.Failed != len(c.want) {
			t.Errorf("%s: failed %v, want %v", name, failedFigures(got), c.want)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCompareReportsNotInterleaved: what another moment changed is not the build's; what is there beside the server, too, is.
func TestCompareReportsNotInterleaved(t *testing.T) {
	old, new := turns("old", false), turns("new", true)
	old.reports, new.reports, old.rounds, new.rounds = 1, 1, 6, 6
	chance := rand.New(rand.NewPCG(5, 5))
	reports := new.make(chance)
	for i := range reports[0].Runs[0].Targets { // a machine that is half as fast now
		for n := range reports[0].Runs[0].Targets[i].Rounds {
			reports[0].Runs[0].Targets[i].Rounds[n].Process.CPUUs *= 2
		}
	}
	if c := compared(t, old.make(chance), reports, "cpu>+10%"); c.Failed > 0 || len(c.NotJudged) > 0 {
		t.Errorf("the moment is an alarm: %+v", c)
	}
	new.cpu *= 2
	if c := compared(t, old.make(chance), new.make(chance), "cpu>+10%"); !slices.Equal(failedFigures(c), []string{"cpu"}) {
		t.Errorf("twice the CPU is none: %+v", c)
	}
	old.noDirect, new.noDirect = true, true
	if c := compared(t, old.make(chance), new.make(chance), "cpu>+10%"); c.Failed > 0 || !slices.Equal(c.NotJudged, []string{"cpu>+10%"}) || !strings.Contains(fmt.Sprint(c.Changes), "did not take turns") {
		t.Errorf("there is nothing to compare it with: %+v", c)
	}
}

// TestCompareReportsNotAlike: reports that cannot be compared make no alarm, and are no proof that all is well.
func TestCompareReportsNotAlike(t *testing.T) {
	worse := func(change func(*planted)) (old, new []loadgen.Report) {
		a, b := turns("old", false), turns("new", true)
		b.cpu, b.allocs = 300, 300
		change(&a)
		change(&b)
		first, second := steady(4)
		return a.make(first), b.make(second)
	}
	old, new := worse(func(p *planted) { p.reports = 4 })
	if c := compared(t, old, new, "cpu>+10%,allocs>+0%"); c.Failed > 0 || len(c.NotJudged) != 2 || !strings.Contains(fmt.Sprint(c.Changes), "4 of at least 5 rounds") {
		t.Errorf("four rounds: %+v", c)
	}
	old, new = worse(func(*planted) {})
	new[3].Machine.CPUs = 64
	if c := compared(t, old, new, "cpu>+10%,allocs>+0%"); !slices.Equal(failedFigures(c), []string{"allocs"}) || !slices.Equal(c.NotJudged, []string{"cpu>+10%"}) {
		t.Errorf("another machine: %+v", c)
	}
	old, new = worse(func(*planted) {})
	for i := range new {
		old[i].Machine.Memory, new[i].Machine.Memory = 8<<30, 8<<30-12<<10
	}
	if c := compared(t, old, new, "cpu>+10%"); c.Failed != 1 {
		t.Errorf("the same machine, started again: %+v", c)
	}
	new[0].Machine.Memory = 4 << 30
	if c := compared(t, old, new, "cpu>+10%"); c.Failed > 0 || len(c.NotJudged) != 1 {
		t.Errorf("a machine with other memory: %+v", c)
	}
	old, new = worse(func(*planted) {})
	new[0].Runs[0].Load.Concurrency = 1
	if c := compared(t, old, new, "allocs>+0%"); c.Failed > 0 || len(c.NotJudged) != 1 || len(c.Changes) > 0 {
		t.Errorf("another load: %+v", c)
	}
	old, new = worse(func(*planted) {})
	new[0].Runs[0].Valid = false
	if c := compared(t, old, new, "allocs>+0%"); c.Failed > 0 || len(c.NotJudged) != 1 {
		t.Errorf("calls failed: %+v", c)
	}
	old, new = worse(func(*planted) {})
	new[0].Scenario = "cache"
	if _, err := loadgen.CompareReports(old, new, nil); err == nil || !strings.Contains(err.Error(), "different scenarios") {
		t.Error(err)
	}
	old, new = worse(func(*planted) {})
	if _, err := loadgen.CompareReports(old, new[:1], nil); err == nil || !strings.Contains(err.Error(), "of the new one 1") {
		t.Errorf("one report beside several: %v", err)
	}
	if _, err := loadgen.CompareReports(old[:1], new, nil); err == nil || !strings.Contains(err.Error(), "of the old build there are 1 reports") {
		t.Errorf("several reports beside one: %v", err)
	}
	if c := compared(t, old, new[:5], "allocs>+0%"); c.Failed != 1 || !strings.Contains(fmt.Sprint(c.Notes), "the first 5 are compared") {
		t.Errorf("fewer of one build: %+v", c)
	}
	new[2].Program.Version = "third"
	if _, err := loadgen.CompareReports(old, new, nil); err == nil || !strings.Contains(err.Error(), "different builds") {
		t.Error(err)
	}
}

// TestCompareReportsLeavesOut: a load that is missing in the new build's reports, or of which calls failed, is named, though others are judged.
func TestCompareReportsLeavesOut(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*loadgen.Report)
		want   []string
	}{
		"nothing":      {func(*loadgen.Report) {}, nil},
		"missing":      {func(r *loadgen.Report) { r.Runs = r.Runs[:1] }, []string{"load 1: it is not in all reports, or not with the same load"}},
		"calls failed": {func(r *loadgen.Report) { r.Runs[1].Valid = false }, []string{"load 1: calls failed or were late"}},
		"no daemon":    {func(r *loadgen.Report) { r.Runs[1].Targets = r.Runs[1].Targets[:1] }, []string{"load 1: not all reports have the target daemon"}},
	} {
		a, b := turns("old", false), turns("new", true)
		a.loads, b.loads = 2, 2
		first, second := steady(4)
		old, new := a.make(first), b.make(second)
		c.change(&new[3])
		got := compared(t, old, new, "allocs>+0%")
		if !slices.Equal(got.LeftOut, c.want) || len(got.NotJudged) > 0 || got.Judged != 2-len(c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestParseConditions reads what is meant and refuses the rest.
func TestParseConditions(t *testing.T) {
	got, err := loadgen.ParseConditions("cpu>+10%, perSecond<-5%,allocs>+0%")
	if err != nil || len(got) != 3 || got[0].String() != "cpu>+10%" || got[1].String() != "perSecond<-5%" || got[2].String() != "allocs>+0%" {
		t.Errorf("%v %v", got, err)
	}
	for _, text := range []string{"", "cpu", "speed>+1%", "cpu>10", "cpu>+x%", "cpu>-5%", "perSecond<+5%", "cpu>+NaN%", "perSecond<-100%", "cpu>+10%,", "cpu>+10%,cpu>+5%", "cpu>+10%,cpu<-10%"} {
		if _, err := loadgen.ParseConditions(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestReadReports reads reports one after the other and nothing else.
func TestReadReports(t *testing.T) {
	one, _ := json.Marshal(turns("old", false).make(rand.New(rand.NewPCG(1, 1)))[0])
	if all, err := loadgen.ReadReports(strings.NewReader(string(one) + "\n" + string(one))); err != nil || len(all) != 2 {
		t.Errorf("%d, %v", len(all), err)
	}
	for _, text := range []string{"", "{", "[]", `{"$schema":"urn:other"}`} {
		if _, err := loadgen.ReadReports(strings.NewReader(text)); err == nil {
			t.Errorf("%q is a report", text)
		}
	}
}
