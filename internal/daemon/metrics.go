package daemon

import (
	"runtime"
	"runtime/metrics"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcp"
)

// newRegistry returns a registry with Go's own metrics and the process's.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// registerProcessMetrics adds what belongs to no stage.
func registerProcessMetrics(reg prometheus.Registerer, buffers *mcp.BufferPool, o *Options) {
	counter := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "fluentd_perf_" + name, Help: help}, read)
	}
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fluentd_perf_" + name, Help: help, ConstLabels: labels}, read)
	}
	of := func(pick func(gets, misses, discards uint64) uint64) func() float64 {
		return func() float64 { return float64(pick(buffers.Stats())) }
	}
	reg.MustRegister(
		gauge("memory_usage_bytes", "Memory that the Go runtime has from the system and has not given back.", nil, memoryInUse),
		gauge("build_info", "Always 1; what is running.",
			prometheus.Labels{"version": o.Version, "goversion": runtime.Version()}, func() float64 { return 1 }),
		counter("log_lines_lost_total", "Log lines that were not read in time or could not be written.", o.LostLines),
		counter("buffer_pool_gets_total", "Buffers asked of the pool.", of(func(gets, _, _ uint64) uint64 { return gets })),
		counter("buffer_pool_misses_total", "Buffers that had to be made.", of(func(_, misses, _ uint64) uint64 { return misses })),
		counter("buffer_pool_discards_total", "Buffers given back that were too large to keep.",
			of(func(_, _, discards uint64) uint64 { return discards })),
	)
}

// newReplayMetric makes the counter of agents' connections that net/http serves, and registers it.
func newReplayMetric(reg prometheus.Registerer) *prometheus.CounterVec {
	replayed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fluentd_perf_connections_replayed_total",
		Help: "Connections of agents that were left to net/http, by what was not plain.",
	}, []string{"reason"})
	for _, why := range http1.Replays {
		replayed.WithLabelValues(string(why))
	}
	reg.MustRegister(replayed)
	return replayed
}

func memoryInUse() float64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
