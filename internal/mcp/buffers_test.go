package mcp_test

import (
	"sync"
	"testing"

	"fluentd-perf/internal/mcp"
)

func TestBufferPoolGivesRoom(t *testing.T) {
	var pool mcp.BufferPool
	for _, tt := range []struct{ n, room int }{
		{0, 512}, {-1, 512}, {1, 512}, {512, 512}, {513, 1024}, {1024, 1024}, {1025, 2048}, {100_000, 1 << 17}, {1<<18 - 1, 1 << 18}, {1 << 18, 1 << 18},
		{1<<18 + 1, 1 << 19}, {1 << 19, 1 << 19}, {1_000_000, 1 << 20}, {1<<21 + 1, 1 << 22}, {1 << 22, 1 << 22},
	} {
		if b := pool.Get(tt.n); len(b) != 0 || cap(b) != tt.room {
			t.Errorf("Get(%d): %d of %d bytes", tt.n, len(b), cap(b))
		}
	}
	if b := pool.Get(1<<22 + 1); len(b) != 0 || cap(b) < 1<<22+1 || cap(b) > 1<<23 {
		t.Errorf("one too large to keep: %d of %d bytes", len(b), cap(b))
	}
}

func TestBufferPoolTakesAnySlice(t *testing.T) {
	var pool mcp.BufferPool
	pool.Put(nil)
	for _, room := range []int{1, 511, 512, 513, 1023, 1024, 100_000, 1 << 18, 1<<18 + 1, 1<<19 - 1, 1 << 19, 1 << 20, 3_000_000, 1 << 22, 1<<22 + 1} {
		pool.Put(make([]byte, room/2, room))
	}
	for n := 1; n < 1<<24; n *= 2 {
		if b := pool.Get(n); len(b) != 0 || cap(b) < n {
			t.Errorf("Get(%d): %d of %d bytes", n, len(b), cap(b))
		}
	}
	if _, _, discards := pool.Stats(); discards != 5 {
		t.Errorf("%d discards, want those of 1, 511, 2^18+1, 2^19-1 and 2^22+1 bytes", discards)
	}
}

func TestBufferPoolCounts(t *testing.T) {
	var pool mcp.BufferPool
	pool.Get(1000)
	pool.Get(1 << 20)
	gets, misses, discards := pool.Stats()
	if gets != 2 || misses != 2 || discards != 0 {
		t.Errorf("%d gets, %d misses, %d discards", gets, misses, discards)
	}
	var none *mcp.BufferPool
	none.Put(none.Get(10))
	if b := none.Get(10); cap(b) < 10 {
		t.Errorf("no pool: %d bytes", cap(b))
	}
	if gets, misses, discards = none.Stats(); gets+misses+discards != 0 {
		t.Error("no pool counts")
	}
}

// TestBufferPoolNeverSharesABuffer has many write into their buffers at once; the race detector looks on.
func TestBufferPoolNeverSharesABuffer(t *testing.T) {
	var pool mcp.BufferPool
	var group sync.WaitGroup
	for mark := range byte(8) {
		group.Go(func() {
			for i := range 2000 {
				b := pool.Get(512 << (i % 3))
				b = b[:cap(b)]
				for j := range b[:64] {
					b[j] = mark
				}
				for j := range b[:64] {
					if b[j] != mark {
						t.Errorf("a buffer of two owners")
						return
					}
				}
				pool.Put(b)
			}
		})
	}
	group.Wait()
	if gets, misses, _ := pool.Stats(); gets != 16_000 || misses > gets {
		t.Errorf("%d gets, %d misses", gets, misses)
	}
}
