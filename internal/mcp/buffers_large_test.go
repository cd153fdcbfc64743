package mcp_test

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

const maxLargeKept = 32 << 20

// put gives back n slices with room for size bytes each, and returns how many of them were kept.
func put(pool *mcp.BufferPool, n, size int) (kept int) {
	_, _, before := pool.Stats()
	for range n {
		pool.Put(make([]byte, size))
	}
	_, _, after := pool.Stats()
	return n - int(after-before)
}

// drain takes n slices of size bytes, and returns how many the pool had.
func drain(pool *mcp.BufferPool, n, size int) (had int) {
	_, before, _ := pool.Stats()
	for range n {
		pool.Get(size)
	}
	_, after, _ := pool.Stats()
	return n - int(after-before)
}

// TestBufferPoolKeepsLargeOnes checks that a large slice comes back, over garbage collections too, and once only.
func TestBufferPoolKeepsLargeOnes(t *testing.T) {
	for _, size := range []int{1<<18 + 1, 1 << 19, 1_000_000, 1<<20 + 1, 4_000_000, 1 << 22} {
		var pool mcp.BufferPool
		b := pool.Get(size)
		pool.Put(append(b, "left over"...))
		for range 3 {
			runtime.GC()
		}
		if got := pool.Kept(); got != cap(b) {
			t.Errorf("%d bytes: %d are said to be kept", size, got)
		}
		again, other := pool.Get(size), pool.Get(size)
		if &again[:1][0] != &b[:1][0] || len(again) != 0 || cap(again) != cap(b) {
			t.Errorf("%d bytes: another one, %d of %d bytes", size, len(again), cap(again))
		}
		if &other[:1][0] == &b[:1][0] {
			t.Errorf("%d bytes: one of two owners", size)
		}
		if gets, misses, discards := pool.Stats(); gets != 3 || misses != 2 || discards != 0 || pool.Kept() != 0 {
			t.Errorf("%d bytes: %d gets, %d misses, %d discards", size, gets, misses, discards)
		}
	}
}

// TestBufferPoolBoundsWhatIsLarge counts what is kept to the byte, over all sizes.
func TestBufferPoolBoundsWhatIsLarge(t *testing.T) {
	var pool mcp.BufferPool
	if n := put(&pool, 10, 4<<20); n != 8 {
		t.Errorf("kept %d of 4 MiB", n)
	}
	if n := put(&pool, 1, 1<<19) + drain(&pool, 1, 1<<19); n != 0 {
		t.Error("kept one more, of another size")
	}
	if n := put(&pool, 100, 1<<18) + put(&pool, 100, 512); n != 200 {
		t.Errorf("kept %d of 200 that are not large", n)
	}
	if n := drain(&pool, 2, 4<<20); n != 2 {
		t.Errorf("had %d of two", n)
	}
	// Room for 8 MiB: odd sizes count as what they are.
	if n := put(&pool, 1, 3<<20) + put(&pool, 1, 2<<20+1) + put(&pool, 1, 3<<20-1) + put(&pool, 1, 1<<19); n != 3 {
		t.Errorf("kept %d of four, want the three that fill it", n)
	}
	if n := drain(&pool, 4, 2<<20) + drain(&pool, 10, 4<<20); n != 3+6 {
		t.Errorf("had %d, want 9", n)
	}
	if n := put(&pool, 100, 1<<19); n != 64 {
		t.Errorf("kept %d of 512 KiB when empty", n)
	}
}

// TestBufferPoolDropsWhatLiesUnused leaves large slices alone, all of them or some.
func TestBufferPoolDropsWhatLiesUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pool mcp.BufferPool
		put(&pool, 4, 1<<20)
		put(&pool, 4, 1<<21)
		time.Sleep(59 * time.Second)
		put(&pool, 1, 1<<22) // is younger than a minute at the next sweep
		for range 10 {       // two are used all the time
			a, b := pool.Get(1<<20), pool.Get(1<<20)
			pool.Put(a)
			pool.Put(b)
			time.Sleep(10 * time.Second)
		}
		if n := drain(&pool, 4, 1<<20); n != 2 {
			t.Errorf("%d left, want the two that are used", n)
		}
		if n := drain(&pool, 4, 1<<21); n != 0 {
			t.Errorf("%d left that nobody has used", n)
		}
		if n := put(&pool, 8, 1<<22); n != 8 {
			t.Errorf("%d kept: what was dropped still counts", n)
		}
		time.Sleep(2 * time.Minute)
		if n := drain(&pool, 8, 1<<22); n != 0 {
			t.Errorf("%d left after two minutes", n)
		}
		if _, _, discards := pool.Stats(); discards != 0 {
			t.Errorf("%d discards: they are for what was never kept", discards)
		}
		if n := put(&pool, 1, 1<<20); n != 1 { // after the timer has ended
			t.Error("not kept")
		}
		time.Sleep(59 * time.Second)
		if n := drain(&pool, 1, 1<<20); n != 1 {
			t.Error("dropped before its minute was over")
		}
	})
}

// TestBufferPoolSweepsWhileSomeAreOut has slices be in use during a sweep that were there during the last.
func TestBufferPoolSweepsWhileSomeAreOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pool mcp.BufferPool
		put(&pool, 3, 1<<20)
		time.Sleep(61 * time.Second)
		a, b := pool.Get(1<<20), pool.Get(1<<20)
		time.Sleep(time.Minute) // the third goes
		pool.Put(a)
		pool.Put(b)
		time.Sleep(time.Minute) // they are younger than that
		if n := drain(&pool, 3, 1<<20); n != 2 {
			t.Errorf("%d left, want 2", n)
		}
		if n := put(&pool, 9, 1<<22); n != 8 {
			t.Errorf("%d of 4 MiB kept when empty", n)
		}
	})
}

// TestBufferPoolIsBoundedUnderLoad has many take and give back large slices at once, and counts what is left.
func TestBufferPoolIsBoundedUnderLoad(t *testing.T) {
	var pool mcp.BufferPool
	var group sync.WaitGroup
	for mark := range byte(8) {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(mark)))
			var own [][]byte
			for range 300 {
				b := pool.Get(1 << (19 + random.IntN(4)))
				b = b[:1]
				b[0] = mark
				if own = append(own, b); len(own) > 3 {
					i := random.IntN(len(own))
					if own[i][0] != mark {
						t.Error("a buffer of two owners")
					}
					pool.Put(own[i])
					own = append(own[:i], own[i+1:]...)
				}
			}
			for _, b := range own {
				pool.Put(b)
			}
		})
	}
	group.Wait()
	left := 0
	for bits := 19; bits <= 22; bits++ {
		left += drain(&pool, maxLargeKept>>bits+1, 1<<bits) << bits
	}
	if gets, misses, _ := pool.Stats(); left > maxLargeKept || left == 0 || gets != 2400+65+33+17+9 || misses > gets {
		t.Errorf("%d bytes left, %d gets, %d misses", left, gets, misses)
	}
}
