package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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
			config := one("http://127.0.0.1:1/mcp", "")
			if c.cache != "" {
				config = one("http://127.0.0.1:1/mcp", "cache: {"+c.cache+"}")
			}
			if c.block != "" {
				config.top += "\ncache: {" + c.block + "}"
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
func check(t *testing.T, c conf) (out string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fluentd-perf.yaml")
	if err := os.WriteFile(file, []byte(c.yaml()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), daemonBinary, "check", "--config", file, "-o", "json")
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
	r, s := startRedis(t), startPostgres(t)
	r.kill()
	s.kill()
	m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true})
	at := newPlaces(t)
	d := tiering{redis: brisk(r.url()), database: brisk(s.url()) + ", private_reads: true"}.run(t, m.url, at)
	crowd := startCrowd(t, d)
	crowd.awaitMore(100)
	for _, tier := range []string{"redis", "database"} {
		d.eventually("a warning of "+tier, func() bool {
			for line := range strings.Lines(d.out.String()) {
				if strings.Contains(line, "level=WARN") && strings.Contains(line, "tier="+tier) {
					return true
				}
			}
			return false
		})
	}
	r.restart()
	s.restart()
	before := d.scrape()
	for _, tier := range []string{"redis", "database"} {
		within(t, 5*time.Second, tier+" in use", func() bool { return d.scrape().minus(before).written(tier, "written") > 0 })
	}
	crowd.end()
}

// TestStateDirectoryInUse starts a second daemon in the state directory of the first: it says so, works in memory, and has
// the database when the first has ended.
func TestStateDirectoryInUse(t *testing.T) {
	t.Parallel()
	m, at, beside := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, json: true}), newPlaces(t), newPlaces(t)
	beside.state = at.state
	first := tiering{}.run(t, m.url, at)
	second := tiering{}.run(t, m.url, beside)
	if !strings.Contains(second.out.String(), "in use by another daemon") {
		t.Errorf("no word of it:\n%s", second.out)
	}
	for _, d := range []*sidecar{first, second} {
		own := d.agent(t).ask("/mcp/s", "tools/list", "", as("ada"))
		if got := d.agent(t).ask("/mcp/s", "tools/list", "", as("ada")); got.tier() != "memory" || got.serial != own.serial {
			t.Errorf("%s", got.header.Get("Cache-Status"))
		}
	}
	if s := beside.stats(t); len(s.Tiers) != 2 || s.Tiers[1].Written != 0 {
		t.Errorf("the second one's tiers: %+v", s.Tiers)
	}
	first.awaitWritten("database", 1)
	first.stop(t, syscall.SIGTERM)
	within(t, 5*time.Second, "the second one has the database", func() bool {
		second.agent(t).ask("/mcp/s", "tools/list", "", as("bob"))
		second.agent(t).ask("/mcp/s", "prompts/list", "", as("bob"))
		s := beside.stats(t)
		return s.Tiers[1].Entries > 0
	})
}
