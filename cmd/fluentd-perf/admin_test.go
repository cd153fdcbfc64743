package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/daemon"
)

// adminCalls are what a daemon answers here.
type adminCalls struct {
	cacheStats func(ctx context.Context, detailed bool) (cache.Stats, error)
	status     func(ctx context.Context, calls bool) (api.Status, error)
	cachePurge func(ctx context.Context, upstream, method string) (api.CachePurge, error)
	packages   *api.PurgedPackages // the answer to cache-purge --packages
}

func (a adminCalls) handlers() map[string]api.Handler {
	return map[string]api.Handler{
		api.CallCacheStats: api.Handle(func(ctx context.Context, p api.CacheStatsParams) (cache.Stats, error) {
			return a.cacheStats(ctx, p.Detailed)
		}),
		api.CallStatus: api.Handle(func(ctx context.Context, p api.StatusParams) (api.Status, error) { return a.status(ctx, p.Calls) }),
		api.CallCachePurge: api.Handle(func(ctx context.Context, p api.CachePurgeParams) (api.CachePurge, error) {
			if p.Packages {
				return api.CachePurge{Purged: []api.Purged{}, Pending: []string{}, Packages: a.packages}, nil
			}
			return a.cachePurge(ctx, p.Upstream, p.Method)
		}),
	}
}

// daemonFor has calls answered in a new runtime directory until the test ends, and points the verbs there.
func daemonFor(t *testing.T, calls adminCalls) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fp") // a short path, whatever the test is called
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := api.Open(api.Options{
		Path: filepath.Join(dir, "fluentd-perf", daemon.SocketName), Handlers: calls.handlers(), CallTimeout: 8 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("FLUENTD_PERF_SOCKET", "")
	t.Setenv("RUNTIME_DIRECTORY", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
}

// shown is the statistics of the tests.
var shown = cache.Stats{
	Tiers: []cache.TierReport{
		{Tier: "memory", Entries: 1234, Bytes: 12_900_000, Evictions: 7, Hits: 9500, Misses: 500, Written: 1300},
		{Tier: "redis", Entries: -1, Bytes: -1, Evictions: -1, Hits: 400, Misses: 100, Errors: 3, Skipped: 20, Written: 1200,
			Queue: 5, Dropped: 2, Pending: 1, Breaker: "open", Error: "dial tcp 127.0.0.1:6379: connection\nrefused\x1b[2J"},
		{Tier: "database", Entries: 0, Bytes: 4096, Evictions: 0, Breaker: "closed"},
	},
	Upstreams: []cache.UpstreamReport{
		{Upstream: "docs", Hits: map[string]uint64{"memory": 9500, "redis": 400}, Misses: 99, Stale: 1, Bypass: 12, Stored: 90,
			Listening: 2, Keys: []cache.KeyReport{
				{Method: "resources/read", Key: "00112233aabbccdd", Hits: 40, Bytes: 70_000},
				{Method: "tools/list", Key: "ffeeddccbbaa9988", Hits: 9000, Bytes: 800},
			}},
		{Upstream: "node"},
	},
}

const shownTables = `TIER      ENTRIES  SIZE      EVICTED  HITS  HIT%   MISSES  ERRORS  SKIPPED  WRITTEN  QUEUE  DROPPED  PENDING  BREAKER
memory    1234     12.3 MiB  7        9500  95.0%  500     0       0        1300     0      0        0        -
redis     -        -         -        400   80.0%  100     3       20       1200     5      2        1        open
database  0        4.0 KiB   0        0     -      0       0       0        0        0      0        0        closed
redis, last error: dial tcp 127.0.0.1:6379: connection?refused?[2J

UPSTREAM  HITS  HIT%   STALE  COLLAPSED  MISSES  BYPASS  STORED  LISTENING
docs      9900  99.0%  1      0          99      12      90      2
node      0     -      0      0          0       0       0       0
`

const shownDetails = `
HITS BY TIER  MEMORY  REDIS  DATABASE
docs          9500    400    0
node          0       0      0

KEYS OF  METHOD          KEY               HITS  SIZE
docs     tools/list      ffeeddccbbaa9988  9000  800 B
docs     resources/read  00112233aabbccdd  40    68.4 KiB
`

// TestCacheStats holds what people and programs see, and what the daemon is asked.
func TestCacheStats(t *testing.T) {
	asked := make(chan bool, 1)
	daemonFor(t, adminCalls{cacheStats: func(_ context.Context, detailed bool) (cache.Stats, error) {
		asked <- detailed
		return shown, nil
	}})
	for _, c := range []struct {
		args     []string
		detailed bool
		want     string
	}{
		{[]string{"cache-stats"}, false, shownTables},
		{[]string{"cache-stats", "--detailed"}, true, shownTables + shownDetails},
		{[]string{"cache-stats", "--detailed", "-o", "json"}, true, ""},
	} {
		code, out, errs := command(c.args...)
		if code != 0 || errs != "" {
			t.Fatalf("%v: exit %d, %s", c.args, code, errs)
		}
		if got := <-asked; got != c.detailed {
			t.Errorf("%v: asked with detailed %v", c.args, got)
		}
		if c.want != "" && out != c.want {
			t.Errorf("%v:\n%s\nwant\n%s", c.args, out, c.want)
		}
		if c.want == "" {
			var got cache.Stats
			if err := json.Unmarshal([]byte(out), &got); err != nil || !reflect.DeepEqual(got, shown) {
				t.Errorf("%v: %v\n%s", c.args, err, out)
			}
		}
	}
}

// TestCacheStatsOfNothing holds what is shown of a daemon that has cached nothing yet.
func TestCacheStatsOfNothing(t *testing.T) {
	daemonFor(t, adminCalls{cacheStats: func(context.Context, bool) (cache.Stats, error) {
		return cache.Stats{Tiers: []cache.TierReport{{Tier: "memory"}}, Upstreams: []cache.UpstreamReport{{Upstream: "docs"}}}, nil
	}})
	want := `TIER    ENTRIES  SIZE  EVICTED  HITS  HIT%  MISSES  ERRORS  SKIPPED  WRITTEN  QUEUE  DROPPED  PENDING  BREAKER
memory  0        0 B   0        0     -     0       0       0        0        0      0        0        -

UPSTREAM  HITS  HIT%  STALE  COLLAPSED  MISSES  BYPASS  STORED  LISTENING
docs      0     -     0      0          0       0       0       0

HITS BY TIER  MEMORY
docs          0
`
	if code, out, errs := command("cache-stats", "--detailed"); code != 0 || out != want {
		t.Errorf("exit %d %s\n%s\nwant\n%s", code, errs, out, want)
	}
}

// TestCachePurge holds what is asked for, and what is shown of the answer.
func TestCachePurge(t *testing.T) {
	answers, asked := make(chan api.CachePurge, 1), make(chan [2]string, 1)
	daemonFor(t, adminCalls{cachePurge: func(_ context.Context, upstream, method string) (api.CachePurge, error) {
		asked <- [2]string{upstream, method}
		return <-answers, nil
	}})
	both := []api.Purged{{Upstream: "docs", Methods: []string{"tools/list", "tools/call"}}, {Upstream: "n", Methods: []string{}}}
	for _, c := range []struct {
		args   []string
		answer api.CachePurge
		asked  [2]string
		want   string
	}{
		{nil, api.CachePurge{Purged: both}, [2]string{}, "UPSTREAM  PURGED\ndocs      tools/list, tools/call\nn         \n"},
		{[]string{"--upstream", "docs", "--method", "tools/list"}, api.CachePurge{Purged: both[:1], Pending: []string{"redis"}},
			[2]string{"docs", "tools/list"},
			"UPSTREAM  PURGED\ndocs      tools/list, tools/call\n\nredis could not be told yet: it is not read until it has been\n"},
		{[]string{"--method", "tools/list"}, api.CachePurge{}, [2]string{"", "tools/list"}, "nothing was purged\n"},
		{[]string{"-o", "json"}, api.CachePurge{Purged: []api.Purged{}, Pending: []string{}}, [2]string{}, "{\n  \"purged\": [],\n  \"pending\": []\n}\n"},
		{[]string{"-o", "json"}, api.CachePurge{Purged: both[1:], Pending: []string{"redis"}}, [2]string{},
			"{\n  \"purged\": [\n    {\n      \"upstream\": \"n\",\n      \"methods\": []\n    }\n  ],\n  \"pending\": [\n    \"redis\"\n  ]\n}\n"},
	} {
		answers <- c.answer
		code, out, errs := command(append([]string{"cache-purge"}, c.args...)...)
		if code != 0 || errs != "" || out != c.want {
			t.Errorf("%v: exit %d %s\n%s\nwant\n%s", c.args, code, errs, out, c.want)
		}
		if got := <-asked; got != c.asked {
			t.Errorf("%v: asked %q, want %q", c.args, got, c.asked)
		}
	}
}

// TestPurgePackages: packages are purged by themselves, and their bytes are said.
func TestPurgePackages(t *testing.T) {
	daemonFor(t, adminCalls{packages: &api.PurgedPackages{Removed: 3, Bytes: 5 << 20, Left: 1}})
	if code, out, errs := command("cache-purge", "--packages"); code != 0 || out != "3 packages removed, 5.0 MiB; 1 in use\n" {
		t.Errorf("exit %d %s\n%s", code, errs, out)
	}
	if code, out, _ := command("cache-purge", "--packages", "-o", "json"); code != 0 || !strings.Contains(out, `"bytes": 5242880`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	for _, flag := range []string{"--upstream", "--method"} {
		if code, _, errs := command("cache-purge", "--packages", flag, "x"); code == 0 || !strings.Contains(errs, "none of the others can be") {
			t.Errorf("%s: exit %d %s", flag, code, errs)
		}
	}
}

// TestVerbsRefused holds that the daemon's own words come through, alone.
func TestVerbsRefused(t *testing.T) {
	daemonFor(t, adminCalls{
		cacheStats: func(context.Context, bool) (cache.Stats, error) {
			return cache.Stats{}, errors.New("no statistics today")
		},
		cachePurge: func(_ context.Context, upstream, _ string) (api.CachePurge, error) {
			return api.CachePurge{}, fmt.Errorf("no upstream %q: there are docs, node", upstream)
		},
	})
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"cache-stats"}, 1, "no statistics today\n"},
		{[]string{"cache-stats", "-o", "json"}, 1, "no statistics today\n"},
		{[]string{"cache-purge", "--upstream", "x"}, 1, "no upstream \"x\": there are docs, node\n"},
		{[]string{"cache-purge", "-o", "xml"}, 2, "--output \"xml\": use table or json\n"},
	} {
		code, out, errs := command(c.args...)
		if code != c.code || out != "" || errs != c.want {
			t.Errorf("%v: exit %d %q %q, want %d %q", c.args, code, out, errs, c.code, c.want)
		}
	}
}

// TestVerbsNoDaemon holds that a verb without a daemon says where it looked, and why each place was none.
func TestVerbsNoDaemon(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.sock")
	for _, verb := range []string{"cache-stats", "cache-purge"} {
		code, out, errs := command(verb, "--socket", missing)
		want := "no running fluentd-perf was found; tried\n  " + missing + " (--socket): no such file or directory\n"
		if code != 1 || out != "" || errs != want {
			t.Errorf("%s: exit %d %q %q, want %q", verb, code, out, errs, want)
		}
	}
	t.Setenv("FLUENTD_PERF_SOCKET", missing)
	if code, _, errs := command("cache-stats"); code != 1 || !strings.Contains(errs, missing+" ($FLUENTD_PERF_SOCKET): ") {
		t.Errorf("exit %d %q", code, errs)
	}
}

// TestVerbsSilentDaemon holds what a verb says where a daemon takes its connection and no more, as one that is suspended.
func TestVerbsSilentDaemon(t *testing.T) {
	dir, err := os.MkdirTemp("", "fp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, daemon.SocketName)
	l, err := net.Listen("unix", path) // nobody accepts: the system takes the connections
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	verb := cacheStatsCommand()
	verb.SetContext(t.Context())
	err = (&socketFlag{path: path, timeout: 50 * time.Millisecond}).ask(verb, api.CallCacheStats, api.CacheStatsParams{}, nil)
	want := "asking the daemon at " + path + ": no answer within 50ms: the daemon is suspended, or too busy to answer"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if askTimeout > 10*time.Second || 8*time.Second >= askTimeout {
		t.Errorf("a verb waits for %v, the daemon gives itself %v", askTimeout, 8*time.Second)
	}
}

// TestAdminParameters holds that the daemon refuses what it does not know: it could have made a purge narrower.
func TestAdminParameters(t *testing.T) {
	daemonFor(t, adminCalls{cachePurge: func(context.Context, string, string) (api.CachePurge, error) {
		t.Error("purged")
		return api.CachePurge{}, nil
	}})
	path := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "fluentd-perf", daemon.SocketName)
	err := api.Call(t.Context(), path, api.CallCachePurge, map[string]string{"uri": "file:///a"}, nil)
	var refused *api.RefusedError
	if !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("%v", err)
	}
}

// TestHumanNumbers holds the numbers for people at their edges.
func TestHumanNumbers(t *testing.T) {
	for bytes, want := range map[int64]string{
		-1: "-", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 20: "1.0 MiB",
		128 << 20: "128.0 MiB", 1 << 30: "1.0 GiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d bytes: %s, want %s", bytes, got, want)
		}
	}
	for in, want := range map[[2]uint64]string{
		{0, 0}: "-", {0, 3}: "0.0%", {57, 43}: "57.0%", {2, 1}: "66.6%", {1, 0}: "100%", {99_999, 1}: "99.9%", {5_000_000_000_000, 1}: "99.9%",
	} {
		if got := percent(in[0], in[1]); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}
