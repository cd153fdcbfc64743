//go:build !race

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
)

// The Zipf workload: equally large documents, read as often as their rank says.
const (
	zipfKeys     = 10_000
	zipfExponent = 1.1
)

// zipfRun is one daemon's cache under the workload.
type zipfRun struct {
	*pipe
	reg   *prometheus.Registry
	rank  *rand.Zipf
	whose string
}

// zipfCase is how much memory there is, and in how many parts.
type zipfCase struct {
	name     string
	entries  int     // that memory has room for
	size     int64   // of memory, in bytes: a document is as large as an entry may be for that many, everything included
	maxEntry int64   // bytes: with it comes the number of shards
	memory   float64 // the least share of hits in memory
}

var zipfCases = []zipfCase{
	{"2000", 2000, 8 << 20, 512 << 10, 0.81},
	{"2000 in 64 shards", 2000, 8 << 20, 16 << 10, 0.805},
	{"5000", 5000, 20 << 20, 1 << 20, 0.91},
}

// TestZipf holds the shares of hits under the workload, from the metrics: in memory, and with SQLite beneath. The
// documents are private (`private_reads: true`); each case is a daemon of its own on one state directory, the first of
// which fills it. It leaves the race detector out, under which SQLite takes minutes and the shares are the same.
func TestZipf(t *testing.T) {
	dir := t.TempDir()
	for i, c := range zipfCases {
		t.Run(c.name, func(t *testing.T) {
			z := newZipfRun(t, c, dir)
			if i == 0 {
				z.fill()
			}
			z.read(zipfWarm)
			before := z.counts("fluentd_perf_cache_requests_total", "outcome")
			z.read(zipfReads)
			after := z.counts("fluentd_perf_cache_requests_total", "outcome")
			share := func(tiers ...string) (s float64) {
				for _, tier := range tiers {
					s += (after[tier+" hit"] - before[tier+" hit"]) / zipfReads
				}
				return s
			}
			memory, both := share("memory"), share("memory", "database")
			held := z.d.store.Stats(t.Context(), false).Tiers[0]
			t.Logf("%d entries in %d bytes", held.Entries, held.Bytes)
			if held.Entries > int64(c.entries) || held.Bytes > c.size {
				t.Errorf("memory holds %d entries in %d bytes, and was to have room for %d", held.Entries, held.Bytes, c.entries)
			}
			t.Logf("%d reads: %.2f %% from memory, %.2f %% from memory or SQLite", zipfReads, 100*memory, 100*both)
			if memory < c.memory {
				t.Errorf("%.2f %% hits in memory, want %.0f %%", 100*memory, 100*c.memory)
			}
			if both < 0.98 {
				t.Errorf("%.2f %% hits in memory or SQLite, want 98 %%", 100*both)
			}
		})
	}
}

func newZipfRun(t *testing.T, c zipfCase, dir string) *zipfRun {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"s=http://server.test/mcp"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cache.Memory = config.Memory{Size: c.size, MaxEntry: c.maxEntry}
	cfg.Cache.Database.PrivateReads = true
	cfg.Cache.Database.Timeout = 5 * time.Second // a slow machine is not what is measured
	z := &zipfRun{reg: prometheus.NewRegistry(), whose: "Bearer x"}
	z.rank = rand.NewZipf(rand.New(rand.NewPCG(1, 2)), zipfExponent, 1, zipfKeys-1)
	d := &daemon{log: slog.New(slog.DiscardHandler), base: t.Context()}
	buffers := new(mcp.BufferPool)
	if err := d.openCache(cfg, dir, breaker.NewMetrics(z.reg), z.reg, buffers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.closeCache(time.Minute) })
	z.pipe = &pipe{t: t, d: d, server: &pipeServer{answer: zipfServer(c)}}
	own := cfg.Upstreams[0]
	own.Cache.Listen = false
	z.stage = cached(d, own, z.server)
	return z
}

// zipfServer answers resources/read with a document that fills an entry.
func zipfServer(c zipfCase) pipeAnswer {
	const around = 280 // bytes beside the text: the answer's envelope, the heads of the entry and the tier, bigcache's own
	members := strings.ReplaceAll(pipePrivate, "60000", "86400000")
	text := strings.Repeat("x", int(c.size)/c.entries-around)
	return func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
		uri := c.Message.URI.Of(c.Body)
		return pipeResult(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"contents":[{"uri":%s,"text":%q}],%s}}`, c.ID(), uri, text, members)), nil
	}
}

// get reads the document of a rank.
func (z *zipfRun) get(rank uint64) {
	r := z.ask(context.Background(), pipeCall(z.whose, "1", "resources/read", fmt.Sprintf(`"uri":"doc:///%05d",`, rank)))
	if r.failure != nil || !strings.Contains(r.body, fmt.Sprintf(`"doc:///%05d"`, rank)) {
		z.t.Fatalf("document %d: %v %.100s", rank, r.failure, r.body)
	}
}

// fill reads every document once, and waits for SQLite to have it.
func (z *zipfRun) fill() {
	for i := range uint64(zipfKeys) {
		z.get(i)
		if i%1000 == 999 {
			z.settle(float64(i + 1))
		}
	}
	z.server.forget()
}

// settle waits until n entries have been written behind, or lost, which then shows in the figures.
func (z *zipfRun) settle(n float64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		w := z.counts("fluentd_perf_cache_writes_total", "result")
		if w["database written"]+w["database dropped"]+w["database failed"] >= n {
			return
		}
	}
}

// read reads documents as the workload has it.
func (z *zipfRun) read(n int) {
	for range n {
		z.get(z.rank.Uint64())
	}
}

// counts are the values of a counter, by tier and another label.
func (z *zipfRun) counts(name, by string) map[string]float64 {
	families, err := z.reg.Gather()
	if err != nil {
		z.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			label := map[string]string{}
			for _, l := range m.GetLabel() {
				label[l.GetName()] = l.GetValue()
			}
			out[label["tier"]+" "+label[by]] = m.GetCounter().GetValue()
		}
	}
	return out
}

const (
	zipfWarm  = 30_000
	zipfReads = 60_000
)
