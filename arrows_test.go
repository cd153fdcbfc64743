package fluentdperf_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "fluentd-perf"

// arrows is who may import whom of ours: docs/design.md, "Packages", as a table. A package's own tests may import what the
// package may, the package itself, internal/mcptest, internal/cache/tier/tiertest and what testArrows says. A package under internal/ that is not here is a fault: whoever
// adds one says here what it stands on.
var arrows = map[string][]string{
	"internal/http1":          {"internal/http1/header"},
	"internal/http1/header":   {},
	"internal/mcp":            {"internal/http1/header"},
	"internal/proxy":          {"internal/mcp", "internal/http1/header"},
	"internal/session":        {"internal/mcp", "internal/http1/header"},
	"internal/cache":          {"internal/mcp", "internal/http1/header", "internal/cache/tier", "internal/cache/memory", "internal/cache/worker", "internal/cache/listener", "internal/batch/flight", "internal/safefile"},
	"internal/cache/listener": {"internal/mcp", "internal/http1/header"},
	"internal/cache/memory":   {"internal/cache/tier"},
	"internal/cache/worker":   {"internal/cache/tier"},
	"internal/cache/tier":     {"internal/mcp"}, // for the buckets of histograms
	"internal/cache/redis":    {"internal/cache/tier"},
	"internal/cache/sqlite":   {"internal/cache/tier"},
	"internal/cache/postgres": {"internal/cache/tier"},

	"internal/cache/tier/tiertest":    {"internal/cache/tier"}, // the contract of tiers, for the tests of each
	"internal/session/httpsse":        {"internal/mcp", "internal/http1/header"},
	"internal/batch/flight":           {},
	"internal/safefile":               {},
	"internal/peer":                   {},
	"internal/batch/window":           {"internal/mcp", "internal/http1/header"},
	"internal/batch/rpc":              {"internal/mcp", "internal/http1/header", "internal/era"},
	"internal/era":                    {"internal/mcp", "internal/http1/header"},
	"internal/admission":              {"internal/mcp", "internal/http1/header"},
	"internal/breaker":                {"internal/mcp"},
	"internal/dispatch":               {"internal/mcp", "internal/http1/header"},
	"internal/upstream/http":          {"internal/mcp", "internal/http1", "internal/http1/header"},
	"internal/session/multiplex":      {"internal/mcp", "internal/http1/header"},
	"internal/session/streamable":     {"internal/mcp", "internal/http1/header", "internal/safefile", "internal/session/remembered"},
	"internal/session/remembered":     {"internal/mcp", "internal/safefile"},
	"internal/upstream/stdio":         {"internal/mcp", "internal/http1/header"},
	"internal/upstream/stdio/guard":   {},
	"internal/upstream/stdio/login":   {"internal/upstream/stdio/process", "internal/safefile"},
	"internal/upstream/stdio/npx":     {"internal/safefile", "internal/upstream/stdio/process"},
	"internal/upstream/stdio/process": {"internal/upstream/stdio/guard"},                                                                                                       // it knows nothing of MCP
	"internal/api":                    {"internal/mcp", "internal/cache", "internal/dispatch", "internal/session", "internal/proxy", "internal/safefile", "internal/profiler"}, // what they report of themselves
	"internal/monitor":                {"internal/api"},
	"cmd/fluentd-perf": { // flags and output
		"internal/mcp", "internal/daemon", "internal/api", "internal/monitor", "internal/config", "internal/demo", "internal/cache", "internal/breaker", "internal/dispatch", "internal/session", "internal/proxy",
		"internal/upstream/stdio/process", "internal/upstream/stdio/login", // check looks for commands as they do, and a login shell runs this program
		"internal/loadgen", "internal/loadgen/accesslog", "internal/loadgen/scenario", "internal/loadgen/page",
		"internal/profiler", "internal/flamegraph",
		"internal/upstream/stdio/npx", // check says what runs without npx
		"internal/session/multiplex",  // check: words that speak of what a server keeps for one agent
	},
	"internal/demo":       {"internal/mcp"},
	"internal/loadgen":    {"internal/mcp"},
	"internal/flamegraph": {}, // it draws what it is given
	"internal/profiler":   {"internal/flamegraph"},

	"internal/loadgen/accesslog":  {},
	"internal/loadgen/fastserver": {"internal/mcp"},
	"internal/loadgen/localtools": {"internal/loadgen"},
	"internal/loadgen/scenario":   {"internal/mcp", "internal/loadgen", "internal/loadgen/fastserver", "internal/loadgen/localtools", "internal/api"}, // it starts daemons and asks them where they listen
	"internal/loadgen/page":       {"internal/loadgen"},
	"internal/mcptest":            {"internal/mcp", "internal/http1/header"},
	"internal/config": { // the stages' Options, and never the other way round
		"internal/mcp", "internal/proxy", "internal/session", "internal/cache", "internal/cache/memory", "internal/cache/redis",
		"internal/cache/sqlite", "internal/cache/postgres", "internal/admission", "internal/breaker", "internal/dispatch", "internal/upstream/http",
	},
}

// testArrows is what the tests of a package may import besides: the real things in place of which it has interfaces.
var testArrows = map[string][]string{
	"internal/dispatch":      {"internal/admission", "internal/breaker"},
	"internal/upstream/http": {"internal/admission"},
	"internal/loadgen":       {"internal/loadgen/fastserver"},

	"internal/session/streamable": {"internal/upstream/stdio", "internal/session/multiplex", "internal/proxy", "internal/dispatch", "internal/batch/rpc"},
	"internal/session/multiplex":  {"internal/upstream/stdio"},
}

// wirings see everything: where the parts meet, and what tests the whole. Nobody imports them, but cmd the daemon, and the
// end-to-end tests what they share.
var wirings = []string{".", "internal/daemon", "e2e", "bench"}

// keepers are the packages of others that only some of ours may import, by prefix of the import path.
var keepers = map[string]func(dir, file string) bool{
	"github.com/prometheus/":           func(_, file string) bool { return file == "metrics.go" },
	"github.com/redis/":                func(dir, _ string) bool { return dir == "internal/cache/redis" },
	"github.com/allegro/":              func(dir, _ string) bool { return dir == "internal/cache/memory" },
	"github.com/jackc/":                func(dir, _ string) bool { return dir == "internal/cache/postgres" },
	"modernc.org/":                     func(dir, _ string) bool { return dir == "internal/cache/sqlite" },
	"zombiezen.com/":                   func(dir, _ string) bool { return dir == "internal/cache/sqlite" },
	"github.com/sony/":                 func(dir, _ string) bool { return dir == "internal/breaker" },
	"github.com/hashicorp/":            func(dir, _ string) bool { return dir == "internal/upstream/http" },
	"github.com/spf13/":                func(dir, _ string) bool { return dir == "cmd/fluentd-perf" },
	"github.com/google/pprof/":         func(dir, _ string) bool { return dir == "internal/flamegraph" || dir == "internal/profiler" },
	"github.com/modelcontextprotocol/": func(dir, _ string) bool { return dir == "internal/demo" },
	"charm.land/":                      func(dir, _ string) bool { return dir == "internal/monitor" },
	"github.com/charmbracelet/":        func(dir, _ string) bool { return dir == "internal/monitor" },
}

// TestArrows holds the import table in this repository.
func TestArrows(t *testing.T) {
	faults, files := wrongArrows(t, ".")
	for _, fault := range faults {
		t.Error(fault)
	}
	if files < 10 {
		t.Errorf("only %d Go files were looked at: the test looks in the wrong place", files)
	}
}

// TestArrowsFindsFaults runs the same check over a tree of planted faults.
func TestArrowsFindsFaults(t *testing.T) {
	got, _ := wrongArrows(t, "testdata/arrows")
	text, err := os.ReadFile("testdata/arrows/want.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(text)), "\n")
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// wrongArrows returns a line for each import below root that the table does not allow, sorted, and the number of Go
// files it read. Build tags are not looked at: an arrow is wrong on every platform.
func wrongArrows(t *testing.T, root string) (faults []string, files int) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipDir(name):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		files++
		found, err := wrongImports(root, name)
		faults = append(faults, found...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(faults)
	return faults, files
}

// skipDir reports whether the go command would not look into a directory, or it holds what npm downloaded.
func skipDir(name string) bool {
	base := path.Base(name)
	if name == "." {
		return false
	}
	return base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
}

func wrongImports(root, name string) (faults []string, err error) {
	if dir := path.Dir(name); !isWiring(dir) && arrows[dir] == nil {
		return []string{name + ": the package is not in the table of arrows_test.go"}, nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if err := checkArrow(name, imported); err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return faults, nil
}

// checkArrow says what is wrong with one import of one file, if anything.
func checkArrow(name, imported string) error {
	dir, isTest := path.Dir(name), strings.HasSuffix(name, "_test.go")
	if isWiring(dir) {
		return checkWiring(dir, imported)
	}
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		if slices.Contains(arrows[dir], ours) || isTest && (ours == dir || slices.Contains(testArrows[dir], ours) ||
			ours == "internal/mcptest" || ours == "internal/cache/tier/tiertest") {
			return nil
		}
		return fmt.Errorf("%s may not import %s", dir, ours)
	}
	if isTest {
		return nil
	}
	return checkOthers(dir, path.Base(name), imported)
}

func checkWiring(dir, imported string) error {
	ours, ok := strings.CutPrefix(imported, module+"/")
	if !ok || !isWiring(ours) || strings.HasPrefix(dir, "e2e/") && ours == "e2e/harness" {
		return nil
	}
	return fmt.Errorf("nobody imports %s", ours)
}

// checkOthers holds internal/mcp to the standard library, and libraries to the packages that may import them.
func checkOthers(dir, file, imported string) error {
	first, _, _ := strings.Cut(imported, "/")
	if dir == "internal/mcp" && strings.Contains(first, ".") {
		return fmt.Errorf("internal/mcp imports the standard library only, not %s", imported)
	}
	for prefix, mayImport := range keepers {
		if strings.HasPrefix(imported, prefix) && !mayImport(dir, file) {
			return fmt.Errorf("%s does not belong here", imported)
		}
	}
	return nil
}

// isWiring reports whether a directory is one of the wirings or below one. The root is one, but not what is below it.
func isWiring(dir string) bool {
	for _, one := range wirings {
		if dir == one || one != "." && strings.HasPrefix(dir, one+"/") {
			return true
		}
	}
	return false
}
