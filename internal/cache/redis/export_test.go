package redis

import (
	goredis "github.com/redis/go-redis/v9"

	"fluentd-perf/internal/cache/tier"
)

// Tier is what New returns, with what only tests ask for.
type Tier = adapter

// NewTier is New.
var NewTier = newAdapter

// CheckRESP feeds the parts to a check that takes strings of maxBulk bytes, and returns what it says in the end. The server
// cannot be made to cut its answers at every place, so that tests reach the check by this.
func CheckRESP(maxBulk int, parts ...[]byte) error {
	r := respCheck{maxBulk: maxBulk}
	for _, p := range parts {
		_ = r.feed(p)
	}
	return r.err
}

// OneServer is what holds the tier to one server: a test plays a connection that comes between two steps.
func (t *Tier) OneServer() *tier.OneServer { return &t.dialer.one }

// PoolStats is what the connections for calls do.
func (t *Tier) PoolStats() *goredis.PoolStats { return t.client.PoolStats() }
