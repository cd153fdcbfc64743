package mcp

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// The sizes of the buffers that a BufferPool keeps: the powers of two from 512 B to 4 MiB, of which those over 256 KiB are
// large.
const (
	minBufferBits = 9
	maxSmallBits  = 18
	maxBufferBits = 22
)

// BufferPool keeps byte slices for use again, by size. Of those over 256 KiB it keeps at most 32 MiB in all, and each for a
// minute or two without use; larger ones than 4 MiB are made when asked for and left to the garbage collector. So no burst
// of huge messages stays in memory for ever. The zero BufferPool is ready, a nil one keeps nothing. It is safe for
// concurrent use.
type BufferPool struct {
	sizes [maxSmallBits - minBufferBits + 1]sync.Pool // of *[]byte
	large largeBuffers
	boxes sync.Pool // of *[]byte without a slice: what Put needs to not allocate

	gets, misses, discards atomic.Uint64
}

// Get returns an empty slice with room for n bytes or more. What lies in that room is left over from former use.
func (p *BufferPool) Get(n int) []byte {
	if p == nil {
		return make([]byte, 0, n)
	}
	p.gets.Add(1)
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits)
	switch {
	case class > maxBufferBits:
		p.misses.Add(1)
		return make([]byte, 0, n)
	case class > maxSmallBits:
		if b := p.large.get(class - maxSmallBits - 1); b != nil {
			return b
		}
		p.misses.Add(1)
		return make([]byte, 0, 1<<class)
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
// less than 512 B or more than 4 MiB are dropped, as are large ones that serve no large size (of less than 512 KiB) or for
// which there is no room.
func (p *BufferPool) Put(b []byte) {
	if p == nil || cap(b) == 0 {
		return
	}
	class := bits.Len(uint(cap(b))) - 1
	switch {
	case class < minBufferBits || cap(b) > 1<<maxBufferBits || class == maxSmallBits && cap(b) > 1<<maxSmallBits:
		p.discards.Add(1)
		return
	case class > maxSmallBits:
		if !p.large.put(class-maxSmallBits-1, b) {
			p.discards.Add(1)
		}
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
