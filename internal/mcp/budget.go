package mcp

import "sync/atomic"

// Budget bounds bytes that are held at the same time, over all requests: their bodies, and answers that are held whole. A
// nil Budget bounds nothing. It is safe for concurrent use.
type Budget struct {
	limit int64
	held  atomic.Int64
}

// NewBudget returns a Budget of that many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Take reports whether n bytes more may be held. Whoever takes them puts them back, once.
func (b *Budget) Take(n int) bool {
	if b == nil {
		return true
	}
	for { // one that is refused is no reason to refuse others beside it
		held := b.held.Load()
		if held+int64(n) > b.limit {
			return false
		}
		if b.held.CompareAndSwap(held, held+int64(n)) {
			return true
		}
	}
}

// Put gives bytes back that were taken.
func (b *Budget) Put(n int) {
	if b != nil {
		b.held.Add(-int64(n))
	}
}

// Held returns how many bytes are held now.
func (b *Budget) Held() int64 { return b.held.Load() }
