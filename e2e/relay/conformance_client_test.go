// The official suite's client scenarios come out the same with the daemon between client and suite.

package relay

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// clientConformance is one way to run the official suite's client scenarios: the suite plays the server and judges what
// the client sends.
type clientConformance struct {
	name   string
	client []string // the official client, which the suite calls with the server's URL
	pkg    string   // the folder of the suite's version in node_modules
	args   []string
	count  int      // how many scenarios there are
	lacks  []string // the scenarios that the client fails directly: extensions that it does not have
	full   bool     // run only where E2E_FULL=1: with TypeScript's clients a suite takes minutes
}

var (
	goConformanceClient  = []string{filepath.Join(harness.CacheBin, "everything-client")}
	ts1ConformanceClient = []string{"NODE", harness.Script("conformance-client"), "ts1"}
	ts2ConformanceClient = []string{"NODE", harness.Script("conformance-client"), "ts2"}

	rareExtensions = []string{"auth/dpop", "auth/dpop-nonce", "auth/enterprise-managed-authorization", "auth/wif-jwt-bearer"}
	clientGrants   = []string{"auth/client-credentials-basic", "auth/client-credentials-jwt"}
)

var clientConformances = []clientConformance{
	{"go/2025-03-26", goConformanceClient, "conformance", []string{"--suite", "backcompat"}, 2, nil, false},
	{"go/2025-11-25", goConformanceClient, "conformance", []string{"--requirements", "2025-11-25"}, 25, slices.Concat(clientGrants, rareExtensions), false},
	{"go/2026-07-28", goConformanceClient, "conformance", []string{"--requirements", "2026-07-28"}, 39, slices.Concat(clientGrants, rareExtensions), false},
	// Of 0.1.16's old metadata the Go SDK refuses the issuer.
	{"go/0.1.16", goConformanceClient, "conformance-legacy", []string{"--suite", "all"}, 26,
		append([]string{"auth/2025-03-26-oauth-metadata-backcompat", "auth/cross-app-access-complete-flow"}, clientGrants...), true},
	{"ts1/2025-11-25", ts1ConformanceClient, "conformance", []string{"--requirements", "2025-11-25"}, 25, rareExtensions, true},
	{"ts1/0.1.16", ts1ConformanceClient, "conformance-legacy", []string{"--suite", "all"}, 26, []string{"auth/cross-app-access-complete-flow"}, true},
	{"ts2/2026-07-28", ts2ConformanceClient, "conformance", []string{"--requirements", "2026-07-28"}, 39, rareExtensions, true},
}

// wantedDifferences are the checks that a client passes directly and fails through the daemon, because the contract wants
// it so. Every other check must come out the same, and these must come out so.
var wantedDifferences = map[string]string{
	// The suite compares the `resource` that a client asks its token for with the one that the server published. Through
	// the daemon it is the URL that the client uses, as RFC 9728, section 3.3 has it: the daemon's.
	"resource-parameter-matches-prm": "the resource is the daemon's URL",
}

// TestClientConformance runs the suites' client scenarios with the official clients, directly and with a daemon of its own
// between each client and its server, and compares how every check came out. How often one did is compared only as none
// or some: some count requests, and whether a client's GET was sent before it left is a race.
func TestClientConformance(t *testing.T) {
	for _, c := range clientConformances {
		if !c.full || os.Getenv("E2E_FULL") == "1" {
			t.Run(c.name, c.compare)
		}
	}
}

func (c clientConformance) compare(t *testing.T) {
	direct, got := c.run(t, ""), c.run(t, harness.DaemonBinary)
	t.Logf("%s\n%s", c.name, table(direct, got))
	if len(direct) != c.count || !slices.Equal(direct.failed(), slices.Sorted(slices.Values(c.lacks))) {
		t.Errorf("directly %d scenarios, failed %q; want %d, %q", len(direct), direct.failed(), c.count, c.lacks)
	}
	for _, scenario := range scenariosOf(direct, got) {
		want := wanted(direct[scenario].checks)
		if has := settled(got[scenario].checks); !maps.Equal(want, has) {
			t.Errorf("%s: through the daemon%s%s", scenario, differences(want, has), got[scenario].failures)
		}
	}
}

// failed returns the scenarios that have failed, sorted.
func (s scores) failed() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if s[name].counts[failure] > 0 {
			names = append(names, name)
		}
	}
	return names
}

// settled takes a reconnect that is late, because the machine is busy, for one in time.
func settled(checks map[string]bool) map[string]bool {
	result := maps.Clone(checks)
	if late := "client-sse-retry-timing WARNING"; result[late] {
		delete(result, late)
		result["client-sse-retry-timing "+success] = true
	}
	return result
}

// wanted returns how the checks must come out through the daemon.
func wanted(direct map[string]bool) map[string]bool {
	result := settled(direct)
	for id := range wantedDifferences {
		if result[id+" "+success] {
			delete(result, id+" "+success)
			result[id+" "+failure] = true
		}
	}
	return result
}

func differences(want, got map[string]bool) string {
	var b strings.Builder
	for _, check := range slices.Sorted(maps.Keys(want)) {
		if !got[check] {
			fmt.Fprintf(&b, "\n\tdirectly only: %s", check)
		}
	}
	for _, check := range slices.Sorted(maps.Keys(got)) {
		if !want[check] {
			fmt.Fprintf(&b, "\n\tthrough only: %s", check)
		}
	}
	return b.String()
}

// run runs the suite with a daemon in front of every server, or without one. The suite starts all of its clients at once;
// peer front lets four of them run.
func (c clientConformance) run(t *testing.T, daemon string) scores {
	t.Helper()
	reports := t.TempDir()
	env := []string{"PEER_FRONT_DAEMON=" + daemon, "PEER_FRONT_REPORTS=" + reports, "PEER_FRONT_TRACKS=" + tracks(t, 4)}
	args := append([]string{"client", "--command", c.command(t), "--timeout", fmt.Sprint(10 * harness.MaxWait.Milliseconds())}, c.args...)
	result := runSuite(t, c.pkg, env, readClientScores, args...)
	c.checkDaemons(t, reports)
	return result
}

// command is the command line of the client behind peer front; the suite splits it at blanks.
func (c clientConformance) command(t *testing.T) string {
	t.Helper()
	binary, err := harness.BuildPeer()
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(append([]string{binary, "front"}, c.client...), " ")
	return strings.Replace(line, " NODE ", " "+harness.Node+" ", 1)
}

// tracks makes a folder of n files for peer front to lock.
func tracks(t *testing.T, n int) string {
	t.Helper()
	folder := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// checkDaemons fails the test for every daemon that did not end well.
func (c clientConformance) checkDaemons(t *testing.T, reports string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(reports, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		t.Errorf("a daemon did not end well: %s %v", harness.Tail(string(text)), err)
	}
}

// clientResultFolder is how the suite names the folder of a scenario's checks, below that of its group.
var clientResultFolder = regexp.MustCompile(`^(.+)-\d{4}-\d\d-\d\dT[\d-]+Z/checks\.json$`)

func readClientScores(dir string) (scores, error) {
	result := scores{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "checks.json" {
			return err
		}
		name := clientResultFolder.FindStringSubmatch(path)
		if name == nil {
			return fmt.Errorf("unexpected result file %s", path)
		}
		result[name[1]], err = readScore(filepath.Join(dir, path))
		return err
	})
	return result, err
}
