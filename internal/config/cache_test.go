package config_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/sqlite"
	"fluentd-perf/internal/config"
)

func TestEveryCacheSettingArrives(t *testing.T) {
	c := mustLoad(t, files{
		"dir/f.yaml": `
upstreams:
  a:
    url: http://h
    cache:
      ttl: {server/discover: 1s, tools/list: 5m, prompts/list: 0, resources/list: 0s, resources/templates/list: 24h, resources/read: 1ms}
      tools: {"search_*": 10m, 'get\*': 1s, "[a-c]?": 24h}
      min_ttl: 1s
      max_ttl: 24h
      stale_if_error: 0s
      stale_after: 500ms
      stale_while_revalidate: 30s
      scope: credential
      flush_on_call: false
      listen: off
    coalesce: {tools: ["search_*", get]}
  b:
    url: http://h
    cache: {listen: true, stale_if_error: 24h}
cache:
  memory: {size: 64GiB, max_entry: 64MiB}
  redis: {url: "redis://u:${file:r}@h:6380/2", timeout: 10s, pool: 1024}
  database: {url: "postgresql://u:${env:P}@[::1]:5433/x?sslmode=verify-full", timeout: 1ms, private_reads: true, pool: {max: 1000, lifetime: 1s}}
  partition_key: "${file:/key}"
  inert_headers: [x-trace, X-Team]
admin: {group: "mcp users"}
`,
		"dir/r": "pa%20ss\n", "$P": "w", "/key": "12345678901234567890123456789012\n",
	}, config.Sources{File: "dir/f.yaml"})
	a, b := c.Upstreams[0], c.Upstreams[1]
	r, db := c.Cache.Redis, c.Cache.Database
	got := []any{
		a.Cache, a.Coalesce.Tools, b.Cache.Listen, b.Cache.FlushOnCall, b.Cache.StaleIfError, b.Coalesce.Tools,
		c.Cache.Memory, r.URL.Value, r.Timeout, r.Pool,
		db.Kind, db.URL.Value, db.Path.Value, db.Timeout, db.Size, db.PrivateReads, db.PoolMax, db.PoolLifetime,
		c.Cache.PartitionKey.Value, c.Cache.InertHeaders, c.Admin.Group,
	}
	want := []any{
		config.UpstreamCache{
			TTL: map[string]time.Duration{
				"server/discover": time.Second, "tools/list": 5 * time.Minute, "prompts/list": 0, "resources/list": 0,
				"resources/templates/list": 24 * time.Hour, "resources/read": time.Millisecond,
			},
			Tools:  map[string]time.Duration{"search_*": 10 * time.Minute, `get\*`: time.Second, "[a-c]?": 24 * time.Hour},
			MinTTL: time.Second, MaxTTL: 24 * time.Hour,
			Scope: config.CacheScopeCredential, StaleAfter: 500 * time.Millisecond, StaleWhileRevalidate: 30 * time.Second,
		},
		[]string{"search_*", "get"}, true, true, 24 * time.Hour, []string(nil),
		config.Memory{Size: 64 << 30, MaxEntry: 64 << 20}, "redis://u:pa%20ss@h:6380/2", 10 * time.Second, 1024,
		config.DatabasePostgres, "postgresql://u:w@[::1]:5433/x?sslmode=verify-full", "", time.Millisecond, int64(0), true, 1000, time.Second,
		"12345678901234567890123456789012", []string{"X-Trace", "X-Team"}, "mcp users",
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("%d: got %#v, want %#v", i, got[i], want[i])
		}
	}
}

// TestNoFileBesideRedis: where Redis is configured there is no embedded file, unless that is asked for, which is a fault.
func TestNoFileBesideRedis(t *testing.T) {
	for text, want := range map[string]config.DatabaseKind{
		"{redis: {url: redis://h}}":                                    config.DatabaseOff,
		"{redis: {url: redis://h}, database: {}}":                      config.DatabaseOff,
		"{redis: {url: redis://h}, database: {url: off}}":              config.DatabaseOff,
		"{redis: {url: redis://h}, database: {url: postgres://h/x}}":   config.DatabasePostgres,
		"{redis: {url: ''}}":                                           config.DatabaseSQLite,
		"{redis: {url: ''}, database: {url: 'sqlite:b', timeout: 1s}}": config.DatabaseSQLite,
	} {
		c := mustLoad(t, files{"f.yaml": "upstreams: {a: {url: http://h}}\ncache: " + text}, config.Sources{File: "f.yaml"})
		if c.Cache.Database.Kind != want {
			t.Errorf("%s: %s, want %s", text, c.Cache.Database.Kind, want)
		}
	}
}

// The forms of a database's URL, what they become and what `check` prints of them.
func TestDatabases(t *testing.T) {
	const state, pool = ", timeout 150ms, size 1GiB, private_reads false", ", timeout 150ms, private_reads false; max 4, lifetime 1h"
	for _, c := range []struct{ url, kind, path, shown string }{
		{"sqlite:cache.db", "sqlite", "cache.db", "sqlite:cache.db" + state},
		{"sqlite:./sub/../other.db", "sqlite", "other.db", "sqlite:other.db" + state},
		{"sqlite:/var/lib/x/cache.db", "sqlite", "/var/lib/x/cache.db", "sqlite:/var/lib/x/cache.db" + state},
		{"sqlite:a ?#%.db", "sqlite", "a ?#%.db", "sqlite:a ?#%.db" + state},
		{"sqlite:${env:DIR}/cache.db", "sqlite", "/srv/cache.db", "sqlite:${env:DIR}/cache.db" + state},
		{"postgres://h/x", "postgres", "", "postgres://h/x" + pool},
		{"postgresql://u:p@h:5433/x", "postgres", "", "postgresql://h:5433/x" + pool},
		{"postgres://u@[::1]/x?sslmode=require", "postgres", "", "postgres://[::1]/x?…" + pool},
		{"postgres:///x?host=/run/postgresql", "postgres", "", "postgres:///x?…" + pool},
		{"postgres://h?dbname=x&password=p", "postgres", "", "postgres://h?…" + pool},
		{"${env:URL}", "postgres", "", "${env:URL}" + pool},
		{"postgres://u:${env:PW}@${env:HOST}/x", "postgres", "", "postgres://${env:HOST}/x" + pool},
		{"postgres://u:${file:/a?b@c}@h/x", "postgres", "", "postgres://h/x" + pool},
		{"postgres://u:lit${env:REST}", "postgres", "", "set" + pool},
		{"postgres://h/x${env:QUERY}lit", "postgres", "", "set" + pool},
		{"off", "off", "", "off"},
	} {
		f := files{
			"f.yaml": "upstreams: {a: {url: http://h}}\ncache: {database: {url: '" + c.url + "'}}",
			"$DIR":   "/srv", "$URL": "postgres://u:p@h/x?a=b", "$PW": "p%40", "/a?b@c": "p", "$HOST": "db.example", "$REST": "@h/x", "$QUERY": "?password=",
		}
		loaded := mustLoad(t, f, config.Sources{File: "f.yaml"})
		db, shown := loaded.Cache.Database, summaryLines(t, loaded)["cache.database"]
		if pool, ok := summaryLines(t, loaded)["cache.database.pool"]; ok {
			shown = fmt.Sprint(shown, "; ", pool)
		}
		if string(db.Kind) != c.kind || db.Path.Value != c.path || (db.URL.Value != "") != (c.kind == "postgres") || shown != "url "+c.shown {
			t.Errorf("%s: %s, path %q, URL %q, shown as\n%s, want\n%s", c.url, db.Kind, db.Path.Value, db.URL.Value, shown, c.shown)
		}
	}
}

// summaryLines returns the lines of the summary by name.
func summaryLines(t *testing.T, c *config.Config) (lines map[string]any) {
	t.Helper()
	encoded, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(encoded, &lines)
	}
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestRedisURLs(t *testing.T) {
	for text, want := range map[string]string{
		"redis://127.0.0.1:6379/0":            "redis://127.0.0.1:6379/0",
		"redis://u:p@cache_1.example":         "redis://cache_1.example",
		"rediss://:p@[::1]:1/":                "rediss://[::1]:1/",
		"rediss://h?skip_verify=true&db=3":    "rediss://h?…",
		"unix:///run/redis.sock":              "unix:///run/redis.sock",
		"unix://u:p@/run/redis.sock?db=1":     "unix:///run/redis.sock?…",
		"${file:/url}":                        "${file:/url}",
		"redis://:${file:/run/a@b?c}@h/0":     "redis://h/0",
		"redis://:lit${env:REST}":             "set",
		"redis://$$u:${env:PW}$$@${env:H}:1/": "redis://${env:H}:1/",
	} {
		f := files{
			"f.yaml": "upstreams: {a: {url: http://h}}\ncache: {redis: {url: '" + text + "'}}",
			"/url":   "redis://u:p@h/0\n", "/run/a@b?c": "p", "$REST": "pw@h", "$PW": "p", "$H": "10.0.0.1",
		}
		if got := summaryLines(t, mustLoad(t, f, config.Sources{File: "f.yaml"}))["cache.redis"]; got != "url "+want+", timeout 50ms, pool 16" {
			t.Errorf("%s: shown as %s, want %s", text, got, want)
		}
	}
}

// A default that is not written makes way for what is.
func TestCacheDefaultsGiveWay(t *testing.T) {
	for size, want := range map[string]int64{"1MiB": 64 << 10, "8MiB": 512 << 10, "16MiB": 1 << 20, "1GiB": 1 << 20} {
		c := mustLoad(t, files{"f.yaml": "upstreams: {a: {url: http://h}}\ncache: {memory: {size: " + size + "}}"}, config.Sources{File: "f.yaml"})
		if got := c.Cache.Memory.MaxEntry; got != want {
			t.Errorf("size %s: entries up to %d, want %d", size, got, want)
		}
	}
	c := mustLoad(t, files{"f.yaml": "upstreams: {a: {url: http://h}}\ncache: {database: {url: postgres://h/x, pool: {max: 9}}}"}, config.Sources{File: "f.yaml"})
	if db := c.Cache.Database; db.PoolMax != 9 || db.PoolLifetime != time.Hour || db.Timeout != 150*time.Millisecond || db.Size != 0 {
		t.Errorf("postgres: %d, %v, %v, %d", db.PoolMax, db.PoolLifetime, db.Timeout, db.Size)
	}
	off := mustLoad(t, files{"f.yaml": "upstreams: {a: {url: http://h}}\ncache: {database: {url: off}}"}, config.Sources{File: "f.yaml"})
	if off.Cache.Database != (config.Database{Kind: config.DatabaseOff}) {
		t.Errorf("off: %+v", off.Cache.Database)
	}
}

// An upstream's maps are its own, also where two upstreams have the same text.
func TestUpstreamsShareNoMaps(t *testing.T) {
	c := mustLoad(t, files{"f.yaml": `
upstreams:
  a: &a {url: http://h, cache: {ttl: {tools/list: 1m}, tools: {x: 1s}}}
  b: *a
  c: {url: http://h}
  d: {url: http://h}
`}, config.Sources{File: "f.yaml"})
	for _, u := range c.Upstreams {
		u.Cache.TTL["of"], u.Cache.Tools["of"] = time.Duration(u.Name[0]), time.Duration(u.Name[0])
	}
	for _, u := range c.Upstreams {
		if of := time.Duration(u.Name[0]); u.Cache.TTL["of"] != of || u.Cache.Tools["of"] != of {
			t.Errorf("%s has the maps of another", u.Name)
		}
	}
}

// The settings of an entry of a servers file are those of the YAML file.
func TestCacheOfAServersFile(t *testing.T) {
	const settings = `{"cache": {"ttl": {"tools/list": "5m", "resources/read": 0}, "tools": {"search_*": "10m"}, "listen": false, "stale_after": "1s"}, "coalesce": {"tools": ["get"]}}`
	f := files{
		"m.json": `{"mcpServers": {"a": {"url": "http://h", "fluentd-perf": ` + settings + `}}}`,
		"f.yaml": "upstreams: {a: {url: http://h, <<: " + settings + "}}",
	}
	servers := mustLoad(t, f, config.Sources{MCPJSON: []string{"m.json"}}).Upstreams[0]
	yaml := mustLoad(t, f, config.Sources{File: "f.yaml"}).Upstreams[0]
	if !reflect.DeepEqual(servers, yaml) {
		t.Errorf("servers file: %v\nYAML: %v", servers, yaml)
	}
	if servers.Cache.Listen || servers.Cache.TTL["tools/list"] != 5*time.Minute {
		t.Errorf("nothing arrives: %v", servers)
	}
}

// checkCachePromises holds an upstream's cache to what UpstreamCache says.
func checkCachePromises(t *testing.T, u config.Upstream) {
	t.Helper()
	c := u.Cache
	if c.MaxTTL <= 0 || c.MaxTTL > 24*time.Hour || c.MinTTL < 0 || c.MinTTL > c.MaxTTL || c.StaleAfter <= 0 ||
		min(c.StaleIfError, c.StaleWhileRevalidate) < 0 || max(c.StaleIfError, c.StaleWhileRevalidate) > 24*time.Hour {
		t.Errorf("times of %v", u)
	}
	for method, ttl := range c.TTL {
		if ttl < 0 || ttl > c.MaxTTL || method == "tools/call" {
			t.Errorf("ttl of %s in %v", method, u)
		}
	}
	patterns := u.Coalesce.Tools
	for pattern, ttl := range c.Tools {
		if ttl <= 0 || ttl > c.MaxTTL {
			t.Errorf("ttl of %s in %v", pattern, u)
		}
		patterns = append(patterns, pattern)
	}
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, "a"); err != nil || pattern == "" {
			t.Errorf("pattern %q of %v", pattern, u)
		}
	}
}

// checkTierPromises holds the tiers to what their fields say, and to what the adapters take.
func checkTierPromises(t *testing.T, c config.Cache) {
	t.Helper()
	if c.Memory.Size < 1<<20 || c.Memory.MaxEntry < 1<<10 || c.Memory.MaxEntry > min(64<<20, c.Memory.Size/8) {
		t.Errorf("memory %+v", c.Memory)
	}
	if c.PartitionKey.Value != "" && len(c.PartitionKey.Value) < 32 {
		t.Error("a short partition key")
	}
	r := redis.Options{URL: c.Redis.URL.Value, Timeout: c.Redis.Timeout, Pool: c.Redis.Pool, MaxValue: int(c.Memory.MaxEntry)}
	if err := r.Validate(); c.Redis.URL.Value != "" && err != nil {
		t.Errorf("Redis does not take %q: %v", c.Redis.URL, err)
	}
	db := c.Database
	isFile, isServer := db.Kind == config.DatabaseSQLite, db.Kind == config.DatabasePostgres
	if (db.Path.Value != "") != isFile || (db.Size != 0) != isFile || (db.URL.Value != "") != isServer || (db.PoolMax != 0) != isServer {
		t.Errorf("database %v", db)
	}
	if isFile && !filepath.IsAbs(db.Path.Value) && !filepath.IsLocal(db.Path.Value) {
		t.Errorf("the file %q", db.Path)
	}
}

// Whatever the URL, it is refused or both the adapter and we take it, and nothing of user, password and query is shown.
func FuzzTierURL(f *testing.F) {
	for _, s := range []string{
		"redis://u:p@h:1/0", "rediss://h?skip_verify=true", "unix://u:p@/run/x?db=1", "postgres://u:p@h:1/x", "postgres:///x?host=/run",
		"postgresql://u:p%40@[::1]/x?sslmode=disable", "sqlite:a/b", "sqlite:/a", "off", "postgres://u:p@h,i/x", "redis://u:p@@h",
		"postgres://h:1:2/x", "postgres://0/0 0", "postgres://u:p@h/x?a=%31", "redis://h:/0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "$") {
			return
		}
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"redis", "database"} {
			// The text comes by a variable and as it is.
			for _, written := range []string{string(quoted), `"${env:URL}"`} {
				fs := files{"$URL": text, "f.yaml": `{"upstreams": {"a": {"url": "http://h"}}, "cache": {"` + key + `": {"url": ` + written + `}}}`}
				c, _, err := fs.load(config.Sources{File: "f.yaml"})
				if err != nil {
					continue
				}
				checkTierPromises(t, c.Cache)
				checkServer(t, c.Cache)
			}
		}
	})
}

func checkServer(t *testing.T, c config.Cache) {
	t.Helper()
	for _, tier := range []struct{ address, shown string }{{c.Redis.URL.Value, c.Redis.URL.String()}, {c.Database.URL.Value, c.Database.URL.String()}} {
		u, err := url.Parse(tier.address)
		if err != nil || strings.Contains(tier.shown, "@") || u.RawQuery != "" && strings.Contains(tier.shown, u.RawQuery) && len(u.RawQuery) > 8 {
			t.Errorf("%q is shown as %s (%v)", tier.address, tier.shown, err)
		}
		// Parameters may name files, which pgx looks for.
		if pg := (&postgres.Options{URL: tier.address}); strings.HasPrefix(u.Scheme, "postgres") && u.RawQuery == "" {
			if err := pg.Validate(); err != nil {
				t.Errorf("Postgres does not take %q: %v", tier.address, err)
			}
		}
	}
}

// The bounds here are the stages' own, so that what Load takes can be opened.
func TestBoundsAreTheStages(t *testing.T) {
	smallest := mustLoad(t, files{"f.yaml": "upstreams: {a: {url: http://h}}\ncache: {memory: {size: 1MiB, max_entry: 128KiB}, database: {size: 4MiB}}"},
		config.Sources{File: "f.yaml"}).Cache
	memory, err := memory.New(memory.Options{Size: smallest.Memory.Size, MaxEntry: smallest.Memory.MaxEntry})
	if err != nil {
		t.Fatal(err)
	}
	if err := memory.Close(); err != nil {
		t.Fatal(err)
	}
	file := sqlite.Options{Path: smallest.Database.Path.Value, MaxBytes: smallest.Database.Size, Timeout: smallest.Database.Timeout, MaxValue: int(smallest.Memory.MaxEntry)}
	if err := file.Validate(); err != nil {
		t.Errorf("SQLite: %v", err)
	}
	largest := redis.Options{URL: "redis://h", Timeout: 10 * time.Second, Pool: 1024, MaxValue: 64 << 20}
	if err := largest.Validate(); err != nil {
		t.Errorf("Redis: %v", err)
	}
}
