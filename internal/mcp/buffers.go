package mcp

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// The sizes of the buffers that a BufferPool keeps: the powers of two from 512 B to 256 KiB.
const (
	minBufferBits = 9
	maxBufferBits = 18
)

// BufferPool keeps byte slices for use again, by size. Larger ones than 256 KiB are made when asked for and left to the
// garbage collector, so that one huge message does not stay in memory for ever. The zero BufferPool is ready, a nil one
// keeps nothing. It is safe for concurrent use.
type BufferPool struct {
	sizes [maxBufferBits - minBufferBits + 1]sync.Pool // of *[]byte
	boxes sync.Pool                                    // of *[]byte without a slice: what Put needs to not allocate

	gets, misses, discards atomic.Uint64
}

// Get returns an empty slice with room for n bytes or more. What lies in that room is left over from former use.
func (p *BufferPool) Get(n int) []byte {
	if p == nil {
		return make([]byte, 0, n)
	}
	p.gets.Add(1)
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits)
	if class > maxBufferBits {
		p.misses.Add(1)
		return make([]byte, 0, n)
	}
	box, ok := p.sizes[class-minBufferBits].Get().(*[]byte)
	if !ok {
		p.misses.Add(1)
		return make([]byte, 0, 1<<class)
	}
	b := *box
	*box = nil
	p.boxes.Put(box)
	return b
}

// Put gives a slice back, one of Get's or any other. The caller keeps no reference to its memory. Slices with room for
// less than 512 B or more than 256 KiB are dropped.
func (p *BufferPool) Put(b []byte) {
	if p == nil || cap(b) == 0 {
		return
	}
	class := bits.Len(uint(cap(b))) - 1
	if class < minBufferBits || cap(b) > 1<<maxBufferBits {
		p.discards.Add(1)
		return
	}
	box, ok := p.boxes.Get().(*[]byte)
	if !ok {
		box = new([]byte)
	}
	*box = b[:0]
	p.sizes[class-minBufferBits].Put(box)
}

// Stats returns how many slices were asked for since the start, how many of those had to be made, and how many that came
// back were dropped.
func (p *BufferPool) Stats() (gets, misses, discards uint64) {
	if p == nil {
		return 0, 0, 0
	}
	return p.gets.Load(), p.misses.Load(), p.discards.Load()
}
