package daemon

import (
	"runtime"
	"runtime/metrics"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

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
	stat := func(pick func(gets, misses, discards uint64) uint64) func() float64 {
		return func() float64 { return float64(pick(buffers.Stats())) }
	}
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fluentd_perf_memory_usage_bytes", Help: "Memory that the Go runtime has from the system and has not given back.",
		}, memoryInUse),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fluentd_perf_build_info", Help: "Always 1; what is running.",
			ConstLabels: prometheus.Labels{"version": o.Version, "goversion": runtime.Version()},
		}, func() float64 { return 1 }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "fluentd_perf_log_lines_lost_total", Help: "Log lines that were not read in time or could not be written.",
		}, o.LostLines),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "fluentd_perf_buffer_pool_gets_total", Help: "Buffers asked of the pool.",
		}, stat(func(gets, _, _ uint64) uint64 { return gets })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "fluentd_perf_buffer_pool_misses_total", Help: "Buffers that had to be made.",
		}, stat(func(_, misses, _ uint64) uint64 { return misses })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "fluentd_perf_buffer_pool_discards_total", Help: "Buffers given back that were too large to keep.",
		}, stat(func(_, _, discards uint64) uint64 { return discards })),
	)
}

func memoryInUse() float64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
