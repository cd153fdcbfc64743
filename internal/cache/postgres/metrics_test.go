package postgres_test

import (
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/tier"
)

// TestCollectors registers the series beside those of other pools.
func TestCollectors(t *testing.T) {
	s := commonPostgres(t)
	reg := prometheus.NewPedanticRegistry()
	held := open(t, s, func(o *postgres.Options) { o.Pool = 1; o.Pools = tier.NewPools(reg) })
	waited := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fluentd_perf_pool_wait_seconds", Help: "How long those waited that had to wait for a connection.",
	}, []string{"pool"})
	waited.WithLabelValues("docs").Observe(1)
	given := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_pool_connections_total", Help: "Connections that requests were given, new ones and reused ones.",
	}, []string{"pool", "reused"})
	given.WithLabelValues("docs", "true").Inc()
	reg.MustRegister(waited, given)
	if !works(t, held) {
		t.Fatal("it does not work")
	}
	for name, want := range map[string]float64{
		"fluentd_perf_open_connections postgres":             1,
		"fluentd_perf_idle_connections postgres":             1,
		"fluentd_perf_active_connections postgres":           0,
		"fluentd_perf_pool_connections_total postgres false": 1,
		"fluentd_perf_pool_connections_total postgres true":  2,
		"fluentd_perf_pool_wait_seconds postgres":            0,
		"fluentd_perf_pool_wait_seconds docs":                1,
		"fluentd_perf_pool_connections_total docs true":      1,
	} {
		if got, ok := series(t, reg)[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	eventually(t, "somebody waits for a connection", func() bool {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { works(t, held) })
		}
		group.Wait()
		return series(t, reg)["fluentd_perf_pool_wait_seconds postgres"] > 0
	})
	closeTier(t, held)
	if got := series(t, reg); got["fluentd_perf_open_connections postgres"] != 0 {
		t.Errorf("after Close: %v", got)
	}
}
