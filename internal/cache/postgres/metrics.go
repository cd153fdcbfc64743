package postgres

import "github.com/prometheus/client_golang/prometheus"

// Collector gives the series of the pool, with pool="postgres": see tier.PoolMetrics.
func (t *Tier) Collector() prometheus.Collector { return t.metrics }
