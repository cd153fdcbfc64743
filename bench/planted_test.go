//go:build linux

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var comparisons = flag.Int("comparisons", 20, "comparisons in BenchmarkSameBuild: one of twenty may alarm")

// comparedRounds is how many turns each build has in a comparison: as few as are judged. comparedTime bounds one turn.
const (
	comparedRounds = 5
	comparedTime   = time.Minute
)

// The function into which faults are planted: every call of an agent passes it.
const (
	plantedFile = "../internal/proxy/handler.go"
	plantedFunc = "serve"
)

// plantedKey names the environment variable that says which of the faults a build with faults has.
const plantedKey = "FLUENTD_PERF_PLANTED"

// faults are what is planted, and the condition that finds each.
var faults = []struct{ name, code, condition string }{
	// On a machine that does nothing else one allocation would do, and 2 ms: these are found on a busy one too.
	{"sleep", "time.Sleep(5 * time.Millisecond)", "p50>+10%"},
	{"allocation", "for range 10 {\n\t\t\tkept = make([]byte, 512)\n\t\t}", "allocs>+0%"},
	{"work", "for begun := time.Now(); time.Since(begun) < 500*time.Microsecond; {\n\t\t}", "cpu>+10%"},
}

// build is a program under comparison, with the fault that it has; "" is none.
type build struct{ program, fault string }

// BenchmarkPlanted: `benchmark compare` fails where a build sleeps, allocates or works more for each call than the one before. The
// faults are planted by the compiler's -overlay, so none is in the code, into a build that takes turns with that of the code as it is.
func BenchmarkPlanted(b *testing.B) {
	builds, planted := []build{{buildDaemon(b), ""}}, buildPlanted(b)
	for _, f := range faults {
		builds = append(builds, build{planted, f.name})
	}
	reports := takeTurns(b, builds)
	for i, f := range faults {
		text, failed := compared(b, builds[0].program, reports[0], reports[i+1], f.condition)
		fmt.Printf("%s, %s:\n%s\n", f.name, f.condition, text)
		if !failed {
			b.Errorf("%s was not found", f.name)
		}
	}
	b.ReportMetric(0, "ns/op") // a whole run is no operation
}

// BenchmarkSameBuild: of twenty comparisons of a build with itself one may alarm at most, though any difference would do that is no
// chance. It takes minutes.
func BenchmarkSameBuild(b *testing.B) {
	same := build{buildDaemon(b), ""}
	alarms := 0
	for n := range *comparisons {
		reports := takeTurns(b, []build{same, same})
		if text, failed := compared(b, same.program, reports[0], reports[1], "cpu>+0%,allocs>+0%,p50>+0%,perSecond<-0%"); failed {
			alarms++
			fmt.Printf("an alarm:\n%s\n", text)
		}
		fmt.Printf("%d alarms in %d comparisons of a build with itself\n", alarms, n+1)
	}
	if alarms > max(1, *comparisons/20) {
		b.Errorf("%d alarms in %d comparisons", alarms, *comparisons)
	}
	b.ReportMetric(float64(alarms), "alarms")
	b.ReportMetric(0, "ns/op")
}

// buildPlanted builds the daemon with the faults at the beginning of the planted function. The environment says which of them it has.
func buildPlanted(b *testing.B) (program string) {
	b.Helper()
	at, err := filepath.Abs(plantedFile)
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile(at)
	if err != nil {
		b.Fatal(err)
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, at, text, parser.SkipObjectResolution)
	if err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(file.Decls, func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && f.Name.Name == plantedFunc
	})
	if i < 0 {
		b.Fatalf("%s has no function %s", at, plantedFunc)
	}
	body := set.Position(file.Decls[i].(*ast.FuncDecl).Body.Lbrace).Offset + 1
	dir := b.TempDir()
	changed, added, overlay := filepath.Join(dir, "handler.go"), filepath.Join(dir, "planted.go"), filepath.Join(dir, "overlay.json")
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{at: changed, filepath.Join(filepath.Dir(at), "planted.go"): added}})
	if err != nil {
		b.Fatal(err)
	}
	cases := ""
	for _, f := range faults {
		cases += fmt.Sprintf("\tcase %q:\n\t\t%s\n", f.name, f.code)
	}
	for path, content := range map[string][]byte{
		changed: slices.Concat(text[:body], []byte(" planted();"), text[body:]),
		added:   fmt.Appendf(nil, plantedText, file.Name.Name, plantedKey, cases),
		overlay: replaced,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	program = filepath.Join(dir, "planted")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, "../cmd/fluentd-perf").CombinedOutput(); err != nil {
		b.Fatalf("building with faults: %v\n%s", err, out)
	}
	return program
}

// plantedText is the file with the faults: the package, the variable and the cases are filled in.
const plantedText = `package %s

import (
	"os"
	"time"
)

var (
	fault = os.Getenv(%q)
	kept  []byte
)

func planted() {
	switch fault {
%s	}
}
`

// takeTurns has builds measured one after the other, in an order that is turned round each time, and returns each one's file of reports.
func takeTurns(b *testing.B, builds []build) (reports []string) {
	b.Helper()
	said := make([]bytes.Buffer, len(builds))
	for round := range comparedRounds {
		for i := range builds {
			if round%2 == 1 {
				i = len(builds) - 1 - i
			}
			ctx, cancel := context.WithTimeout(b.Context(), comparedTime)
			// Two calls at once: with many a closed loop on a busy machine waits for the CPU longer than for a sleep, which takes none.
			cmd := exec.CommandContext(ctx, builds[i].program, "benchmark", "--concurrency", "2", "--requests", "1000", "--rounds", "1", "--quiet", "-o", "json")
			cmd.Env = append(os.Environ(), plantedKey+"="+builds[i].fault)
			cmd.Stdout, cmd.Stderr = &said[i], os.Stderr
			err := cmd.Run()
			cancel()
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	dir := b.TempDir()
	for i := range said {
		path := filepath.Join(dir, fmt.Sprint(i, ".json"))
		if err := os.WriteFile(path, said[i].Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		reports = append(reports, path)
	}
	return reports
}

// compared compares the reports of two builds, and returns what is said of it and whether the condition failed.
func compared(b *testing.B, program, old, new, condition string) (text string, failed bool) {
	b.Helper()
	out, err := exec.Command(program, "benchmark", "compare", old, new, "--fail-on", condition).CombinedOutput()
	var exited *exec.ExitError
	if errors.As(err, &exited) && exited.ExitCode() == 4 { // a condition failed
		return string(out), true
	}
	if err != nil {
		b.Fatalf("compare: %v\n%s", err, out)
	}
	return string(out), false
}
