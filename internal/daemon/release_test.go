package daemon

import (
	"slices"
	"testing"
)

// TestRelease: memory is given back once after each burst, when that is over, and not for a little.
func TestRelease(t *testing.T) {
	var allocated uint64
	released := 0
	r := &releaser{allocated: func() uint64 { return allocated }, release: func() { released++ }}
	var got []int
	for _, mebibytes := range []uint64{8, 0, 0, 20, 20, 0, 0, 1, 0, 1, 1, 1, 0} { // between two looks
		allocated += mebibytes << 20
		r.look()
		got = append(got, released)
	}
	if want := []int{0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3}; !slices.Equal(got, want) {
		t.Errorf("released %v, want %v", got, want)
	}
}

// TestAllocated: what Go says of it grows.
func TestAllocated(t *testing.T) {
	before := allocatedBytes()
	slack = make([]byte, 1<<20)
	if grown := allocatedBytes() - before; grown < 1<<20 {
		t.Errorf("grown by %d bytes", grown)
	}
}

var slack []byte // or it would not be allocated
