package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// restingTier is a tier with what it keeps: for who has its disk or its server, and not the daemon's key.
type restingTier struct {
	name       string
	cache      tiering
	everything func(at places) string
	alter      func(at places) // changes every entry, while no daemon runs
	swap       func()          // puts every entry under another one's key; nil: alter is enough
}

var restingTiers = map[string]func(t *testing.T) restingTier{
	"Redis": func(t *testing.T) restingTier {
		r := startRedis(t)
		return restingTier{
			name: "redis", cache: tiering{redis: redisAt(r.url()), database: "url: off"},
			everything: func(places) string { return r.everything() },
			alter: func(places) {
				r.cli("EVAL", `for _, k in ipairs(redis.call('KEYS', '*:v:*')) do
					local last = redis.call('STRLEN', k) - 1
					redis.call('SETRANGE', k, last, string.char((string.byte(redis.call('GETRANGE', k, last, last)) + 1) % 256))
				end`, "0")
			},
			swap: func() {
				r.cli("EVAL", `local keys, values = redis.call('KEYS', '*:v:*'), {}
				for i, k in ipairs(keys) do values[i] = redis.call('GET', k) end
				for i, k in ipairs(keys) do redis.call('SET', k, values[i % #keys + 1], 'KEEPTTL') end`, "0")
			},
		}
	},
	"Postgres": func(t *testing.T) restingTier {
		s := startPostgres(t)
		return restingTier{
			name: "database", cache: tiering{database: databaseAt(s.url())},
			everything: func(places) string { return s.everything() },
			alter: func(places) {
				s.query("UPDATE fluentd_perf_entries SET value = set_byte(value, length(value) - 1, (get_byte(value, length(value) - 1) + 1) % 256)")
			},
			swap: func() {
				s.query(`WITH n AS (SELECT key, value, row_number() OVER (ORDER BY key) AS i, count(*) OVER () AS c FROM fluentd_perf_entries)
					UPDATE fluentd_perf_entries e SET value = o.value FROM n JOIN n o ON o.i = n.i % n.c + 1 WHERE e.key = n.key`)
			},
		}
	},
	"SQLite": func(t *testing.T) restingTier {
		return restingTier{
			name: "database", cache: tiering{database: sqliteFile},
			everything: func(at places) string { return stateFiles(t, at) },
			alter: func(at places) {
				// Every page but the first, which says what the file is.
				change(t, filepath.Join(at.state, "cache.db"), func(f *os.File, size int64) error {
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
func stateFiles(t *testing.T, at places) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(at.state, func(path string, entry os.DirEntry, err error) error {
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
			tier, at := start(t), newPlaces(t)
			m := startModern(t, modernOptions{
				hint: hint{10 * time.Minute, "private"}, json: true, tokens: map[string]string{
					"token-of-ada": "owner-ada", "token-of-bob": "owner-bob", "another": "whoever",
				},
			})
			m.addTool("marked_tool")
			m.say("prompts/list", hint{10 * time.Minute, "public"})
			d := tier.cache.run(t, m.url, at)
			restAsk(t, d, false, "")
			d.agent(t).ask("/mcp/s", "prompts/list", "", as("another")) // who asked stands in the answer
			d.awaitWritten(tier.name, 2*len(restQuestions)+1)
			tier.look(t, at)
			d.stop(t, syscall.SIGTERM)
			tier.look(t, at)
			if _, err := os.Stat(filepath.Join(at.state, "partition.key")); err != nil {
				t.Error(err)
			}

			d = tier.cache.run(t, m.url, at)
			restAsk(t, d, false, tier.name)
			d.stop(t, syscall.SIGTERM)
			tier.alter(at)
			d = tier.cache.run(t, m.url, at)
			restAsk(t, d, true, "")
			if tier.swap == nil {
				return
			}
			within(t, 0, "the entries are written again", func() bool {
				return d.scrape().written(tier.name, "written") >= 2*len(restQuestions)
			})
			d.stop(t, syscall.SIGTERM)
			tier.swap()
			restAsk(t, tier.cache.run(t, m.url, at), true, "")
		})
	}
}

// look searches the tier for what may not be there. What is public lies open, which shows that the search finds answers.
func (r restingTier) look(t *testing.T, at places) {
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

// restAsk asks all questions as both, and checks that each gets its own. Answers come from the tier, or from none.
func restAsk(t *testing.T, d *sidecar, again bool, tier string) {
	t.Helper()
	for _, who := range []string{"ada", "bob"} {
		for _, q := range restQuestions {
			got := d.agent(t).ask("/mcp/s", q.method, q.params, as("token-of-"+who))
			if got.asker != "owner-"+who || got.tier() != tier {
				t.Errorf("%s as %s: for %s, %q, want a hit of %q (altered: %v)", q.method, who, got.asker, got.header.Get("Cache-Status"), tier, again)
			}
			if q.method == "resources/read" && !strings.HasPrefix(got.text, "item://marked-uri for owner-"+who+",") {
				t.Errorf("%s as %s: %q", q.method, who, got.text)
			}
		}
	}
}
