// What is kept outlives the daemon, and what changed while it was away is not served.

package cache

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestWarmRestart stops and starts a daemon: the first answers come from the tier behind memory, and the server is not
// asked. The default configuration has the embedded database.
func TestWarmRestart(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (tier string, c harness.Tiering){
		"default": func(*testing.T) (string, harness.Tiering) { return "database", harness.Tiering{} },
		"Redis": func(t *testing.T) (string, harness.Tiering) {
			return "redis", harness.Tiering{Redis: harness.RedisAt(harness.StartRedis(t).URL()), Database: "url: off"}
		},
		"Postgres": func(t *testing.T) (string, harness.Tiering) {
			return "database", harness.Tiering{Database: harness.DatabaseAt(harness.StartPostgres(t).URL())}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tier, c := start(t)
			at := harness.NewFolders(t)
			m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}})
			m.Say("prompts/list", harness.Hint{TTL: 10 * time.Minute, Scope: "public"})
			d := c.Run(t, m.URL, at)
			var before []harness.Answered
			for _, method := range []string{"tools/list", "prompts/list"} {
				before = append(before, d.Agent(t).Ask("/mcp/s", method, "", harness.Bearer("ada")))
			}
			awaitWritten(d, tier, 2)
			d.Stop(t, syscall.SIGTERM)
			d = c.Run(t, m.URL, at)
			for i, method := range []string{"tools/list", "prompts/list"} {
				got := d.Agent(t).Ask("/mcp/s", method, "", harness.Bearer("ada"))
				if servedBy(got) != tier || got.Serial != before[i].Serial || m.Calls(method) != 1 {
					t.Errorf("%s: %s, answer %d, want %d; %d calls of the server", method, got.Header.Get("Cache-Status"), got.Serial, before[i].Serial, m.Calls(method))
				}
				if got.TTL <= 0 || got.TTL > before[i].TTL || got.Scope != before[i].Scope {
					t.Errorf("%s: ttlMs %d, %s after %d, %s", method, got.TTL, got.Scope, before[i].TTL, before[i].Scope)
				}
			}
			// Who the server has not let in lately gets nothing that is public from the cache, after a restart neither.
			if got := d.Agent(t).Ask("/mcp/s", "prompts/list", "", harness.Bearer("eve")); servedBy(got) != "" {
				t.Errorf("a stranger: %s", got.Header.Get("Cache-Status"))
			}
		})
	}
}

// TestChangeWhileAway kills a daemon, changes a list, and starts it again.
func TestChangeWhileAway(t *testing.T) {
	t.Parallel()
	m, at, c := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}}), harness.NewFolders(t), harness.Tiering{}
	d := c.Run(t, m.URL, at)
	d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("ada"))
	awaitWritten(d, "database", 1)
	d.Stop(t, syscall.SIGKILL)
	m.AddTool("new")
	d = c.Run(t, m.URL, at)
	if got := d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("ada")); !slices.Contains(got.Tools, "new") {
		t.Errorf("after a crash: %q, %s", got.Tools, got.Header.Get("Cache-Status"))
	}
}

// TestPendingInvalidationsOverRestart has a daemon receive a change that it cannot tell its shared tier of before it stops.
func TestPendingInvalidationsOverRestart(t *testing.T) {
	for name, start := range sharedTiers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tier, at := start(t), harness.NewFolders(t)
			l := harness.StartLink(t, tier.addr)
			c := tier.block(l.Addr)
			if tier.name == "redis" {
				c.Database = "url: off"
			}
			m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}})
			d := c.Run(t, m.URL, at)
			old := d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("ada"))
			awaitWritten(d, tier.name, 1)
			harness.Within(t, 0, "the daemon listens", func() bool {
				d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("ada"))
				return m.Listens() == 1
			})
			l.Freeze()
			m.AddTool("new")
			harness.Within(t, 0, "the daemon knows", func() bool {
				return d.Scrape().Sum("fluentd_perf_cache_invalidations_total", `cause="notification"`) > 0
			})
			d.Stop(t, syscall.SIGTERM)
			l.Restore()
			d = c.Run(t, m.URL, at)
			if got := d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("ada")); got.Serial == old.Serial || !slices.Contains(got.Tools, "new") {
				t.Errorf("after a restart: %q, %s", got.Tools, got.Header.Get("Cache-Status"))
			}
		})
	}
}
