// The official suites count the same directly and through the daemon.

package relay

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// conformance is one way to run the official suite, and what it must count. The figures are those that the Go SDK's own
// server reaches directly; the failures of 2026-07-28 are the unscored tasks extension, which it does not have.
type conformance struct {
	name           string
	pkg            string // the folder of the suite's version in node_modules
	args           []string
	start          harness.Server
	passed, failed int
	direct         *directScores
}

var conformances = []conformance{
	{"2025-11-25", "conformance", []string{"--requirements", "2025-11-25"}, harness.GoStateful, 82, 0, new(directScores)},
	{"2026-07-28", "conformance", []string{"--requirements", "2026-07-28"}, harness.GoStateless, 165, 30, new(directScores)},
	{"0.1.16", "conformance-legacy", []string{"--suite", "all"}, harness.GoStateful, 44, 0, new(directScores)},
}

// directScores are what a suite counts without a daemon. The tests run the suites through several daemons, and count once.
type directScores struct {
	mu     sync.Mutex // guards the following
	scores scores
}

// TestConformance runs the suites directly and through the daemon and compares the counts of every scenario.
func TestConformance(t *testing.T) {
	for _, c := range conformances {
		t.Run(c.name, func(t *testing.T) {
			for run := range conformanceRuns(t) {
				t.Run(fmt.Sprint(run+1), func(t *testing.T) { c.compare(t, run > 0) })
			}
		})
	}
}

func conformanceRuns(t *testing.T) int {
	text := os.Getenv("E2E_CONFORMANCE_RUNS")
	if text == "" {
		return 1
	}
	runs, err := strconv.Atoi(text)
	if err != nil || runs < 1 {
		t.Fatalf("E2E_CONFORMANCE_RUNS=%q is not a number of runs", text)
	}
	return runs
}

// compare runs the suite against a fresh server each way, directly only where that has not been done, or is to be done again.
func (c conformance) compare(t *testing.T, again bool) {
	if again {
		c.forget()
	}
	c.judge(t, c.directly(t), c.run(t, harness.Through(t, c.start(t))))
}

// judge compares the counts.
func (c conformance) judge(t *testing.T, direct, got scores) {
	t.Helper()
	t.Logf("%s\n%s", c.name, table(direct, got))
	for name, counts := range map[string]scores{"directly": direct, "through the daemon": got} {
		if passed, failed := counts.sum(success), counts.sum(failure); passed != c.passed || failed != c.failed {
			t.Errorf("%s: %d passed, %d failed; want %d and %d", name, passed, failed, c.passed, c.failed)
		}
	}
	for _, scenario := range scenariosOf(direct, got) {
		if !maps.Equal(direct[scenario].counts, got[scenario].counts) {
			t.Errorf("%s: directly %v, through the daemon %v%s", scenario, direct[scenario].counts, got[scenario].counts, got[scenario].failures)
		}
	}
}

// directly returns what the suite counts without a daemon.
func (c conformance) directly(t *testing.T) scores {
	t.Helper()
	c.direct.mu.Lock()
	defer c.direct.mu.Unlock()
	if c.direct.scores == nil {
		c.direct.scores = c.run(t, c.start(t))
	}
	return c.direct.scores
}

// forget has the next one who asks run the suite again.
func (c conformance) forget() {
	c.direct.mu.Lock()
	defer c.direct.mu.Unlock()
	c.direct.scores = nil
}

// The statuses that the suite's own totals count.
const success, failure = "SUCCESS", "FAILURE"

// score is what one scenario came to: how often each status, each "check STATUS" that was not only told, and the failures
// in words.
type score struct {
	counts   map[string]int
	checks   map[string]bool
	failures string
}

type scores map[string]score

func (s scores) sum(status string) int {
	total := 0
	for _, one := range s {
		total += one.counts[status]
	}
	return total
}

// run runs the suite and reads its result files.
func (c conformance) run(t *testing.T, url string) scores {
	t.Helper()
	return runSuite(t, c.pkg, nil, readScores, append([]string{"server", "--url", url}, c.args...)...)
}

// runSuite runs a version of the suite and reads its result files. Its exit status says only whether anything failed.
func runSuite(t *testing.T, pkg string, env []string, read func(dir string) (scores, error), args ...string) scores {
	t.Helper()
	out := t.TempDir()
	args = append(append([]string{filepath.Join(harness.NodeDir, "node_modules", pkg, "dist/index.js")}, args...), "-o", out)
	cmd := exec.CommandContext(t.Context(), harness.Node, args...)
	cmd.Dir = out // 0.1.16 writes into its working directory whatever -o says
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = harness.ChildAttributes()
	cmd.WaitDelay = time.Second
	printed, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	result, err := read(out)
	if err != nil || len(result) == 0 {
		t.Fatalf("%v: %d scenarios, %v\n%s", cmd.Args, len(result), err, printed)
	}
	return result
}

// resultFolder is how the suite names the folder of a scenario's checks.
var resultFolder = regexp.MustCompile(`^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$`)

func readScores(dir string) (scores, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "checks.json"))
	if err != nil {
		return nil, err
	}
	result := scores{}
	for _, file := range files {
		name := resultFolder.FindStringSubmatch(filepath.Base(filepath.Dir(file)))
		if name == nil {
			return nil, fmt.Errorf("unexpected result file %s", file)
		}
		if result[name[1]], err = readScore(file); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func readScore(file string) (score, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return score{}, err
	}
	var checks []struct {
		ID, Status   string
		ErrorMessage string
	}
	if err := json.Unmarshal(text, &checks); err != nil {
		return score{}, fmt.Errorf("%s: %w", file, err)
	}
	s := score{counts: map[string]int{}, checks: map[string]bool{}}
	for _, check := range checks {
		s.counts[check.Status]++
		if check.Status != "INFO" {
			s.checks[check.ID+" "+check.Status] = true
		}
		if check.Status == failure {
			s.failures += fmt.Sprintf("\n\t%s: %s", check.ID, check.ErrorMessage)
		}
	}
	return s, nil
}

func scenariosOf(direct, through scores) []string {
	all := maps.Clone(direct)
	maps.Copy(all, through)
	return slices.Sorted(maps.Keys(all))
}

// table shows passed/failed of each scenario both ways.
func table(direct, through scores) string {
	var b strings.Builder
	row := func(name, d, g string) { fmt.Fprintf(&b, "  %-50s %9s %9s\n", name, d, g) }
	row("scenario", "direct", "through")
	for _, name := range scenariosOf(direct, through) {
		row(name, direct[name].String(), through[name].String())
	}
	total := func(s scores) string { return fmt.Sprintf("%d/%d", s.sum(success), s.sum(failure)) }
	row("total", total(direct), total(through))
	return b.String()
}

// String returns passed/failed.
func (s score) String() string { return fmt.Sprintf("%d/%d", s.counts[success], s.counts[failure]) }
