//go:build !race

package main

import "testing"

// maxHitAllocs is what a hit in memory may cost in allocations, from the request's bytes to the one write of the answer.
const maxHitAllocs = 12

// TestHitAllocations holds the price of a hit. It leaves the race detector out, which has sync.Pool forget at random.
func TestHitAllocations(t *testing.T) {
	for _, h := range benchHits {
		for name, fields := range map[string][]string{
			"Python's headers": nil, "fetch's headers": benchFetch,
			"a browser's headers": {
				"Origin", "http://127.0.0.1:7300", "Traceparent", "00-0-0-01", "X-Request-Id", "1", "X-Api-Key", "k", "Baggage", "b",
				"Accept-Language", "*", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin",
			},
		} {
			t.Run(h.name+", "+name, func(t *testing.T) {
				a := h.warm(t, fields...)
				got := testing.AllocsPerRun(1000, a.post)
				a.wantHit(t)
				t.Logf("%v allocations", got)
				if got > maxHitAllocs {
					t.Errorf("%v allocations per hit, at most %d", got, maxHitAllocs)
				}
			})
		}
	}
}

// TestPageHitAllocations holds the price of a later page: two more, since the first one is read as well.
func TestPageHitAllocations(t *testing.T) {
	for _, h := range benchHits {
		if h.legacy {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			a := h.warm(t, benchFetch...)
			a.body = []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"cursor":"2",` + pipeMeta + `}}`)
			a.req.ContentLength = int64(len(a.body))
			a.post()
			got := testing.AllocsPerRun(1000, a.post)
			a.wantHit(t)
			t.Logf("%v allocations", got)
			if got > maxHitAllocs+2 {
				t.Errorf("%v allocations per hit, at most %d", got, maxHitAllocs+2)
			}
		})
	}
}
