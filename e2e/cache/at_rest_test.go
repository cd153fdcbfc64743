// What lies on a tier's disk is of no use to who has the disk alone: no token, no content, no name in the clear; and
// another key finds nothing.

package cache

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// restingTier is a tier with what it keeps: for who has its disk or its server, and not the daemon's key.
type restingTier struct {
	name       string
	cache      harness.Tiering
	everything func(at harness.Folders) string
	alter      func(at harness.Folders) // changes every entry, while no daemon runs
	swap       func()                   // puts every entry under another one's key; nil: alter is enough
}

var restingTiers = map[string]func(t *testing.T) restingTier{
	"Redis": func(t *testing.T) restingTier {
		r := harness.StartRedis(t)
		return restingTier{
			name: "redis", cache: harness.Tiering{Redis: harness.RedisAt(r.URL()), Database: "url: off"},
			everything: func(harness.Folders) string { return r.Everything() },
			alter: func(harness.Folders) {
				r.CLI("EVAL", `for _, k in ipairs(redis.call('KEYS', '*:v:*')) do
					local last = redis.call('STRLEN', k) - 1
					redis.call('SETRANGE', k, last, string.char((string.byte(redis.call('GETRANGE', k, last, last)) + 1) % 256))
				end`, "0")
			},
			swap: func() {
				r.CLI("EVAL", `local keys, values = redis.call('KEYS', '*:v:*'), {}
				for i, k in ipairs(keys) do values[i] = redis.call('GET', k) end
				for i, k in ipairs(keys) do redis.call('SET', k, values[i % #keys + 1], 'KEEPTTL') end`, "0")
			},
		}
	},
	"Postgres": func(t *testing.T) restingTier {
		s := harness.StartPostgres(t)
		return restingTier{
			name: "database", cache: harness.Tiering{Database: harness.DatabaseAt(s.URL())},
			everything: func(harness.Folders) string { return s.Everything() },
			alter: func(harness.Folders) {
				s.Query("UPDATE fluentd_perf_entries SET value = set_byte(value, length(value) - 1, (get_byte(value, length(value) - 1) + 1) % 256)")
			},
			swap: func() {
				s.Query(`WITH n AS (SELECT key, value, row_number() OVER (ORDER BY key) AS i, count(*) OVER () AS c FROM fluentd_perf_entries)
					UPDATE fluentd_perf_entries e SET value = o.value FROM n JOIN n o ON o.i = n.i % n.c + 1 WHERE e.key = n.key`)
			},
		}
	},
	"SQLite": func(t *testing.T) restingTier {
		return restingTier{
			name: "database", cache: harness.Tiering{Database: sqliteFile},
			everything: func(at harness.Folders) string { return stateFiles(t, at) },
			alter: func(at harness.Folders) {
				// Every page but the first, which says what the file is.
				change(t, filepath.Join(at.State, "cache.db"), func(f *os.File, size int64) error {
					var one [1]byte
					for i := int64(4096 + 512); i < size; i += 64 {
						if _, err := f.ReadAt(one[:], i); err != nil {
							return err
						}
						one[0]++
						if _, err := f.WriteAt(one[:], i); err != nil {
							return err
						}
					}
					return nil
				})
			},
		}
	},
}

// stateFiles returns all that lies in the state directory, but for the key, and holds the files to being the daemon's own.
func stateFiles(t *testing.T, at harness.Folders) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(at.State, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		if entry.Name() == "partition.key" {
			return nil
		}
		content, err := os.ReadFile(path)
		all.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// restQuestions are what TestAtRest asks as each of its two: things that have a marker in them.
var restQuestions = []struct{ method, params string }{
	{"tools/list", ""}, {"resources/read", `"uri":"item://marked-uri"`}, {"resources/list", ""},
}

// restMarkers may stand nowhere: tokens and who they are, uris, texts, names of tools.
var restMarkers = []string{"token-of-ada", "token-of-bob", "owner-ada", "owner-bob", "marked-uri", "marked_tool", "version 0"}

// TestAtRest looks for what is private in every tier, running and at rest, and then changes and swaps what is there.
func TestAtRest(t *testing.T) {
	for name, start := range restingTiers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tier, at := start(t), harness.NewFolders(t)
			m := harness.StartModern(t, harness.ModernOptions{
				Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, JSON: true, Tokens: map[string]string{
					"token-of-ada": "owner-ada", "token-of-bob": "owner-bob", "another": "whoever",
				},
			})
			m.AddTool("marked_tool")
			m.Say("prompts/list", harness.Hint{TTL: 10 * time.Minute, Scope: "public"})
			d := tier.cache.Run(t, m.URL, at)
			restAsk(t, d, false, "")
			d.Agent(t).Ask("/mcp/s", "prompts/list", "", harness.Bearer("another")) // who asked stands in the answer
			awaitWritten(d, tier.name, 2*len(restQuestions)+1)
			tier.look(t, at)
			d.Stop(t, syscall.SIGTERM)
			tier.look(t, at)
			if _, err := os.Stat(filepath.Join(at.State, "partition.key")); err != nil {
				t.Error(err)
			}

			d = tier.cache.Run(t, m.URL, at)
			restAsk(t, d, false, tier.name)
			d.Stop(t, syscall.SIGTERM)
			tier.alter(at)
			d = tier.cache.Run(t, m.URL, at)
			restAsk(t, d, true, "")
			if tier.swap == nil {
				return
			}
			harness.Within(t, 0, "the entries are written again", func() bool {
				return writtenTo(d.Scrape(), tier.name, "written") >= 2*len(restQuestions)
			})
			d.Stop(t, syscall.SIGTERM)
			tier.swap()
			restAsk(t, tier.cache.Run(t, m.URL, at), true, "")
		})
	}
}

// look searches the tier for what may not be there. What is public lies open, which shows that the search finds answers.
func (r restingTier) look(t *testing.T, at harness.Folders) {
	t.Helper()
	all := r.everything(at)
	if !strings.Contains(all, "greeting") {
		t.Error("the search finds nothing")
	}
	for _, marker := range restMarkers {
		if strings.Contains(all, marker) {
			t.Errorf("%q lies open", marker)
		}
	}
}

// restAsk makes all requests as both, and checks that each gets its own. Answers come from the tier, or from none.
func restAsk(t *testing.T, d *harness.Daemon, again bool, tier string) {
	t.Helper()
	for _, who := range []string{"ada", "bob"} {
		for _, q := range restQuestions {
			got := d.Agent(t).Ask("/mcp/s", q.method, q.params, harness.Bearer("token-of-"+who))
			if got.Principal != "owner-"+who || servedBy(got) != tier {
				t.Errorf("%s as %s: for %s, %q, want a hit of %q (altered: %v)", q.method, who, got.Principal, got.Header.Get("Cache-Status"), tier, again)
			}
			if q.method == "resources/read" && !strings.HasPrefix(got.Text, "item://marked-uri for owner-"+who+",") {
				t.Errorf("%s as %s: %q", q.method, who, got.Text)
			}
		}
	}
}
