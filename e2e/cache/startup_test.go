// What a daemon refuses to start with, and what it starts without.

package cache

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestCheckRefusesCache checks configurations of the cache that cannot be: each is refused with its key, and without what
// may be a secret.
func TestCheckRefusesCache(t *testing.T) {
	t.Parallel()
	for key, c := range map[string]struct{ block, cache string }{
		"cache.redis.url":                                {block: "redis: {url: http://user:hunter2@127.0.0.1}"},
		"cache.redis.timeout":                            {block: "redis: {url: redis://127.0.0.1, timeout: -1s}"},
		"cache.redis.pool":                               {block: "redis: {url: redis://127.0.0.1, pool: 0}"},
		"cache.database.url":                             {block: "database: {url: mysql://user:hunter2@127.0.0.1/db}"},
		"cache.database.timeout":                         {block: "database: {url: sqlite:cache.db, timeout: 0s}"},
		"cache.database.size":                            {block: "database: {url: sqlite:cache.db, size: 12}"},
		"cache.memory.size":                              {block: "memory: {size: lots}"},
		"cache.memory.max_entry":                         {block: "memory: {size: 8MiB, max_entry: 8MiB}"},
		"cache.partition_key":                            {block: "partition_key: hunter2"},
		"cache.inert_headers[0]":                         {block: "inert_headers: [Authorization]"},
		"upstreams.s.cache.ttl.tools/list":               {cache: "ttl: {tools/list: 48h}"},
		"upstreams.s.cache.ttl.tools/call":               {cache: "ttl: {tools/call: 1m}"},
		`upstreams.s.cache.tools."search_*"`:             {cache: `tools: {"search_*": soon}`},
		"upstreams.s.cache.max_ttl":                      {cache: "max_ttl: -1s"},
		"upstreams.s.cache.listen":                       {cache: "listen: sometimes"},
		"upstreams.s.cache.stale_while_revalidate_while": {cache: "stale_while_revalidate_while: 1s"},
	} {
		t.Run(strings.NewReplacer("/", "_", "*", "", `"`, "").Replace(key), func(t *testing.T) {
			t.Parallel()
			config := harness.OneUpstream("http://127.0.0.1:1/mcp", "")
			if c.cache != "" {
				config = harness.OneUpstream("http://127.0.0.1:1/mcp", "cache: {"+c.cache+"}")
			}
			if c.block != "" {
				config.Top += "\ncache: {" + c.block + "}"
			}
			out, code := check(t, config)
			var report struct {
				OK     bool
				Faults []struct {
					Key, Text string
					Line      int
				}
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil || code != 2 || report.OK || len(report.Faults) != 1 {
				t.Fatalf("exit code %d, %v: %s", code, err, out)
			}
			if f := report.Faults[0]; f.Key != key || f.Line == 0 || f.Text == "" {
				t.Errorf("%+v", f)
			}
			if strings.Contains(out, "hunter2") {
				t.Errorf("a secret is shown: %s", out)
			}
		})
	}
}

// check runs `fluentd-perf check -o json`.
func check(t *testing.T, c harness.Config) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.DaemonBinary, "check", "--config", c.File(t), "-o", "json")
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return stdout.String(), cmd.ProcessState.ExitCode()
}

// TestDeadTierAtStart starts a daemon before its tiers are there: it answers, says so, and uses them when they are.
func TestDeadTierAtStart(t *testing.T) {
	t.Parallel()
	r, s := harness.StartRedis(t), harness.StartPostgres(t)
	r.Kill()
	s.Kill()
	m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true})
	at := harness.NewFolders(t)
	d := harness.Tiering{Redis: withShortTimeout(r.URL()), Database: withShortTimeout(s.URL()) + ", private_reads: true"}.Run(t, m.URL, at)
	load := startLoad(t, d)
	load.awaitMore(100)
	for _, tier := range []string{"redis", "database"} {
		d.Eventually("a warning of "+tier, func() bool {
			for line := range strings.Lines(d.Out.String()) {
				if strings.Contains(line, "level=WARN") && strings.Contains(line, "tier="+tier) {
					return true
				}
			}
			return false
		})
	}
	r.Restart()
	s.Restart()
	before := d.Scrape()
	for _, tier := range []string{"redis", "database"} {
		harness.Within(t, 5*time.Second, tier+" in use", func() bool { return writtenTo(d.Scrape().Minus(before), tier, "written") > 0 })
	}
	load.end()
}

// TestStateDirectoryInUse starts a second daemon in the state directory of the first: it says so, works in memory, and has
// the database when the first has ended.
func TestStateDirectoryInUse(t *testing.T) {
	t.Parallel()
	m, at, beside := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true}), harness.NewFolders(t), harness.NewFolders(t)
	beside.State = at.State
	first := harness.Tiering{}.Run(t, m.URL, at)
	second := harness.Tiering{}.Run(t, m.URL, beside)
	if !strings.Contains(second.Out.String(), "until the state directory is free") {
		t.Errorf("no word of it:\n%s", second.Out)
	}
	for _, d := range []*harness.Daemon{first, second} {
		own := d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("ada"))
		if got := d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("ada")); servedBy(got) != "memory" || got.Serial != own.Serial {
			t.Errorf("%s", got.Header.Get("Cache-Status"))
		}
	}
	if s := cacheStats(t, beside); len(s.Tiers) != 2 || s.Tiers[1].Written != 0 {
		t.Errorf("the second one's tiers: %+v", s.Tiers)
	}
	awaitWritten(first, "database", 1)
	first.Stop(t, syscall.SIGTERM)
	harness.Within(t, 5*time.Second, "the second one has the database", func() bool {
		second.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("bob"))
		second.Agent(t).Ask("/mcp/s", "prompts/list", "", harness.Bearer("bob"))
		s := cacheStats(t, beside)
		return s.Tiers[1].Entries > 0
	})
}
