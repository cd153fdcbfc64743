package e2e

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestWarmRestart stops and starts a daemon: the first answers come from the tier behind memory, and the server is not
// asked. The default configuration has the embedded database.
func TestWarmRestart(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (tier string, c tiering){
		"default": func(*testing.T) (string, tiering) { return "database", tiering{} },
		"Redis": func(t *testing.T) (string, tiering) {
			return "redis", tiering{redis: redisAt(startRedis(t).url()), database: "url: off"}
		},
		"Postgres": func(t *testing.T) (string, tiering) {
			return "database", tiering{database: databaseAt(startPostgres(t).url())}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tier, c := start(t)
			at := newPlaces(t)
			m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}})
			m.say("prompts/list", hint{10 * time.Minute, "public"})
			d := c.run(t, m.url, at)
			var before []answered
			for _, method := range []string{"tools/list", "prompts/list"} {
				before = append(before, d.agent(t).ask("/mcp/s", method, "", as("ada")))
			}
			d.awaitWritten(tier, 2)
			d.stop(t, syscall.SIGTERM)
			d = c.run(t, m.url, at)
			for i, method := range []string{"tools/list", "prompts/list"} {
				got := d.agent(t).ask("/mcp/s", method, "", as("ada"))
				if got.tier() != tier || got.serial != before[i].serial || m.calls(method) != 1 {
					t.Errorf("%s: %s, answer %d, want %d; %d calls of the server", method, got.header.Get("Cache-Status"), got.serial, before[i].serial, m.calls(method))
				}
				if got.ttl <= 0 || got.ttl > before[i].ttl || got.scope != before[i].scope {
					t.Errorf("%s: ttlMs %d, %s after %d, %s", method, got.ttl, got.scope, before[i].ttl, before[i].scope)
				}
			}
			// Who the server has not let in lately gets nothing that is public from the cache, after a restart neither.
			if got := d.agent(t).ask("/mcp/s", "prompts/list", "", as("eve")); got.tier() != "" {
				t.Errorf("a stranger: %s", got.header.Get("Cache-Status"))
			}
		})
	}
}

// TestChangeWhileAway kills a daemon, changes a list, and starts it again.
func TestChangeWhileAway(t *testing.T) {
	t.Parallel()
	m, at, c := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}}), newPlaces(t), tiering{}
	d := c.run(t, m.url, at)
	d.agent(t).ask("/mcp/s", "tools/list", "", as("ada"))
	d.awaitWritten("database", 1)
	d.stop(t, syscall.SIGKILL)
	m.addTool("new")
	d = c.run(t, m.url, at)
	if got := d.agent(t).ask("/mcp/s", "tools/list", "", as("ada")); !slices.Contains(got.tools, "new") {
		t.Errorf("after a crash: %q, %s", got.tools, got.header.Get("Cache-Status"))
	}
}

// TestOwedOverRestart has a daemon hear of a change that it cannot tell its shared tier of before it stops.
func TestOwedOverRestart(t *testing.T) {
	for name, start := range sharedTiers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tier, at := start(t), newPlaces(t)
			l := startLink(t, tier.addr)
			c := tier.block(l.addr)
			if tier.name == "redis" {
				c.database = "url: off"
			}
			m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}})
			d := c.run(t, m.url, at)
			old := d.agent(t).ask("/mcp/s", "tools/list", "", as("ada"))
			d.awaitWritten(tier.name, 1)
			within(t, 0, "the daemon listens", func() bool {
				d.agent(t).ask("/mcp/s", "tools/list", "", as("ada"))
				return m.listens() == 1
			})
			l.freeze()
			m.addTool("new")
			within(t, 0, "the daemon knows", func() bool {
				return d.scrape().sum("fluentd_perf_cache_invalidations_total", `cause="notification"`) > 0
			})
			d.stop(t, syscall.SIGTERM)
			l.restore()
			d = c.run(t, m.url, at)
			if got := d.agent(t).ask("/mcp/s", "tools/list", "", as("ada")); got.serial == old.serial || !slices.Contains(got.tools, "new") {
				t.Errorf("after a restart: %q, %s", got.tools, got.header.Get("Cache-Status"))
			}
		})
	}
}
