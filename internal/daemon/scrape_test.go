package daemon

import (
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestScrapeCountsAllocations: a scrape has all that was allocated before it, also what the runtime has not added up yet.
func TestScrapeCountsAllocations(t *testing.T) {
	const each = 100
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "objects"}, func() float64 {
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
		metrics.Read(sample)
		scraped = sample[0].Value.Uint64()
		return 0
	}))
	h := scrapeHandler(reg)
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	for range each { // of several sizes, each in spans of its own
		small, medium, large, larger = new([2]*int), new([4]*int), new([8]*int), new([12]*int)
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	if n := scraped - before.Mallocs; n < 4*each {
		t.Errorf("%d of %d objects were counted", n, 4*each)
	}
}

var (
	scraped uint64
	small   *[2]*int // or they would not be allocated
	medium  *[4]*int
	large   *[8]*int
	larger  *[12]*int
)
