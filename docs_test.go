package fluentdperf_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"fluentd-perf/internal/config"
)

// exampleToken stands for the environment of whoever tries the example.
func exampleToken(name string) (string, bool) { return "secret", name == "DOCS_TOKEN" }

// TestExample loads the example and holds it to what it says of itself: the values it shows are the defaults.
func TestExample(t *testing.T) {
	cfg, warnings, err := config.Load(config.Sources{File: "deploy/fluentd-perf.example.yaml", Env: exampleToken})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, warnings)
	}
	bare, _, err := config.Load(config.Sources{Upstreams: []string{"search=http://127.0.0.1:8080/mcp"}})
	if err != nil {
		t.Fatal(err)
	}
	shown, plain := cfg.Upstreams[0], bare.Upstreams[0] // docs spells everything out, search leaves everything out
	if shown.Name != "docs" || len(cfg.Upstreams) != 1 {
		t.Fatalf("upstreams %v", cfg.Upstreams)
	}
	if got := shown.Headers.Get("Authorization"); got != "Bearer secret" {
		t.Errorf("Authorization %q", got)
	}
	same := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the example shows %+v, the default is %+v", what, got, want)
		}
	}
	same("transport", shown.Transport, plain.Transport)
	same("oauth", shown.OAuth, plain.OAuth)
	same("forward_cookies", shown.ForwardCookies, plain.ForwardCookies)
	same("streams", shown.Streams, plain.Streams)
	same("pool", shown.Pool, plain.Pool)
	same("timeouts", shown.Timeouts, plain.Timeouts)
	same("cache", shown.Cache, plain.Cache)
	same("coalesce", shown.Coalesce, plain.Coalesce)
	same("protocol", shown.Protocol, plain.Protocol)
	same("limits of an upstream", shown.Limits, plain.Limits)
	same("breaker", shown.Breaker, plain.Breaker)
	same("retry", shown.Retry, plain.Retry)
	same("sessions", shown.Sessions, plain.Sessions)
	same("batch", shown.Batch, plain.Batch)

	defaults := config.Default()
	same("listen", cfg.Listen[0], defaults.Listen[0])
	same("auth", cfg.Auth, defaults.Auth)
	same("metrics", cfg.Metrics, defaults.Metrics)
	same("errors", cfg.Errors, defaults.Errors)
	same("drain", cfg.Drain, defaults.Drain)
	same("limits", cfg.Limits, defaults.Limits)
	same("rpc", cfg.RPC, defaults.RPC)
	same("tiers", cfg.Cache, defaults.Cache)
	same("admin", cfg.Admin, defaults.Admin)
}

// TestImageConfiguration loads the image's configuration as its command does.
func TestImageConfiguration(t *testing.T) {
	cfg, _, err := config.Load(config.Sources{
		File: "deploy/docker/fluentd-perf.yaml", Upstreams: []string{"docs=https://docs.example.com/mcp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.Auth.Generate || cfg.Listen[0].Address != "0.0.0.0:7300" {
		t.Errorf("auth %+v, listen %v", cfg.Auth, cfg.Listen)
	}
}

// TestScrapeExample has the example scrape the address that the daemon listens on by default.
func TestScrapeExample(t *testing.T) {
	var scrape struct {
		ScrapeConfigs []struct {
			JobName        string                       `yaml:"job_name"`
			ScrapeInterval string                       `yaml:"scrape_interval"`
			StaticConfigs  []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Load([]byte(read(t, "deploy/prometheus/prometheus.yml")), &scrape, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	got := scrape.ScrapeConfigs[0].StaticConfigs[0].Targets
	if want := []string{config.Default().Listen[0].Address}; !reflect.DeepEqual(got, want) {
		t.Errorf("targets %q, want %q", got, want)
	}
}

// TestSnippets holds what agents are given to JSON, and has the README show the first of them as docs/agents.md does.
func TestSnippets(t *testing.T) {
	shown := map[string]int{"README.md": 2, "docs/agents.md": 3}
	agents := read(t, "docs/agents.md")
	for name, want := range shown {
		blocks := regexp.MustCompile("(?s)\n```json\n(.*?)```").FindAllStringSubmatch(read(t, name), -1)
		if len(blocks) != want {
			t.Errorf("%s has %d blocks of JSON, want %d", name, len(blocks), want)
		}
		for _, block := range blocks {
			if !json.Valid([]byte(block[1])) || !strings.Contains(agents, block[0]) {
				t.Errorf("%s: not JSON, or not what docs/agents.md has: %s", name, block[1])
			}
		}
	}
}

// TestConfigurationPage loads what the page on configuration shows.
func TestConfigurationPage(t *testing.T) {
	blocks := regexp.MustCompile("(?s)\n```yaml\n(.*?)```").FindAllStringSubmatch(read(t, "docs/configuration.md"), -1)
	if len(blocks) == 0 {
		t.Error("the page shows no YAML")
	}
	for _, block := range blocks {
		_, warnings, err := config.Load(config.Sources{
			File: "block.yaml", Env: exampleToken, ReadFile: func(string) ([]byte, error) { return []byte(block[1]), nil },
		})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%v, warnings %v: %s", err, warnings, block[1])
		}
	}
}

// TestReasonsAreDocumented looks for every failure reason in the table of errors and in METRICS.md.
func TestReasonsAreDocumented(t *testing.T) {
	errors, metrics := read(t, "docs/resilience.md"), read(t, "METRICS.md")
	reasons := failureReasons(t)
	if len(reasons) < 10 {
		t.Errorf("only %d reasons found in internal/mcp/failure.go", len(reasons))
	}
	for _, reason := range reasons {
		if !strings.Contains(metrics, "`"+reason+"`") {
			t.Errorf("METRICS.md has no `%s`", reason)
		}
		// Nobody reads an error of this reason: the agent has left.
		if reason != "canceled" && !strings.Contains(errors, " | `"+reason+"` | ") {
			t.Errorf("the table of errors in docs/resilience.md has no `%s`", reason)
		}
	}
}

// failureReasons returns the values of the constants of type Reason.
func failureReasons(t *testing.T) (reasons []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "internal/mcp/failure.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Reason" {
			reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, reason)
		}
		return true
	})
	return reasons
}

// units are the services, and where the configuration is that they serve.
var units = map[string]string{
	"deploy/systemd/fluentd-perf.service":      "/etc/fluentd-perf/fluentd-perf.yaml",
	"deploy/systemd/user/fluentd-perf.service": "%E/fluentd-perf/fluentd-perf.yaml",
}

// TestServiceWaitsForTheDrain holds the units to the configuration's default.
func TestServiceWaitsForTheDrain(t *testing.T) {
	for name, file := range units {
		unit := read(t, name)
		found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\w+)$`).FindStringSubmatch(unit)
		if found == nil {
			t.Fatalf("%s: no TimeoutStopSec", name)
		}
		limit, err := time.ParseDuration(found[1])
		if err != nil {
			t.Fatal(err)
		}
		if drain := config.Default().Drain; limit < drain+10*time.Second {
			t.Errorf("%s: TimeoutStopSec=%s leaves no room after drain: %s", name, limit, drain)
		}
		if !strings.Contains(unit, "serve --config "+file+"\n") {
			t.Errorf("%s does not serve %s", name, file)
		}
	}
}

// TestUnitsAreSound has systemd read the units, where it is. The program need not be installed for that.
func TestUnitsAreSound(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	program := regexp.MustCompile(`(?m)^ExecStart=\S+`)
	for name := range units {
		copied := filepath.Join(t.TempDir(), filepath.Base(name))
		unit := program.ReplaceAllString(read(t, name), "ExecStart=/bin/sh")
		if err := os.WriteFile(copied, []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
		of := "--system"
		if strings.Contains(name, "/user/") {
			of = "--user"
		}
		verify := exec.Command(analyze, "verify", "--man=no", "--generators=no", of, copied)
		verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		if out, err := verify.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
