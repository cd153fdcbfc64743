//go:build !race

package daemon

import (
	"fmt"
	"strings"
	"testing"
)

// maxHitAllocs is what a hit in memory may cost in allocations, from the request's bytes to the one write of the answer.
const maxHitAllocs = 8

// allocHeaders are what agents send, names and values.
var allocHeaders = map[string][]string{
	"Python's headers": nil, "fetch's headers": benchFetch,
	"a browser's headers": {
		"Origin", "http://127.0.0.1:7300", "Traceparent", "00-0-0-01", "X-Request-Id", "1", "X-Api-Key", "k", "Baggage", "b",
		"Accept-Language", "*", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin",
	},
}

// TestHitAllocations holds the price of a hit. It leaves the race detector out, which has sync.Pool forget at random.
func TestHitAllocations(t *testing.T) {
	for _, h := range benchHits {
		for name, fields := range allocHeaders {
			t.Run(h.name+", "+name, func(t *testing.T) {
				h.warm(t, fields...).wantAllocs(t, maxHitAllocs)
			})
		}
	}
}

// TestPageHitAllocations holds that a later page costs no more, though the first one has to be there.
func TestPageHitAllocations(t *testing.T) {
	for _, h := range benchHits {
		for name, fields := range allocHeaders {
			t.Run(h.name+", "+name, func(t *testing.T) {
				a := h.warm(t, fields...)
				a.asks(h.with(`"cursor":"2"`))
				a.wantAllocs(t, maxHitAllocs)
			})
		}
	}
}

// TestLargeRequestAllocations holds that a hit costs one more for a larger request, which is the memory of its body, first page or
// later one: up to what may be cached at all.
func TestLargeRequestAllocations(t *testing.T) {
	for _, h := range benchHits {
		for _, size := range []int{1 << 10, 4 << 10, 60 << 10} {
			for _, params := range []string{`"x":`, `"cursor":"2","x":`, `"cursor":`} {
				t.Run(fmt.Sprintf("%s, %d bytes of %s", h.name, size, params), func(t *testing.T) {
					a := h.warm(t, allocHeaders["a browser's headers"]...)
					if first, found := strings.CutPrefix(params, `"cursor":"2",`); found {
						a.asks(h.with(first + allocText(size)))
					}
					a.asks(h.with(params + allocText(size)))
					a.wantAllocs(t, maxHitAllocs+1)
				})
			}
		}
	}
}

func allocText(size int) string { return `"` + strings.Repeat("x", size) + `"` }

// with is the body of a request for the hit's list with more params.
func (h benchHit) with(params string) string {
	if !h.legacy {
		params += "," + pipeMeta
	}
	return `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{` + params + `}}`
}

// asks sends another request once, whose answer is kept.
func (a *benchAgent) asks(body string) {
	a.body = []byte(body)
	a.req.ContentLength = int64(len(body))
	a.post()
}

// wantAllocs checks what the agent's next requests cost, which are hits.
func (a *benchAgent) wantAllocs(t *testing.T, most float64) {
	t.Helper()
	a.post()
	a.wantHit(t)
	got := testing.AllocsPerRun(1000, a.post)
	a.wantHit(t)
	t.Logf("%v allocations", got)
	if got > most {
		t.Errorf("%v allocations per hit, at most %v", got, most)
	}
}

// BenchmarkPageHit is BenchmarkCacheHit for a later page, whose first one is looked for as well.
func BenchmarkPageHit(b *testing.B) {
	for _, h := range benchHits {
		b.Run(h.name, func(b *testing.B) {
			a := h.warm(b, benchFetch...)
			a.asks(h.with(`"cursor":"2"`))
			b.ReportAllocs()
			for b.Loop() {
				a.post()
			}
			a.wantHit(b)
		})
	}
}
