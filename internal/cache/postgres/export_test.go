package postgres

import "fluentd-perf/internal/cache/tier"

// Tier is what Open returns, with what only tests ask for.
type Tier = adapter

// OpenTier is Open.
var OpenTier = open

// ErrUnavailable is in the error of calls while there is no usable database.
var ErrUnavailable = errUnavailable

// OneServer is what holds the tier to one server: a test plays a link or a connection that comes between two steps.
func (t *Tier) OneServer() *tier.OneServer { return &t.one }

// Stats says how the pool is used.
func (t *Tier) Stats() tier.PoolStats { return t.stats() }
