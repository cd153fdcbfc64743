package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the scripts in testdata/script, in which fluentd-perf is this program. Besides the usual commands there are
//
//	exits CODES COMMAND...    runs a command that has to exit with one of the codes, as 0 or 0,3
//	until COMMAND...          runs a command again and again until it succeeds
//	report FIGURE OP NUMBER   compares a figure of the report that was printed last
//	json FIGURE OP NUMBER     the same of any JSON
//	conforms SCHEMA           holds the JSON that was printed last to a schema of docs
func TestScripts(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			bin := filepath.Join(env.WorkDir, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv(asProgram, "1")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // no second of sleep at the end of each
			env.Setenv("HOME", env.WorkDir)
			if cache, err := exec.Command("go", "env", "GOCACHE").Output(); err == nil { // else a build there begins with Go's own packages
				env.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
			}
			return os.Symlink(program, filepath.Join(bin, "fluentd-perf"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": scriptExits, "until": scriptUntil, "report": scriptReport, "json": scriptJSON, "conforms": scriptConforms},
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODES COMMAND...")
	}
	code, err := 0, ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(code)) {
		ts.Fatalf("exit code %d, want %s: %s%s", code, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: until COMMAND...")
	}
	late := time.After(programWait)
	for tick := time.NewTicker(20 * time.Millisecond); ts.Exec(args[0], args[1:]...) != nil; {
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("not within %v: %s", programWait, ts.ReadFile("stderr"))
		}
	}
}

// scriptConforms holds what was printed to a schema.
func scriptConforms(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: conforms SCHEMA")
	}
	text, err := os.ReadFile(filepath.Join("../../docs", args[0]))
	ts.Check(err)
	var s jsonschema.Schema
	ts.Check(json.Unmarshal(text, &s))
	resolved, err := s.Resolve(nil)
	ts.Check(err)
	var printed any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &printed))
	if err := resolved.Validate(printed); (err != nil) != neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

// scriptReport looks at a figure of a report.
func scriptReport(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), new(loadgen.Report)))
	scriptJSON(ts, neg, args)
}

// scriptJSON looks at a figure that jsonFigure finds.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: report or json FIGURE OP NUMBER")
	}
	var report any
	text := []byte(ts.ReadFile("stdout"))
	ts.Check(json.Unmarshal(text, &report))
	got, ok := jsonFigure(report, strings.Split(args[0], "."))
	want, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	if !ok {
		ts.Fatalf("the report has no %s: %s", args[0], text)
	}
	holds := map[string]bool{"=": got == want, "<": got < want, ">": got > want, "<=": got <= want, ">=": got >= want}
	if !holds[args[1]] {
		ts.Fatalf("%s is %v, want %s %v: %s", args[0], got, args[1], want, text)
	}
}

// jsonFigure follows a path through objects and lists: a member's name, the index in a list, the name or role of an element, or `len`.
// Truth is 1.
func jsonFigure(value any, path []string) (float64, bool) {
	if len(path) == 0 {
		switch v := value.(type) {
		case float64:
			return v, true
		case bool:
			return map[bool]float64{true: 1}[v], true
		}
		return 0, false
	}
	switch v := value.(type) {
	case map[string]any:
		member, ok := v[path[0]]
		if !ok {
			return 0, false
		}
		return jsonFigure(member, path[1:])
	case []any:
		if path[0] == "len" {
			return float64(len(v)), true
		}
		if i, err := strconv.Atoi(path[0]); err == nil && i < len(v) {
			return jsonFigure(v[i], path[1:])
		}
		for _, element := range v {
			object, _ := element.(map[string]any)
			if object["name"] == path[0] || object["role"] == path[0] {
				return jsonFigure(element, path[1:])
			}
		}
	}
	return 0, false
}
