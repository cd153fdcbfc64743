package sqldb

import (
	"fluentd-perf/internal/cache/tier"
)

// OneServer is what holds the tier to one server: a test plays a link or a connection that comes between two steps.
func (p *Postgres) OneServer() *tier.OneServer { return &p.one }

// TokensKept is how many tokens are in memory.
func (s *SQLite) TokensKept() int {
	t := s.current.Load().tokens
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.tokens)
}
