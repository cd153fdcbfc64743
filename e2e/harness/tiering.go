package harness

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Tiering is a configuration of the cache for a daemon with one upstream `s`, or with several. Blocks are in flow style, without braces;
// an empty one is left out, so that the default holds.
type Tiering struct {
	Redis    string // of cache.redis
	Database string // of cache.database
	Key      string // the file of cache.partition_key
	Cache    string // more of each upstream's cache
}

// LongTimeout is a tier's timeout within which one that works answers, whatever a busy machine does.
const LongTimeout = "timeout: 5s"

// RedisAt is the block of a Redis, or of a link to one.
func RedisAt(url string) string { return fmt.Sprintf("url: %q, %s", url, LongTimeout) }

// DatabaseAt is the block of a Postgres that keeps what was read, too.
func DatabaseAt(url string) string {
	return fmt.Sprintf("url: %q, private_reads: true, %s", url, LongTimeout)
}

// conf is the daemon's configuration, with upstreams at their URLs.
func (c Tiering) conf(urls map[string]string) Config {
	var blocks []string
	for name, block := range map[string]string{"redis": c.Redis, "database": c.Database} {
		if block != "" {
			blocks = append(blocks, fmt.Sprintf("%s: {%s}", name, block))
		}
	}
	if c.Key != "" {
		blocks = append(blocks, fmt.Sprintf("partition_key: %q", "${file:"+c.Key+"}"))
	}
	slices.Sort(blocks)
	keys := ""
	if c.Cache != "" {
		keys = "cache: {" + c.Cache + "}"
	}
	own := AllUpstreams(urls, keys)
	own.Top += "\ncache: {" + strings.Join(blocks, ", ") + "}"
	own.Args = []string{"--log-level", "warn"}
	return own
}

// Run starts a daemon with this cache in folders, with the upstream at a URL.
func (c Tiering) Run(t *testing.T, url string, at Folders) *Daemon {
	t.Helper()
	return c.RunAll(t, map[string]string{"s": url}, at)
}

// RunAll is Run with upstreams that have names.
func (c Tiering) RunAll(t *testing.T, urls map[string]string, at Folders) *Daemon {
	t.Helper()
	return Start(t, c.conf(urls).In(at))
}
