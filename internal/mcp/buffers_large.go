package mcp

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxLargeKept is how many bytes of large buffers a BufferPool keeps at most, all sizes together.
	maxLargeKept = 32 << 20
	// sweepEvery is how long a large buffer may lie unused, to twice as long, before it is dropped.
	sweepEvery = time.Minute
)

// largeBuffers keeps the large slices of a BufferPool: at most maxLargeKept bytes, which is more than a sync.Pool promises,
// and over garbage collections, which large slices bring about. What lies unused for a minute is dropped, by a timer that
// runs as long as there is something.
type largeBuffers struct {
	mu       sync.Mutex // guards the following
	sizes    [maxBufferBits - maxSmallBits]largeStack
	kept     int // bytes
	sweeping bool
}

// largeStack is the kept slices of one size. The one given back last is used first.
type largeStack struct {
	slices [][]byte
	unused int // so many of the first have been there since the last sweep
}

// get returns a slice of the size class, nil if there is none.
func (l *largeBuffers) get(class int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.sizes[class]
	last := len(s.slices) - 1
	if last < 0 {
		return nil
	}
	b := s.slices[last]
	s.slices[last] = nil
	s.slices = s.slices[:last]
	s.unused = min(s.unused, last)
	l.kept -= cap(b)
	return b
}

// put keeps a slice of the size class, and reports whether there was room for it.
func (l *largeBuffers) put(class int, b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept+cap(b) > maxLargeKept {
		return false
	}
	s := &l.sizes[class]
	s.slices = append(s.slices, b[:0])
	l.kept += cap(b)
	if !l.sweeping {
		l.sweeping = true
		time.AfterFunc(sweepEvery, l.sweep)
	}
	return true
}

// Kept returns how many bytes of large slices are kept for their next use. Small ones go with the next garbage collections, and are not
// counted.
func (p *BufferPool) Kept() int {
	p.large.mu.Lock()
	defer p.large.mu.Unlock()
	return p.large.kept
}

// sweep drops what has not been used since the last sweep.
func (l *largeBuffers) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.sizes {
		s := &l.sizes[i]
		for _, b := range s.slices[:s.unused] {
			l.kept -= cap(b)
		}
		s.slices = slices.Delete(s.slices, 0, s.unused)
		s.unused = len(s.slices)
	}
	if l.sweeping = l.kept > 0; l.sweeping {
		time.AfterFunc(sweepEvery, l.sweep)
	}
}
