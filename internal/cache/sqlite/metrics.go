package sqlite

import "github.com/prometheus/client_golang/prometheus"

// Collector gives the series of the file's connections, with pool="sqlite": see tier.PoolMetrics.
func (t *Tier) Collector() prometheus.Collector { return t.metrics }
