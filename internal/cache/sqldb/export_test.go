package sqldb

import "fluentd-perf/internal/cache"

// OneServer is what holds the tier to one server: a test plays a link or a connection that comes between two steps.
func (p *Postgres) OneServer() *cache.OneServer { return &p.one }
