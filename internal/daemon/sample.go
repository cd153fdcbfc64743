package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/upstream/stdio/process"
)

// watchedMetrics are the metrics of which a sample tells, without their prefix.
var watchedMetrics = []string{
	"requests_total", "request_duration_seconds", "upstream_duration_seconds", "cache_requests_total",
	"saved_calls_total", "saved_seconds_total", "coalesced_total", "shed_total",
}

// watchedRegistry is a registry of which the watched metrics are in a second one as well: a sample gathers those, and no collector that
// looks at processes or at tiers. A metric that nobody gathers costs nothing.
type watchedRegistry struct {
	*prometheus.Registry
	watched *prometheus.Registry
}

func newWatchedRegistry() watchedRegistry {
	return watchedRegistry{newRegistry(), prometheus.NewRegistry()}
}

// Register implements prometheus.Registerer.
func (r watchedRegistry) Register(c prometheus.Collector) error {
	if err := r.Registry.Register(c); err != nil || !isWatched(c) {
		return err
	}
	return r.watched.Register(c)
}

// MustRegister implements prometheus.Registerer.
func (r watchedRegistry) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister implements prometheus.Registerer.
func (r watchedRegistry) Unregister(c prometheus.Collector) bool {
	r.watched.Unregister(c)
	return r.Registry.Unregister(c)
}

// isWatched reports whether a collector is one of the watched metrics. A description says its name in its text alone.
func isWatched(c prometheus.Collector) bool {
	descs := make(chan *prometheus.Desc, 16)
	go func() {
		c.Describe(descs)
		close(descs)
	}()
	found := false
	for d := range descs {
		text := d.String()
		for _, name := range watchedMetrics {
			found = found || strings.Contains(text, fmt.Sprintf("fqName: %q", "fluentd_perf_"+name))
		}
	}
	return found
}

// sample says what the counters are now.
func (d *daemon) sample(ctx context.Context, p api.SampleParams) (api.Sample, error) {
	s := api.Sample{
		At: time.Now(), Started: d.started, UpMs: time.Since(d.started).Milliseconds(), PID: os.Getpid(), Version: d.version,
		Addresses: d.addresses(), Draining: d.draining.Load(), Memory: int64(memoryInUse()), CPUMs: ownCPU().Milliseconds(),
		Goroutines: runtime.NumGoroutine(), Upstreams: []api.UpstreamSample{}, Tiers: []api.TierSample{},
	}
	if p.Processes {
		s.Descriptors = openDescriptors()
	}
	counted, err := d.counted()
	if err != nil {
		return s, err
	}
	calls := d.handler.AllCalls(func(upstream string) int {
		if upstream == p.Upstream {
			return maxStatusCalls
		}
		return min(max(p.Calls, 0), maxStatusCalls)
	})
	use := d.residentUsage(p.Processes)
	for _, one := range d.routed() {
		name := one.entry.Name
		u := cmp.Or(counted[name], &api.UpstreamSample{Upstream: name})
		one.addSample(u, calls[name], use, s.At)
		s.Upstreams = append(s.Upstreams, *u)
	}
	for _, t := range d.store.Stats(ctx, false).Tiers {
		s.Tiers = append(s.Tiers, api.TierSample{Tier: t.Tier, Entries: t.Entries, Bytes: t.Bytes, Queue: t.Queue, Breaker: t.Breaker})
	}
	return s, nil
}

// ownCPU is the user and system time of the daemon; 0 where the system does not say.
func ownCPU() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// openDescriptors is how many files and connections are open, 0 where the system does not say. It takes longer the more there are.
func openDescriptors() int {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return max(len(names)-1, 0) // without dir itself
}

// residentUsage is usage without the walk through the processes' mappings: it may be asked for every few seconds.
func (d *daemon) residentUsage(wanted bool) map[*process.Process]process.Usage {
	if !wanted || d.processes == nil {
		return nil
	}
	if use := d.processes.guard.Usage(false); use != nil {
		return use
	}
	return map[*process.Process]process.Usage{} // a system whose process table is not read
}

// addSample adds to an upstream's counters what there is now.
func (p *pipeline) addSample(u *api.UpstreamSample, calls proxy.CallsNow, use map[*process.Process]process.Usage, now time.Time) {
	st := p.status(use, now)
	u.InFlight, u.Queued, u.Retries = st.InFlight, st.Queued, st.Retries
	u.Calls, u.CallsNow, u.ProcessesNow = calls.Oldest, calls.Count, st.ProcessesNow
	if st.Sessions != nil {
		u.Sessions = st.Sessions.Sessions
	}
	if p.cache != nil {
		u.Subscriptions, u.Listening = p.cache.Subscribed()
	}
	for i, e := range st.Endpoints {
		one := api.EndpointSample{Breaker: e.Breaker, InFlight: e.InFlight, RetryMs: e.RetryAfterMs}
		if i < len(st.Hosts) {
			one.Host = st.Hosts[i]
		}
		if t := e.Trouble; t != nil {
			one.Failures, one.Trouble = t.Failures, cmp.Or(t.Message, t.Reason)
		}
		u.Endpoints = append(u.Endpoints, one)
	}
	for _, one := range st.Processes {
		u.Processes = append(u.Processes, api.ProcessSampled{
			PID: one.PID, AgeMs: one.AgeMs, State: one.State, Sessions: one.Sessions, Processes: one.Processes, RSS: one.RSS, CPUMs: one.CPUMs,
		})
	}
}

// counted gathers the watched metrics by upstream.
func (d *daemon) counted() (map[string]*api.UpstreamSample, error) {
	families, err := d.watched.Gather()
	if err != nil {
		return nil, err
	}
	all := map[string]*api.UpstreamSample{}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "fluentd_perf_")
		for _, m := range f.GetMetric() {
			labels := labelsOf(m)
			u := all[labels["upstream"]]
			if u == nil {
				u = &api.UpstreamSample{Upstream: labels["upstream"]}
				all[u.Upstream] = u
			}
			addMetric(u, name, labels, m)
		}
	}
	return all, nil
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

// addMetric adds one series to its upstream.
func addMetric(u *api.UpstreamSample, name string, labels map[string]string, m *dto.Metric) {
	n := uint64(m.GetCounter().GetValue())
	switch name {
	case "requests_total":
		addTo(&u.Requests, labels["outcome"], n)
		addTo(&u.Methods, labels["method"], n)
	case "request_duration_seconds":
		addHistogram(&u.Durations, labels["kind"], m.GetHistogram())
	case "upstream_duration_seconds":
		addHistogram(&u.Server, labels["kind"], m.GetHistogram())
	case "cache_requests_total":
		addCache(u, labels["tier"], labels["outcome"], n)
	case "saved_calls_total":
		u.SavedCalls = n
	case "saved_seconds_total":
		u.SavedSeconds = m.GetCounter().GetValue()
	case "coalesced_total":
		u.Coalesced = n
	case "shed_total":
		u.Shed += n
	}
}

func addTo(all *map[string]uint64, name string, n uint64) {
	if n == 0 {
		return
	}
	if *all == nil {
		*all = map[string]uint64{}
	}
	(*all)[name] += n
}

func addCache(u *api.UpstreamSample, tier, outcome string, n uint64) {
	if n == 0 {
		return
	}
	if u.Cache == nil {
		u.Cache = map[string]map[string]uint64{}
	}
	by := u.Cache[tier]
	addTo(&by, outcome, n)
	u.Cache[tier] = by
}

func addHistogram(all *map[string]api.Histogram, kind string, h *dto.Histogram) {
	if h.GetSampleCount() == 0 {
		return
	}
	if *all == nil {
		*all = map[string]api.Histogram{}
	}
	(*all)[kind] = histogramOf(h)
}

// histogramOf returns a histogram's native buckets. In the Prometheus format the counts are differences, of the buckets of each
// span, whose offset is counted from the end of the one before.
func histogramOf(h *dto.Histogram) api.Histogram {
	out := api.Histogram{Count: h.GetSampleCount(), Sum: h.GetSampleSum(), Schema: h.GetSchema(), Zero: h.GetZeroCount()}
	deltas, index, count := h.GetPositiveDelta(), int64(0), int64(0)
	for _, span := range h.GetPositiveSpan() {
		index += int64(span.GetOffset())
		for range span.GetLength() {
			count += deltas[0]
			deltas = deltas[1:]
			if count > 0 {
				out.Buckets = append(out.Buckets, [2]int64{index, count})
			}
			index++
		}
	}
	return out
}

// request returns the request of a call under way, for whoever wants to make it again. Where a group may use the admin socket, its body
// is left out, and the header with the name of what is asked for: the group may administer the daemon, which is not to read what agents send.
func (d *daemon) request(_ context.Context, p api.RequestParams) (proxy.CallRequest, error) {
	r, ok := d.handler.CallRequest(p.Upstream, p.Request)
	if !ok {
		return r, fmt.Errorf("the call %s has ended", p.Request)
	}
	if !d.adminGroup {
		return r, nil
	}
	if _, named := r.Headers["Mcp-Name"]; named {
		delete(r.Headers, "Mcp-Name")
		r.Others++
	}
	if r.Body != nil {
		r.Body, r.Missing = nil, "a group may use the admin socket (admin.group), which is not to read what agents send"
	}
	return r, nil
}
