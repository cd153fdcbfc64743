package daemon

import (
	"context"
	"runtime"
	"runtime/metrics"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
)

// memory says where the memory of the daemon's own process is, and what holds it. The processes of stdio servers are counted aside.
// The collector runs first: what nobody uses any more is no answer to where memory goes.
func (d *daemon) memory(ctx context.Context, a *api.Status) *api.Memory {
	runtime.GC()
	classes := memoryClasses()
	objects := max(0, classes["heap/objects"]-int64(len(d.ballast)))
	m := &api.Memory{Limit: memoryLimit(), Ballast: int64(len(d.ballast))}
	resident, ok := residentMemory()
	m.RSS = resident.rss
	free := classes["heap/unused"] + classes["heap/free"]
	rest := classes["metadata/mcache/inuse"] + classes["metadata/mcache/free"] + classes["metadata/mspan/inuse"] + classes["metadata/mspan/free"] +
		classes["metadata/other"] + classes["os-stacks"] + classes["other"] + classes["profiling/buckets"]
	if ok { // what Go has from the system is not all touched: the system knows what is
		free, rest = max(0, resident.heap-objects-classes["heap/stacks"]), resident.anonymous
	}
	m.Parts = []api.MemoryPart{
		{Name: api.MemoryProgram, Bytes: resident.files}, {Name: api.MemoryObjects, Bytes: objects}, {Name: api.MemoryFree, Bytes: free},
		{Name: api.MemoryStacks, Bytes: classes["heap/stacks"]}, {Name: api.MemoryRest, Bytes: rest},
	}
	m.Holders = d.holders(ctx, a)
	return m
}

// holders are what keeps objects and stacks.
func (d *daemon) holders(ctx context.Context, a *api.Status) []api.MemoryHolder {
	entries := api.MemoryHolder{Name: "entries in the memory tier"}
	for _, t := range d.store.Stats(ctx, false).Tiers {
		if t.Tier == "memory" {
			entries.Count, entries.Bytes = t.Entries, t.Bytes
		}
	}
	sessions, processes := api.MemoryHolder{Name: "sessions", Bytes: -1}, api.MemoryHolder{Name: "processes of commands, aside"}
	for _, u := range a.Upstreams {
		if u.Sessions != nil {
			sessions.Count += int64(u.Sessions.Sessions)
		}
	}
	for _, u := range d.usage(true) {
		processes.Count += int64(u.Processes)
		processes.Bytes += u.PSS
	}
	streams := int64(d.handler.Streams())
	return []api.MemoryHolder{
		entries,
		{Name: "bodies under way", Count: -1, Bytes: d.buffered.Held()},
		{Name: "large buffers for the next bodies", Count: -1, Bytes: int64(d.shared.buffers.Kept())},
		sessions,
		{Name: "streams", Count: streams, Bytes: streams * d.streamBytes},
		{Name: "connections of agents", Count: int64(d.conns.count()), Bytes: -1},
		{Name: "goroutines", Count: int64(runtime.NumGoroutine()), Bytes: -1},
		processes,
	}
}

// count returns how many connections are open.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// memoryClasses are Go's own figures of its memory, in bytes, by the names of runtime/metrics without what they have in common.
func memoryClasses() map[string]int64 {
	names := []string{
		"heap/objects", "heap/unused", "heap/free", "heap/stacks", "os-stacks", "other", "profiling/buckets", "metadata/other",
		"metadata/mcache/inuse", "metadata/mcache/free", "metadata/mspan/inuse", "metadata/mspan/free",
	}
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = "/memory/classes/" + name + ":bytes"
	}
	metrics.Read(samples)
	classes := make(map[string]int64, len(names))
	for i, name := range names {
		classes[name] = int64(samples[i].Value.Uint64())
	}
	return classes
}

// resident is what of the process is in memory, by what it is.
type resident struct {
	rss       int64
	files     int64 // mapped: the program
	heap      int64 // Go's arenas
	anonymous int64 // all else
}

// streamBytes returns what an open GET stream of an agent takes in objects and stacks, its connections on both sides and its session
// included: measured with 1,000 of them over the client of internal/http1 and over net/http's, and held by a test.
func streamBytes(cfg *config.Config) int64 {
	if cfg.HTTP == config.HTTPCompat || runtime.GOOS != "linux" {
		return 64 << 10
	}
	return 48 << 10
}
