package loadgen_test

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"

	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write the schema of reports")

// TestHistogram has a distribution survive its encoding, and be written for plotters.
func TestHistogram(t *testing.T) {
	h := loadgen.NewHistogram()
	for i := range 1000 {
		h.Record(time.Duration(i+1) * time.Millisecond)
	}
	h.Record(-time.Second)
	h.Record(time.Hour) // as the longest time that is told apart
	l := h.Latency()
	if l.Count != 1002 || l.Min != 0 || math.Abs(l.P50-500e3) > 1e3 || math.Abs(l.P99-991e3) > 1e3 || math.Abs(l.Max-600e6) > 1e6 {
		t.Errorf("%+v", l)
	}
	again, err := l.Histogram()
	if err != nil || again.Count() != 1002 || again.At(99) != h.At(99) {
		t.Errorf("decoded: %v", err)
	}
	var text strings.Builder
	if err := again.WriteHGRM(&text); err != nil || !strings.Contains(text.String(), "Percentile") || !strings.Contains(text.String(), "#[Max") {
		t.Errorf("%v: %s", err, text.String())
	}
	if _, err := (&loadgen.Latency{HDR: "no histogram"}).Histogram(); err == nil {
		t.Error("nonsense is decoded")
	}
	if loadgen.NewHistogram().Latency() != nil {
		t.Error("nothing has figures")
	}
}

// TestInterval99 compares with intervals that were computed by hand.
func TestInterval99(t *testing.T) {
	for _, c := range []struct {
		ratios    []float64
		low, high float64
	}{
		{nil, 0, 0},
		{[]float64{2}, 0, 0},
		{[]float64{2, 2, 2}, 2, 2},
		// Logarithms 0, 0.1, -0.1, 0.05, -0.05: mean 0, standard deviation 0.0791, half 4.604 * 0.0791 / sqrt(5) = 0.1628.
		{[]float64{1, math.Exp(0.1), math.Exp(-0.1), math.Exp(0.05), math.Exp(-0.05)}, math.Exp(-0.1628), math.Exp(0.1628)},
	} {
		if low, high := loadgen.Interval99(c.ratios); math.Abs(low-c.low) > 1e-3 || math.Abs(high-c.high) > 1e-3 {
			t.Errorf("%v: %v to %v, want %v to %v", c.ratios, low, high, c.low, c.high)
		}
	}
	if _, high := loadgen.Interval99([]float64{1e-300, 1e300}); math.IsInf(high, 0) {
		t.Error("an end that JSON cannot write")
	}
}

// result makes a target whose rounds had this CPU, in microseconds.
func result(name string, role loadgen.Role, cpu ...float64) *loadgen.Result {
	r := &loadgen.Result{Name: name, Role: role}
	for _, c := range cpu {
		r.Rounds = append(r.Rounds, loadgen.Round{PerSecond: 1000 / c, Process: &loadgen.Usage{CPUUs: c}})
	}
	return r
}

// TestCompare claims a difference only where it is larger than what the same build differs from itself.
func TestCompare(t *testing.T) {
	quiet := []float64{100, 101, 99, 100, 100}
	slower := []float64{110, 111, 109, 110, 111}
	noisy := []float64{100, 130, 80, 100, 125}
	for name, c := range map[string]struct {
		of, again []float64
		claimed   bool
	}{
		"a difference beside a quiet A/A":   {slower, slower, true},
		"a difference beside a noisy A/A":   {slower, noisy, false},
		"no difference":                     {quiet, quiet, false},
		"a difference that is itself noise": {noisy, noisy, false},
	} {
		of := result("new", loadgen.RoleDaemon, c.of...)
		ratios := loadgen.Compare(of, result("old", loadgen.RoleDaemon, quiet...), result("new again", loadgen.RoleAgain, c.again...))
		if len(ratios) != 2 || ratios[0].Figure != loadgen.FigurePerSecond || ratios[1].Figure != loadgen.FigureCPU {
			t.Fatalf("%s: %+v", name, ratios)
		}
		for _, r := range ratios {
			if r.Claimed != c.claimed || len(r.Rounds) != 5 || r.Low > r.Median || r.Median > r.High {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
	for _, r := range loadgen.Compare(result("daemon", loadgen.RoleDaemon, slower...), result("direct", loadgen.RoleDirect, quiet...), nil) {
		if r.Figure == loadgen.FigureCPU || r.Claimed {
			t.Errorf("a daemon is compared with a server: %+v", r)
		}
	}
	if ratios := loadgen.Compare(result("daemon", loadgen.RoleDaemon, 2), result("direct", loadgen.RoleDirect, 1), result("again", loadgen.RoleAgain, 2)); ratios[0].Claimed || ratios[0].Noise != 0 {
		t.Errorf("one round is no proof: %+v", ratios[0])
	}
	four := loadgen.Compare(result("new", loadgen.RoleDaemon, slower[:4]...), result("old", loadgen.RoleDaemon, quiet[:4]...), result("again", loadgen.RoleAgain, slower[:4]...))
	if r := four[0]; r.Claimed || r.High >= 1 { // by its interval it would be
		t.Errorf("four rounds are no proof: %+v", r)
	}
}

// TestGoals judges goals in both directions, and both times.
func TestGoals(t *testing.T) {
	again := func(got float64) *float64 { return &got }
	for _, c := range []struct {
		goal loadgen.Goal
		met  bool
	}{
		{loadgen.Goal{Wanted: 90, Got: 90}, true}, {loadgen.Goal{Wanted: 90, Got: 89.9}, false},
		{loadgen.Goal{Wanted: 100, Got: 100, AtMost: true}, true}, {loadgen.Goal{Wanted: 100, Got: 101, AtMost: true}, false},
		{loadgen.Goal{Wanted: 0, Got: 0, AtMost: true}, true}, {loadgen.Goal{Wanted: 0, Got: 1, AtMost: true}, false},
		{loadgen.Goal{Wanted: 90, Got: 95, Again: again(90)}, true}, {loadgen.Goal{Wanted: 90, Got: 95, Again: again(85)}, false},
		{loadgen.Goal{Wanted: 9, Got: 0, AtMost: true, Unknown: true}, false},
		{loadgen.Goal{Wanted: 9, Got: 8, Again: again(10), AtMost: true}, false}, {loadgen.Goal{Wanted: 9, Got: 10, Again: again(8), AtMost: true}, false},
	} {
		if c.goal.Judge(); c.goal.Met != c.met {
			t.Errorf("%+v", c.goal)
		}
	}
}

// TestTexts: what bounds a load is in its text, an answer without a word of a cache is a miss where there is one, and what is not known
// is no number.
func TestTexts(t *testing.T) {
	run := loadgen.Run{Load: loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 10, MaxRate: 5}}
	if got := run.LoadText(); got != "a closed loop, 2 at once, at most 5 a second; 10 calls to each target in each of 0 rounds" {
		t.Error(got)
	}
	for counts, want := range map[loadgen.CacheCounts][3]string{
		{None: 5}: {}, {Hits: 1, None: 5}: {"1", "0", "5"}, {Collapsed: 2, Misses: 1, None: 3}: {"0", "2", "4"},
	} {
		if hits, shared, misses := counts.Texts(); [3]string{hits, shared, misses} != want {
			t.Errorf("%+v: %s, %s, %s", counts, hits, shared, misses)
		}
	}
	for want, goal := range map[string]loadgen.Goal{"0": {}, "not known": {Unknown: true}} {
		if got := goal.GotText(); got != want {
			t.Errorf("%+v: %s", goal, got)
		}
	}
}

// TestSchema holds the committed schemas to the types, and what is printed to the schemas. `go test ./internal/loadgen -update` writes
// them.
func TestSchema(t *testing.T) {
	h := loadgen.NewHistogram()
	h.Record(time.Millisecond)
	round := loadgen.Round{
		Round: 1, Faults: map[string]int64{loadgen.FaultStatus: 1}, Service: h.Latency(), Kinds: []loadgen.KindRound{{Name: "x"}},
		Process: &loadgen.Usage{}, Server: &loadgen.ServerCounts{}, Curve: []loadgen.Point{{}},
	}
	report := loadgen.Report{
		Schema: loadgen.SchemaID, Machine: loadgen.ThisMachine(), Started: time.Now(), Goals: []loadgen.Goal{{Again: new(float64)}}, Notes: []string{"x"},
		Runs: []loadgen.Run{{Targets: []loadgen.Result{{Rounds: []loadgen.Round{round}, Streams: &loadgen.StreamCounts{}}}, Ratios: []loadgen.Ratio{{Rounds: []float64{1}}}}},
	}
	testSchema(t, "benchmark.schema.json", loadgen.Schema, report)

	first, second := steady(3)
	old, new := turns("old", false), turns("new", true)
	new.allocs += 2
	comparison := compared(t, old.make(first), new.make(second), "cpu>+10%,allocs>+0%,allocBytes>+0%")
	if comparison.Failed == 0 || len(comparison.NotJudged) == 0 {
		t.Errorf("not all of a comparison is tried: %+v", comparison)
	}
	testSchema(t, "benchmark-compare.schema.json", loadgen.ComparisonSchema, comparison)
}

func testSchema(t *testing.T, name string, schema func() ([]byte, error), printed any) {
	t.Helper()
	want, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	file := "../../docs/" + name
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != string(want) {
		t.Errorf("%s is not what the types say (%v): go test ./internal/loadgen -update", file, err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(want, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(printed)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	value["surprise"] = 1
	if resolved.Validate(value) == nil {
		t.Errorf("%s: a member that the schema does not have is let pass", name)
	}
}
