package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fluentd-perf/internal/config"
)

// command runs the program as a shell would.
func command(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.yaml", "upstreams: {docs: {url: https://docs.example.com/mcp, headers: {Authorization: Bearer hush}}}\n")
	bad := write("bad.yaml", "upstreams:\n  docs:\n    url: ftp://x\n    pool: {max_idel: 3}\ndrain: 5\n")
	for _, c := range []struct {
		args      []string
		code      int
		out, errs string
	}{
		{[]string{"check", "--config", good}, 0, "https://docs.example.com/mcp", ""},
		{[]string{"check", "--config", good, "-o", "json"}, 0, `"ok": true`, ""},
		{[]string{"check", "--config", bad}, 2, "", "bad.yaml:4: upstreams.docs.pool.max_idel"},
		{[]string{"check", "--config", bad, "-o", "json"}, 2, `"ok": false`, ""},
		{[]string{"check", "--upstream", "docs=https://docs.example.com/mcp"}, 0, "docs", ""},
		{[]string{"check"}, 2, "", "upstream"},
		{[]string{"check", "-o", "xml"}, 2, "", "use table or json"},
		{[]string{"serve", "--config", bad}, 2, "", "bad.yaml:5: drain"},
		{[]string{"serve", "--log-level", "loud", "--config", good}, 2, "", "--log-level"},
		{[]string{"serve", "--nonsense"}, 2, "", "unknown flag: --nonsense; see fluentd-perf serve --help"},
		{[]string{"--nonsense"}, 2, "", "unknown flag: --nonsense; see fluentd-perf --help"},
		{[]string{"check", "--config"}, 2, "", "flag needs an argument: --config; see fluentd-perf check --help"},
		{[]string{"--version"}, 0, versionLine(), ""},
		{[]string{"-v"}, 0, versionLine(), ""},
		{[]string{"chekc"}, 2, "", `unknown command "chekc"; did you mean check?`},
		{[]string{"chekc", "--config", good}, 2, "", `unknown command "chekc"; did you mean check?`},
		{[]string{"cache"}, 2, "", `unknown command "cache"; did you mean cache-purge or cache-stats?`},
		{[]string{"restart"}, 2, "", `unknown command "restart"; see fluentd-perf --help`},
		{[]string{"schema"}, 0, `"$schema": "https://json-schema.org/draft/2020-12/schema"`, ""},
		{[]string{"schema", "x"}, 2, "", "unknown command"},
		{[]string{"version"}, 0, "fluentd-perf ", ""},
		{[]string{"version", "-o", "json"}, 0, `"platform"`, ""},
		{[]string{"healthcheck", "--address", "127.0.0.1:1"}, 1, "", "refused"},
	} {
		code, out, errs := command(c.args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
			t.Errorf("%v: exit %d\n%s\n%s", c.args, code, out, errs)
		}
		if strings.Contains(out+errs, "hush") {
			t.Errorf("%v prints a secret: %s%s", c.args, out, errs)
		}
	}
	_, out, _ := command("check", "--config", bad, "-o", "json")
	var report struct{ Faults []config.Fault }
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Faults) != 3 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWarningsOfAServersFile has check and serve say the same of an agent's file, whether a server is left or not.
func TestWarningsOfAServersFile(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	own := taken.Addr().String() // serve ends at once: it cannot listen there
	const bad = `"asks": {"url": "http://h", "headers": {"X": "${input:x}"}}, "me": {"url": "http://%s/mcp/me"}`
	for _, c := range []struct {
		text         string
		check, serve int
		warnings     int
	}{
		{`{"mcpServers": {"my server": {"httpUrl": "http://127.0.0.1:9/mcp"}, ` + bad + `}}`, 0, 1, 3},
		{`{"mcpServers": {` + bad + `}}`, 2, 2, 2},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "mcp.json")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(c.text, "%s", own)), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, errs := command("check", "--mcp-json", file, "--listen", own)
		checked := regexp.MustCompile(`(?m)^warning: (.*)$`).FindAllStringSubmatch(errs, -1)
		if code != c.check || len(checked) != c.warnings {
			t.Errorf("check: exit %d\n%s", code, errs)
		}
		code, _, errs = command("serve", "--mcp-json", file, "--listen", own, "--state-dir", dir, "--runtime-dir", dir, "--log-format", "json")
		if code != c.serve {
			t.Errorf("serve: exit %d\n%s", code, errs)
		}
		for _, warning := range checked {
			said, _ := json.Marshal(warning[1])
			if !strings.Contains(errs, `"level":"WARN","msg":`+string(said)) {
				t.Errorf("serve does not say %s\n%s", said, errs)
			}
		}
	}
}
