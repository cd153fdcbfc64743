package bench

import (
	"os"
	"os/exec"
	"testing"

	"fluentd-perf/internal/loadgen"
)

// TestAllocationsCommit: the commit whose allocations are committed is one of this repository, so that `make regress` can build it.
// A source tree without its history has nothing to look in.
func TestAllocationsCommit(t *testing.T) {
	file, err := os.Open("allocations.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reports, err := loadgen.ReadReports(file)
	if err != nil {
		t.Fatal(err)
	}
	if shallow, err := exec.Command("git", "rev-parse", "--is-shallow-repository").Output(); err != nil || string(shallow) != "false\n" {
		t.Skip("there is no history of the repository here")
	}
	for _, r := range reports {
		if out, err := exec.Command("git", "cat-file", "-e", r.Program.Version+"^{commit}").CombinedOutput(); err != nil {
			t.Fatalf("make regress-record: there is no commit %s: %v\n%s", r.Program.Version, err, out)
		}
	}
}
