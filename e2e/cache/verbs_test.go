// The verbs cache-stats and purge, and the admin socket behind them.

package cache

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestCacheVerbs asks a running daemon what it has cached, and throws it away.
func TestCacheVerbs(t *testing.T) {
	t.Parallel()
	m, at := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true}), harness.NewFolders(t)
	d := harness.Tiering{}.Run(t, m.URL, at)
	a := d.Agent(t)
	ask := func(method string) harness.Answered { return a.Ask("/mcp/s", method, "", harness.Bearer("ada")) }
	for range 3 {
		ask("tools/list")
	}
	ask("prompts/list")
	a.Ask("/mcp/s", "tools/call", `"name":"echo","arguments":{}`, harness.Bearer("ada"))
	awaitWritten(d, "database", 2)
	m.AwaitListens(t, 1)
	d.Eventually("listening", func() bool { return d.Scrape().Sum("fluentd_perf_cache_listening") == 1 })
	if n := d.Scrape().Sum("fluentd_perf_cache_subscriptions"); n != 1 {
		t.Errorf("%v subscriptions", n)
	}
	checkStats(t, at)
	checkSocket(t, at)

	before := ask("tools/list").Serial
	if got := purge(t, at, "--upstream", "s", "--method", "tools/list"); len(got.Purged) != 1 || got.Purged[0].Upstream != "s" ||
		!slices.Equal(got.Purged[0].Methods, []string{"tools/list"}) || len(got.Pending) != 0 {
		t.Errorf("purge of a method: %+v", got)
	}
	if got := ask("tools/list"); servedBy(got) != "" || got.Serial == before {
		t.Errorf("after the purge: %s", got.Header.Get("Cache-Status"))
	}
	if got := ask("prompts/list"); servedBy(got) != "memory" {
		t.Errorf("another method after the purge: %s", got.Header.Get("Cache-Status"))
	}
	if got := purge(t, at); len(got.Purged) != 1 || len(got.Purged[0].Methods) < 6 {
		t.Errorf("purge of all: %+v", got)
	}
	for _, method := range []string{"tools/list", "prompts/list"} {
		if got := ask(method); servedBy(got) != "" {
			t.Errorf("%s after the purge of all: %s", method, got.Header.Get("Cache-Status"))
		}
	}
	for _, args := range [][]string{{"--upstream", "nobody"}, {"--method", "ping"}} {
		out, complaints, code := at.Verb(t, append([]string{"cache-purge", "-o", "json"}, args...)...)
		if code != 1 || out != "" || !strings.Contains(complaints, args[1]) {
			t.Errorf("purge %v: exit code %d, %q, %q", args, code, out, complaints)
		}
	}
	if got := ask("tools/list"); servedBy(got) != "memory" {
		t.Errorf("a purge that was refused: %s", got.Header.Get("Cache-Status"))
	}
}

// checkStats holds the statistics to what TestCacheVerbs has asked: three lists of tools, one of prompts, one call.
func checkStats(t *testing.T, at harness.Folders) {
	t.Helper()
	s := cacheStats(t, at, "--detailed")
	if len(s.Tiers) != 2 || s.Tiers[0].Tier != "memory" || s.Tiers[1].Tier != "database" || len(s.Upstreams) != 1 {
		t.Fatalf("%+v", s)
	}
	memory, database, own := s.Tiers[0], s.Tiers[1], s.Upstreams[0]
	if memory.Entries != 2 || memory.Bytes <= 0 || memory.Hits != 2 || memory.Misses != 2 || memory.Breaker != "" {
		t.Errorf("memory: %+v", memory)
	}
	if database.Entries != 2 || database.Bytes <= 0 || database.Hits != 0 || database.Misses != 2 || database.Written != 2 ||
		database.Queue != 0 || database.Pending != 0 || database.Breaker != "closed" || database.Error != "" {
		t.Errorf("database: %+v", database)
	}
	if own.Upstream != "s" || own.Hits["memory"] != 2 || own.Misses != 2 || own.Stored != 2 || own.Bypass != 1 || own.Listening != 1 {
		t.Errorf("upstream: %+v", own)
	}
	if len(own.Keys) != 1 || own.Keys[0].Method != "tools/list" || len(own.Keys[0].Key) != 16 {
		t.Errorf("keys: %+v", own.Keys)
	}
	out, complaints, code := at.Verb(t, "cache-stats")
	if code != 0 || complaints != "" || !strings.Contains(out, "database") || strings.Contains(out, "ada") {
		t.Errorf("for people: exit code %d, %s%s", code, out, complaints)
	}
}

// checkSocket holds the admin socket to being the daemon's user's alone.
func checkSocket(t *testing.T, at harness.Folders) {
	t.Helper()
	info, err := os.Stat(at.Socket())
	if err != nil || info.Mode().Type() != os.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin socket: %v, %v", info.Mode(), err)
	}
}

// purgeOutput is what cache-purge -o json prints.
type purgeOutput struct {
	Purged []struct {
		Upstream string
		Methods  []string
	}
	Pending []string
}

func purge(t *testing.T, at harness.Folders, flags ...string) (out purgeOutput) {
	t.Helper()
	at.VerbJSON(t, &out, append([]string{"cache-purge"}, flags...)...)
	return out
}

// TestPurgeOfADeadTier purges while the database cannot be told: the verb says so, and what was purged stays away.
func TestPurgeOfADeadTier(t *testing.T) {
	t.Parallel()
	r := harness.StartRedis(t)
	m, at := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true}), harness.NewFolders(t)
	d := harness.Tiering{Redis: withShortTimeout(r.URL()), Database: "url: off"}.Run(t, m.URL, at)
	a := d.Agent(t)
	old := a.Ask("/mcp/s", "tools/list", "", harness.Bearer("ada"))
	awaitWritten(d, "redis", 1)
	r.Hang()
	if got := purge(t, at); !slices.Equal(got.Pending, []string{"redis"}) {
		t.Errorf("pending: %+v", got)
	}
	if got := a.Ask("/mcp/s", "tools/list", "", harness.Bearer("ada")); got.Serial == old.Serial {
		t.Errorf("after the purge: %s", got.Header.Get("Cache-Status"))
	}
	r.Resume()
	harness.Within(t, 5*time.Second, "the tier has been told", func() bool { return cacheStats(t, at).Tiers[1].Pending == 0 })
	if got := purge(t, at); len(got.Pending) != 0 {
		t.Errorf("pending: %+v", got)
	}
}
