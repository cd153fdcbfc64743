package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio/process"
)

// packagedServer is an MCP server of an npm package, for versions with sessions. Its tool says what runs it and which secret it has.
const packagedServer = `#!/usr/bin/env node
import { name } from "./lib.mjs"
import { createInterface } from "node:readline"
createInterface({ input: process.stdin }).on("line", line => {
  const { id, method, params } = JSON.parse(line)
  if (id === undefined) return
  const answer = result => console.log(JSON.stringify({ jsonrpc: "2.0", id, result }))
  if (method === "initialize") answer({ protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name, version: "1" } })
  else if (method === "tools/call") answer({ content: [{ type: "text", text: [name, process.ppid, process.env.SECRET, ...process.argv.slice(2)].join(" ") }] })
  else console.log(JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32601, message: "no such method" } }))
})
`

func publishServer(t *testing.T, registry *mcptest.NPMRegistry, version string) {
	t.Helper()
	registry.Publish(t, mcptest.NPMPackage{
		Name: "@s/server", Version: version, Bin: map[string]string{"mcp-server": "server.mjs"},
		Files: map[string]string{"server.mjs": packagedServer, "lib.mjs": `export const name = "v` + version + `"`},
	})
}

// npmHome is a home whose npm has a registry of the test's.
func npmHome(t *testing.T) *mcptest.NPMRegistry {
	t.Helper()
	registry, home := mcptest.NewNPMRegistry(t), t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "npm_config_registry": registry.URL, "npm_config_prefix": filepath.Join(home, "global"), "npm_config_fetch_retries": "0",
		"npm_config_cache": filepath.Join(home, "npm"), "npm_config_userconfig": filepath.Join(home, ".npmrc"), "npm_config_yes": "true",
	} {
		t.Setenv(name, value)
	}
	return registry
}

// packageEntry is an entry that runs the package.
func packageEntry(t *testing.T, words ...string) *config.Stdio {
	entry := stdioEntry(t, "")
	entry.Command, entry.Resolve, entry.Processes.Refresh = append([]string{"npx", "-y"}, words...), true, 24*time.Hour
	entry.Env = map[string]config.Secret{"SECRET": {Value: "hush"}}
	return entry
}

// npmWait is how long npm may take on a machine that is busy with other things, which is a hundred times what it takes.
const npmWait = 5 * time.Minute

// TestPackages plays with one home, one registry and one cache.
func TestPackages(t *testing.T) {
	registry, cache := npmHome(t), t.TempDir()
	publishServer(t, registry, "1.0.0")
	rigOf := func(t *testing.T, entries map[string]*config.Stdio, change func(*config.Config)) *stdioRig {
		cfg := stdioConfig(t, entries)
		change(cfg)
		return newStdioRig(t, Options{Config: cfg, Paths: Paths{Cache: cache}})
	}
	t.Run("still installing", func(t *testing.T) {
		resume := registry.Stall("@s/server", "1.0.0")
		r := rigOf(t, map[string]*config.Stdio{"s": packageEntry(t, "@s/server@1.0.0", "argument")}, func(cfg *config.Config) {
			cfg.Upstreams[0].Timeouts.Handshake = 50 * time.Millisecond
		})
		testPackageInstalled(t, r, resume)
	})
	t.Run("damaged", func(t *testing.T) {
		testPackageDamaged(t, rigOf(t, map[string]*config.Stdio{"s": packageEntry(t, "@s/server@1.0.0")}, func(*config.Config) {}), cache)
	})
	t.Run("as written", func(t *testing.T) {
		off, project := packageEntry(t, "@s/server@1.0.0"), packageEntry(t, "@s/server@1.0.0")
		off.Resolve = false
		if err := os.WriteFile(filepath.Join(project.Cwd, ".npmrc"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		testPackageAsWritten(t, rigOf(t, map[string]*config.Stdio{"off": off, "project": project}, func(*config.Config) {}))
	})
}

// An agent that does not wait for an install is told of it, and the next one finds it done. What runs is the package
// itself, the start is counted as such, and status says what is there.
func testPackageInstalled(t *testing.T, r *stdioRig, resume func()) {
	text := ""
	within(t, npmWait, "the word of the install", func() bool {
		text = first(r.post("s", "", initializeRequest))
		return strings.Contains(text, "installing @s/server@1.0.0, for ")
	})
	if !strings.Contains(text, `"code":1504`) || !strings.Contains(text, "still_starting") {
		t.Errorf("while it is installed: %s", text)
	}
	resume()
	within(t, npmWait, "the install", func() bool { return r.status("s").Package != "" })
	session := ""
	within(t, npmWait, "a session", func() bool {
		text, session = r.post("s", "", initializeRequest)
		return strings.Contains(text, `"v1.0.0"`)
	})
	guard := r.d.processes.guard
	text, _ = r.post("s", session, callOf("any", "{}"))
	if !strings.Contains(text, "v1.0.0 ") || !strings.Contains(text, " hush argument") {
		t.Errorf("the server says %s", text)
	}
	// One that is about to start, or to end, has none for a moment: agents that did not wait have left starts behind.
	within(t, time.Minute, "one process for each server", func() bool {
		all := guard.Processes()
		return len(all) > 0 && !slices.ContainsFunc(all, func(p *process.Process) bool { return guard.Usage(false)[p].Processes != 1 })
	})
	if s := r.status("s"); s.Package != "@s/server@1.0.0" {
		t.Errorf("status says %q", s.Package)
	}
	scrape, _ := scrapeOf(t, r.addr)
	if n := scrape.sum("fluentd_perf_process_start_seconds_count", `kind="resolved"`, `upstream="s"`); n == 0 {
		t.Error("no start was counted as resolved")
	}
	within(t, npmWait, "another session", func() bool {
		return strings.Contains(first(r.post("s", "", strings.Replace(initializeRequest, "agent", "another", 1))), `"v1.0.0"`)
	})
	scrape, _ = scrapeOf(t, r.addr)
	if n := scrape.sum("fluentd_perf_cache_invalidations_total", `cause="server"`); n != 0 {
		t.Errorf("the second process of a package that the first one's start has installed made what is cached stale, %v times", n)
	}
	all, err := r.d.status(t.Context(), api.StatusParams{})
	if err != nil || all.Packages == nil || all.Packages.Installs != 1 || all.Packages.InUse != 1 || all.Packages.Bytes < 500 {
		t.Errorf("status: %+v, %v", all.Packages, err)
	}
	if purged, err := r.d.purge(t.Context(), api.CachePurgeParams{Packages: true}); err != nil || *purged.Packages != (api.PurgedPackages{Left: 1}) {
		t.Errorf("purged from under a process: %+v, %v", purged.Packages, err)
	}
}

// An install of which a file is gone fails one start, and is made again for the next.
func testPackageDamaged(t *testing.T, r *stdioRig, cache string) {
	within(t, npmWait, "a session", func() bool { return strings.Contains(first(r.post("s", "", initializeRequest)), `"v1.0.0"`) })
	files, err := filepath.Glob(filepath.Join(cache, "packages", "*", "*", "node_modules", "@s", "server", "lib.mjs"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if text := first(r.post("s", "", strings.Replace(initializeRequest, "agent", "another", 1))); !strings.Contains(text, `"code":1502`) || !strings.Contains(text, "ERR_MODULE_NOT_FOUND") {
		t.Errorf("damaged, and the agent is told %s", text)
	}
	within(t, npmWait, "the repair", func() bool {
		return strings.Contains(first(r.post("s", "", strings.Replace(initializeRequest, "agent", "third", 1))), `"v1.0.0"`)
	})
}

// With resolve false, or in a project with an .npmrc, npx itself runs, and no version is told.
func testPackageAsWritten(t *testing.T, r *stdioRig) {
	for _, name := range []string{"off", "project"} {
		within(t, npmWait, name+": a session", func() bool { return strings.Contains(first(r.post(name, "", initializeRequest)), `"v1.0.0"`) })
		if version := r.status(name).Package; version != "" {
			t.Errorf("%s: status says %s", name, version)
		}
	}
	scrape, _ := scrapeOf(t, r.addr)
	if n := scrape.sum("fluentd_perf_process_start_seconds_count", `kind="resolved"`); n != 0 {
		t.Errorf("%v starts were counted as resolved", n)
	}
}

// TestPackagesAhead: a package is installed behind the daemon's start, and no process of its server is started for that.
func TestPackagesAhead(t *testing.T) {
	registry := npmHome(t)
	publishServer(t, registry, "1.0.0")
	off := packageEntry(t, "@s/server@1.0.0")
	off.Resolve = false
	cfg := stdioConfig(t, map[string]*config.Stdio{"s": packageEntry(t, "@s/server@1.0.0"), "off": off})
	r := newStdioRig(t, Options{Config: cfg, Paths: Paths{Cache: t.TempDir()}})
	within(t, time.Minute, "the install", func() bool { return r.status("s").Package == "@s/server@1.0.0" })
	within(t, time.Minute, "the end of npm", func() bool { return len(r.d.processes.guard.Processes()) == 0 })
	for _, name := range []string{"s", "off"} {
		if s := r.status(name); s.ProcessesNow != 0 {
			t.Errorf("%s: %d processes, and nobody has asked", name, s.ProcessesNow)
		}
	}
	if text := first(r.post("s", "", initializeRequest)); !strings.Contains(text, `"v1.0.0"`) {
		t.Errorf("the server says %s", text)
	}
	scrape, _ := scrapeOf(t, r.addr)
	if n := scrape.sum("fluentd_perf_process_start_seconds_count", `kind="resolved"`, `upstream="s"`); n == 0 {
		t.Error("no start was counted as resolved")
	}
}

// TestNPMEnvironment: npm gets what every npx gets, and nothing of an entry's own.
func TestNPMEnvironment(t *testing.T) {
	daemon := []string{"HOME=/h", "PATH=/p", "npm_config_registry=http://r/", "AWS_PROFILE=x", "SECRET=daemon's"}
	entry := &config.Stdio{Command: []string{"npx", "x"}, InheritEnv: []string{"AWS_*"}, Env: map[string]config.Secret{"SECRET": {Value: "own"}}}
	want := "HOME=/h PATH=/a:/b npm_config_registry=http://r/"
	if got := strings.Join(npmEnvironment(daemon, []string{"/a", "/b"}), " "); got != want {
		t.Errorf("npm gets %s", got)
	}
	if got := strings.Join(ServerEnvironment(daemon, entry, []string{"/a", "/b"}).All, " "); got != "AWS_PROFILE=x HOME=/h PATH=/a:/b SECRET=own npm_config_registry=http://r/" {
		t.Errorf("the server gets %s", got)
	}
	if PackagesDirectory("") != "" || PackagesDirectory("/c") != "/c/packages" {
		t.Error("packages are elsewhere")
	}
}
