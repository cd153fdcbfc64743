//go:build !race

package cache

import (
	"context"
	"testing"
)

// maxPlainAllocs is what the stage may cost of the eight of a hit.
const maxPlainAllocs = 3

// TestPlainHitAllocations holds the price. It leaves the race detector out, which has sync.Pool forget at random.
func TestPlainHitAllocations(t *testing.T) {
	for _, size := range []int{1 << 10, 50 << 10} {
		front, c := plainHit(t, size)
		got := testing.AllocsPerRun(1000, func() {
			res, err := front.Call(context.Background(), c)
			if err != nil || !res.Checked {
				t.Fatal(err)
			}
			_ = res.Close()
		})
		t.Logf("%d bytes: %v allocations", size, got)
		if got > maxPlainAllocs {
			t.Errorf("%v allocations, at most %d", got, maxPlainAllocs)
		}
	}
}
