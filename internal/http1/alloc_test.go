//go:build !race

package http1_test

import "testing"

// maxAllocs is what a call may allocate: the Answer, and the text of its head.
const maxAllocs = 2

func TestAllocationsPerCall(t *testing.T) {
	endpoint := fastServer(t, benchAnswer(200))
	call, buf := ownCall(t, newClient(t, endpoint)), make([]byte, 4096)
	got := testing.AllocsPerRun(500, func() { call(buf) })
	t.Logf("%v allocations", got)
	if got > maxAllocs {
		t.Errorf("%v allocations per call, at most %d", got, maxAllocs)
	}
}
