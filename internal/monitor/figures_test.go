package monitor

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/api"
)

// histogramFor counts times in the buckets of a schema.
func histogramFor(schema int32, times []float64) api.Histogram {
	h := api.Histogram{Schema: schema}
	by := map[int64]int64{}
	for _, s := range times {
		h.Count++
		h.Sum += s
		by[int64(math.Ceil(math.Log2(s)*math.Pow(2, float64(schema))))]++
	}
	for index, n := range by {
		h.Buckets = append(h.Buckets, [2]int64{index, n})
	}
	return h
}

// TestQuantiles: a quantile is as near to the true one as its bucket is wide, whatever was counted before.
func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	before, since := make([]float64, 500), make([]float64, 3000)
	for i := range before {
		before[i] = 0.1 * random.ExpFloat64()
	}
	for i := range since {
		since[i] = 0.002 * math.Exp(random.NormFloat64())
	}
	for _, schemas := range [][2]int32{{3, 3}, {3, 2}, {2, 1}} { // a histogram's buckets may become wider in between
		d := grownDurations(histogramFor(schemas[0], before), histogramFor(schemas[1], slices.Concat(before, since)))
		if d.count != uint64(len(since)) {
			t.Errorf("%v: %d, want %d", schemas, d.count, len(since))
		}
		sorted := slices.Sorted(slices.Values(since))
		for _, share := range []float64{.01, .5, .95, .99, 1} {
			want := sorted[int(share*float64(len(sorted)-1))]
			width := math.Pow(2, math.Pow(2, -float64(d.schema)))
			if got := d.quantile(share).Seconds(); got > want*width || got < want/width {
				t.Errorf("%v, p%v: %v, want %v", schemas, share*100, got, want)
			}
		}
	}
}

// TestHistogramBeginsAgain: one that has fewer than before was reset, and nothing becomes negative.
func TestHistogramBeginsAgain(t *testing.T) {
	d := grownDurations(histogramFor(3, []float64{1, 2, 4}), histogramFor(3, []float64{8}))
	if got := d.quantile(1).Seconds(); d.count != 1 || d.sum != 8 || math.Abs(got-8) > 1e-6 {
		t.Errorf("%+v", d)
	}
	for name, after := range map[string]api.Histogram{
		"as many, in other buckets": histogramFor(3, []float64{8, 8}),
		"more, in finer buckets":    histogramFor(4, []float64{1, 2, 8, 8}),
		"less that took no time":    {Count: 3, Sum: 16, Schema: 3, Buckets: histogramFor(3, []float64{8, 8}).Buckets},
	} {
		before := histogramFor(3, []float64{1, 2})
		before.Zero = after.Zero
		if strings.HasPrefix(name, "less") {
			before.Zero++
		}
		if d := grownDurations(before, after); d.count != after.Count || d.sum != after.Sum {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d := grownDurations(histogramFor(3, []float64{1}), api.Histogram{Count: 3, Schema: math.MaxInt32}); d.schema > maxSchema {
		t.Errorf("schema %d, of a recording that somebody made up", d.schema)
	}
	var none durations
	if none.quantile(.5) != 0 || none.mean() != 0 {
		t.Error("no calls have a time")
	}
	if d := durationsOf(api.Histogram{Count: 3, Zero: 3}); d.quantile(.99) != 0 {
		t.Error("no time is some")
	}
	if d := durationsOf(api.Histogram{Count: 1, Schema: -4, Buckets: [][2]int64{{1000, 1}}}); d.quantile(.5) != 365*24*time.Hour {
		t.Errorf("%v", d.quantile(.5))
	}
}

// TestChange: what the counters say, by METRICS.md's formulas.
func TestChange(t *testing.T) {
	before := &api.UpstreamSample{
		Requests: map[string]uint64{"ok": 10, "connect": 7}, SavedCalls: 5, SavedSeconds: 2, Shed: 3,
		Cache: map[string]map[string]uint64{"memory": {"hit": 5, "miss": 5}},
	}
	after := &api.UpstreamSample{
		Requests: map[string]uint64{"ok": 30, "tool_error": 1, "connect": 2}, SavedCalls: 12, SavedSeconds: 1, Shed: 3, Coalesced: 4,
		Cache: map[string]map[string]uint64{"memory": {"hit": 11, "miss": 15}, "redis": {"hit": 2, "miss": 8, "stale": 1}, "none": {"collapsed": 4, "stored": 5}},
	}
	c := changeOf(before, after, 2*time.Second)
	if c.requests != 23 || c.failed != 2 || c.savedCalls != 7 || c.savedSeconds != 1 || c.shed != 0 || c.coalesced != 4 {
		t.Errorf("%+v", c)
	}
	if s, ok := c.hitShare(); !ok || s != 13.0/20 || c.asked != 20 || c.hits["memory"] != 6 || c.hits["redis"] != 2 || c.stale != 1 {
		t.Errorf("share %v, %+v", s, c)
	}
	if got := c.rate(23); got != 11.5 {
		t.Errorf("%v a second", got)
	}
	if _, ok := new(change).hitShare(); ok || new(change).rate(5) != 0 {
		t.Error("of nothing there is no share and no rate")
	}
}

// TestUpstreamsComeAndGo: one that is new has its counters from zero; one that was away for a sample counts on.
func TestUpstreamsComeAndGo(t *testing.T) {
	d := newFakeDaemon("a", "b")
	var h history
	h.add(d.sample())
	d.names = []string{"a"}
	h.add(d.sample())
	d.names = []string{"a", "b", "c"}
	d.second = 0
	s := d.sample()
	s.At = began.Add(2 * time.Hour)
	next := h.add(s)
	if next.restarted || next.upstreams["c"].requests != 30 {
		t.Errorf("%+v", next)
	}
	if got := next.upstreams["b"].requests; got != 20 { // its counters are smaller than before: they began again
		t.Errorf("b: %d", got)
	}
}

// TestWindow: figures go over the last ten seconds, and sparklines have as many points as a wide terminal.
func TestWindow(t *testing.T) {
	d, h := newFakeDaemon("a"), history{}
	for range maxPoints + 50 {
		h.add(d.sample())
	}
	if n := len(h.all.changes); n != 10 || len(h.all.requests) != maxPoints {
		t.Errorf("%d changes, %d points", n, len(h.all.requests))
	}
	if last := h.all.last(); last.took != window {
		t.Errorf("over %v", last.took)
	}
}

// TestTexts: how figures are written.
func TestTexts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "-", 1500: "0.00ms", 420 * time.Microsecond: "0.42ms", 9996 * time.Microsecond: "10.0ms", 99960 * time.Microsecond: "100ms", 999600 * time.Microsecond: "1.0s",
		59960 * time.Millisecond: "1m00s", 61 * time.Minute: "1h01m", 50 * time.Hour: "2d02h", 1e6 * time.Hour: "41666d16h",
	} {
		if got := short(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0", 0.04: "0.0", 1.25: "1.2", 99.96: "100", 9999: "9999", 12_345: "12.3k", 2.5e6: "2500k", 3e21: "3000000P"} {
		if got := number(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0.0%", 0.9999: "99.9%", 1: "100%", 0.3: "30.0%"} {
		if got := percent(s, true); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
	for n, want := range map[int64]string{-1: "-", 5: "5 B", 1023 << 10: "1.0 MiB", 1 << 62: "4.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for _, c := range []struct {
		states []string
		want   string
	}{
		{nil, "-"}, {[]string{"closed"}, "closed"}, {[]string{"off"}, "off"}, {[]string{"closed", "open"}, "open 1/2"}, {[]string{"half-open", "closed"}, "half-open"}, {[]string{"open"}, "open"},
	} {
		var endpoints []api.EndpointSample
		for _, s := range c.states {
			endpoints = append(endpoints, api.EndpointSample{Breaker: s})
		}
		if got := breakers(endpoints); got != c.want {
			t.Errorf("%v: %s, want %s", c.states, got, c.want)
		}
	}
}

// TestFailedShare: a share of failures is none only where nothing failed, and all only where all did.
func TestFailedShare(t *testing.T) {
	for _, c := range []struct {
		failed, requests uint64
		want             string
	}{{0, 0, "-"}, {0, 10_000, "0.0%"}, {9, 10_000, "0.1%"}, {1, 1 << 50, "0.1%"}, {10, 10_000, "0.1%"}, {11, 10_000, "0.2%"}, {9_999, 10_000, "99.9%"}, {7, 7, "100%"}, {8, 7, "100%"}} {
		if got := failedShare(&change{failed: c.failed, requests: c.requests}); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.failed, c.requests, got, c.want)
		}
	}
}

// TestUnknownMemory: where the process table is not read the memory of processes is not nothing.
func TestUnknownMemory(t *testing.T) {
	d := newFakeDaemon(names(3)...)
	s := newScreen(t, d, 80, 24)
	for range 2 {
		sample := d.sample()
		for i := range sample.Upstreams[2].Processes {
			sample.Upstreams[2].Processes[i].RSS = 0
		}
		s.m.Update(sampleMsg{sample: sample})
	}
	s.shows("all", "processes 2 -", "!0 B")
	s.keys("down", "down", "enter")
	s.shows("one", "PID", "!0 B")
}

// TestWithPart: which part is shown covers no title, unless there is no room at all.
func TestWithPart(t *testing.T) {
	m := &model{glyphs: &asciiGlyphs, width: 20}
	for title, want := range map[string]string{
		"A       B          C": "A       B 1-2 of 3 C", "A             B    C": "A    1-2 of 3 B    C", "A": "A           1-2 of 3", "A       B      C   D": "A 1-2/3 B      C   D",
		"A B C D E F G H I JK": "A B C D E F G~ 1-2/3",
	} {
		if got := m.withPart(title, "1-2 of 3", "1-2/3"); got != want {
			t.Errorf("%q: %q, want %q", title, got, want)
		}
	}
}
