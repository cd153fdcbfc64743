package main

import (
	"encoding/json"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/accesslog"
	"fluentd-perf/internal/mcptest"
)

// TestBenchmarkUsage: what cannot be is said before anything is started, and nothing is sent to a server that may not be loaded.
func TestBenchmarkUsage(t *testing.T) {
	t.Setenv("FLUENTD_PERF_SOCKET", t.TempDir()+"/none.sock")
	for _, c := range []struct {
		args string
		code int
		errs string
	}{
		{"--scenario fastest", 2, `no scenario "fastest": there are high_throughput, client_throughput, tool_latency, cache`},
		{"--scenario cache --server http://127.0.0.1:9/mcp", 2, "leave --daemon, --server, --command and --tool out"},
		{"--scenario targets --direct", 2, "leave --direct out"},
		{"--requests 5 --duration 1s", 2, "give one"},
		{"--rounds -1", 2, "negative"},
		{"--scenario sessions --server http://127.0.0.1:9/mcp --tool echo", 2, "leave --tool out"},
		{"--scenario client_throughput -c 5", 2, "leave --concurrency out"},
		{"--scenario coalesce --rate 5", 2, "leave --rate and --duration out"},
		{"--scenario coalesce --duration 1s", 2, "leave --rate and --duration out"},
		{"--scenario targets --requests 5", 2, "leave --requests and --rounds out"},
		{"--scenario targets --rounds 5", 2, "leave --requests and --rounds out"},
		{"--connections 5", 2, "--connections is for the scenarios connections and targets"},
		{"compare a b --fail-on cpu>+10%,cpu>+5%", 2, "cpu has two"},
		{"--tool echo", 2, "--tool is for a server of yours"},
		{"--arguments {}", 2, "are for --tool"},
		{"--scenario tool_latency --tool echo", 2, `the benchmark's own server has no tool "echo": it has filesystem, shell, compiler`},
		{"--scenario tool_latency --tool shell --arguments {}", 2, "have no arguments"},
		{"--scenario tool_latency --command cat", 2, "--tool says which tool of your server is called"},
		{"--scenario tool_latency --server http://127.0.0.1:9/mcp", 2, "--tool says which tool of your server is called"},
		{"--scenario stdio --server http://127.0.0.1:9/mcp", 2, "leave --daemon and --server out"},
		{"--scenario stdio --direct", 2, "leave --direct out"},
		{"--scenario stdio --requests 5", 2, "leave --requests, --duration and --rate out"},
		{"--scenario stdio -c 17 --command cat", 2, "may have 16 processes"},
		{"--command cat -c 17", 2, "may have 16 processes"},
		{"--command cat --server http://127.0.0.1:9/mcp", 2, "give --server or --command"},
		{"--command cat --header A:b", 2, "reached by a pipe"},
		{"--command cat;cat", 2, "no shell reads them"},
		{"--command no-such-program", 1, "executable file not found"},
		{"--inherit-env A", 2, "is for --command"},
		{"--direct --command cat --inherit-env A", 2, "directly a command has all variables"},
		{"--scenario cache --command cat", 2, "own server"},
		{"--server 127.0.0.1:9", 2, "is no http:// or https:// URL"},
		{"--server http://127.0.0.1:9/mcp --header none", 2, "write it as 'Name: value'"},
		{"--direct --daemon http://127.0.0.1:9/mcp/x", 2, "without a daemon"},
		{"--command cat --daemon http://127.0.0.1:9/mcp/x --inherit-env A", 2, "--daemon names one that runs"},
		{"--unix-socket --direct", 2, "--unix-socket is for daemons that are started"},
		{"--unix-socket --daemon http://127.0.0.1:9/mcp/x", 2, "--unix-socket is for daemons that are started"},
		{"--scenario memory --era modern", 2, "leave --era out"},
		{"--scenario batch --era legacy", 2, "leave --era out"},
		{"--scenario targets --era modern", 2, "leave --era out"},
		{"--server http://127.0.0.1:9/mcp --tool x --arguments {} --generate-arguments", 2, "leave one out"},
		{"--header A:b", 2, "is for --daemon and --server"},
		{"--era old", 2, "use legacy, modern or auto"},
		{"-o xml", 2, "use table or json"},
		{"x", 2, "unknown command"},
		{"--from-log none --rounds 2", 2, "leave --rounds out"},
		{"--rate NaN", 2, "--rate NaN is no rate"},
		{"--rate Inf", 2, "--rate +Inf is no rate"},
		{"--from-log none", 1, "no such file"},
		{"--from-log /dev/null", 1, "no access line"},
		{"compare", 2, "accepts 2 arg(s)"},
		{"compare a b --fail-on cpu", 2, "write it as cpu>+10%"},
		{"compare a b --fail-on=", 2, "write it as cpu>+10%"},
		{"compare a b -o xml", 2, "use table or json"},
		{"compare a b", 1, "no such file"},
		{"compare /dev/null b", 1, "/dev/null: there is no report in it"},
		{"--server http://127.0.0.1:1/mcp", 1, "refused"},
		{"--daemon docs", 1, "no running fluentd-perf was found"},
		// 192.0.2.0/24 is nobody's (RFC 5737).
		{"--server http://192.0.2.1/mcp -c 3", 2, "192.0.2.1 is not on this machine"},
		{"--server http://192.0.2.1/mcp --rate 6", 2, "unless you give --i-may-load 192.0.2.1"},
		{"--server http://192.0.2.1/mcp -c 3 --i-may-load 192.0.2.2", 2, "at most 5 calls a second and 2 at once"},
		{"--daemon http://127.0.0.1:9/mcp/x -c 3", 2, "nobody knows where the daemon's server is"},
	} {
		code, out, errs := command(append([]string{"benchmark"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(errs, c.errs) || out != "" {
			t.Errorf("%s: exit %d, want %d and %q\n%s\n%s", c.args, code, c.code, c.errs, out, errs)
		}
	}
	for flag, id := range map[string]string{"--benchmark": loadgen.SchemaID, "--benchmark-compare": loadgen.ComparisonSchemaID, "--benchmark-log": accesslog.SchemaID} {
		if code, out, errs := command("schema", flag); code != 0 || !strings.Contains(out, `"$id": "`+id+`"`) {
			t.Errorf("the schema %s: exit %d, %s", flag, code, errs)
		}
	}
	if code, _, errs := command("schema", "--benchmark", "--benchmark-log"); code != 2 || !strings.Contains(errs, "give one flag") {
		t.Errorf("two schemas: exit %d, %s", code, errs)
	}
}

// TestBenchmarkCommandWithURL: a command with a URL among its words, as mcp-remote has, may be a bridge to a server that may not be loaded.
func TestBenchmarkCommandWithURL(t *testing.T) {
	t.Setenv("FLUENTD_PERF_SOCKET", t.TempDir()+"/none.sock")
	for _, c := range []struct {
		words, more string
		errs        string
	}{
		{"cat https://192.0.2.1/mcp", "-c 3", "unless you give --i-may-load 192.0.2.1"}, // 192.0.2.0/24 is nobody's (RFC 5737)
		{"sh -c 'exec cat HTTP://192.0.2.1:8/mcp'", "-c 3", "unless you give --i-may-load 192.0.2.1"},
		{"cat --url=http://no-such-name.invalid/", "-c 3", "unless you give --i-may-load no-such-name.invalid"},
		{"cat http://127.0.0.1:9/mcp", "-c 17", "may have 16 processes"}, // which is what bounds it on this machine
		{"cat https://192.0.2.1/mcp", "--scenario stdio", "has agents start at once"},
	} {
		code, out, errs := command(append([]string{"benchmark", "--command", c.words}, strings.Fields(c.more)...)...)
		if code != 2 || !strings.Contains(errs, c.errs) || out != "" {
			t.Errorf("%s %s: exit %d, want 2 and %q\n%s\n%s", c.words, c.more, code, c.errs, out, errs)
		}
	}
}

// TestBenchmarkOnlyCalls: a server that nobody gave leave to load gets the calls, and nothing that the daemons in front of it send of
// their own accord. Here it answers as a daemon does, of which nobody knows what is behind it, and every second list is a failure.
func TestBenchmarkOnlyCalls(t *testing.T) {
	var lists atomic.Int64
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		const field = "Cache-Status: fluentd-perf; fwd=bypass"
		switch x.Method() {
		case "server/discover":
			x.Result(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"x","version":"1"},"ttlMs":0,"cacheScope":"public"}`, field)
		case "tools/list":
			if lists.Add(1)%2 == 0 {
				x.Say(503, "", "", field)
			} else {
				x.Result(`{"resultType":"complete","tools":[],"ttlMs":60000,"cacheScope":"private"}`, field)
			}
		default:
			t.Errorf("it got a %s", x.Method())
			x.Say(404, "", "")
		}
	})
	t.Setenv(asProgram, "1") // for the daemons
	t.Setenv("FLUENTD_PERF_SOCKET", t.TempDir()+"/none.sock")
	code, out, errs := command("benchmark", "--server", "http://"+s.Addr()+"/mcp", "--requests", "4", "--rounds", "1", "-c", "1", "--header", "Authorization: Bearer x", "-o", "json")
	var report loadgen.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 3 || !strings.Contains(errs, "5 calls a second and 2 at once") {
		t.Fatalf("exit %d, %v\n%s", code, err, errs)
	}
	var calls int64
	for _, target := range report.Runs[0].Targets {
		calls += target.Sum.Requests - target.Sum.Cache.Hits
	}
	if got := lists.Load(); got > calls || got < calls/2 {
		t.Errorf("it got %d lists for %d calls", got, calls)
	}
}

// TestBenchmarkCompareLeavesOut: where a load of the old build can be judged nowhere, --fail-on does not say that all is well, and says which.
func TestBenchmarkCompareLeavesOut(t *testing.T) {
	t.Chdir(t.TempDir())
	run := func(name string, valid bool) loadgen.Run {
		daemon := loadgen.Result{Role: loadgen.RoleDaemon}
		for range 5 {
			daemon.Rounds = append(daemon.Rounds, loadgen.Round{Process: &loadgen.Usage{Allocs: 100}})
		}
		return loadgen.Run{Name: name, Valid: valid, Targets: []loadgen.Result{daemon}}
	}
	for file, runs := range map[string][]loadgen.Run{
		"old.json": {run("a", true), run("b", true)}, "failed.json": {run("a", true), run("b", false)}, "missing.json": {run("a", true)},
	} {
		text, err := json.Marshal(loadgen.Report{Schema: loadgen.SchemaID, Runs: runs})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args string
		code int
		errs string
	}{
		{"old.json old.json --fail-on allocs>+0%", 0, ""},
		{"old.json failed.json --fail-on allocs>+0%", 1, "nothing could be said of these loads: b: calls failed or were late"},
		{"old.json missing.json --fail-on allocs>+0%", 1, "nothing could be said of these loads: b: it is not in all reports"},
		{"missing.json old.json --fail-on allocs>+0%", 0, ""}, // another load is nothing to be compared with
		{"old.json missing.json", 0, ""},                      // nothing was to fail
	} {
		code, _, errs := command(append([]string{"benchmark", "compare"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: exit %d, want %d and %q\n%s", c.args, code, c.code, c.errs, errs)
		}
	}
}

// TestBenchmarkReport writes a page of files that are reports, and none where one of them is not.
func TestBenchmarkReport(t *testing.T) {
	files := reportFiles(t)
	for _, c := range []struct {
		args string
		code int
		errs string
	}{
		{"", 2, "name the files"},
		{"a.json", 2, "--html says where"},
		{"a.json none.json --html out.html", 1, "none.json"},
		{"text.json --html out.html", 1, "text.json is no report"},
		{"other.json --html out.html", 1, `its $schema is "urn:other"`},
		{"large.json --html out.html", 1, "no report is larger than 64.0 MiB"},
		{"a.json --html none/out.html", 1, "none/out.html"},
	} {
		code, out, errs := command(append([]string{"benchmark", "report"}, strings.Fields(c.args)...)...)
		if _, err := os.Stat("out.html"); err == nil || code != c.code || !strings.Contains(errs, c.errs) || out != "" {
			t.Errorf("report %s: exit %d, want %d and %q\n%s\n%s", c.args, code, c.code, c.errs, out, errs)
		}
	}
	code, out, errs := command(append([]string{"benchmark", "report", "--html", "out.html"}, files...)...)
	text, err := os.ReadFile("out.html")
	if err != nil || code != 0 || out+errs != "" || !strings.Contains(string(text), "<small>a.json</small>") || !strings.Contains(string(text), "<small>b.json</small>") {
		t.Errorf("two reports: exit %d, %v, %s%s\n%s", code, err, out, errs, text)
	}
}

// reportFiles has the test run in a directory with files of reports, and others. It returns the reports.
func reportFiles(t *testing.T) []string {
	t.Chdir(t.TempDir())
	for file, text := range map[string]string{
		"a.json": `{"$schema":"` + loadgen.SchemaID + `","scenario":"cache"}`, "b.json": `{"$schema":"` + loadgen.SchemaID + `","runs":[{"name":"x"}]}`,
		"text.json": "no JSON", "other.json": `{"$schema":"urn:other"}`, "large.json": "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate("large.json", maxReport+1); err != nil {
		t.Fatal(err)
	}
	return []string{"a.json", "b.json"}
}
