package mcp

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
)

// IDs makes the JSON-RPC ids of calls that the daemon makes or takes apart: integers, since some servers take nothing else,
// that every double holds (RFC 8259, 6), and that no agent is likely to use. All of them have the same length. It is safe for
// concurrent use.
type IDs struct {
	first uint64 // is not an id, and does not change
	last  atomic.Uint64
}

const (
	lowestID = 1 << 52
	idRoom   = 1 << 51 // for those that follow the first: below 1<<53
	idDigits = 16
)

// NewIDs returns IDs that begin at a random number.
func NewIDs() *IDs {
	d := &IDs{first: lowestID + rand.Uint64N(idRoom)}
	d.last.Store(d.first)
	return d
}

// Next returns the next id.
func (d *IDs) Next() []byte { return strconv.AppendUint(make([]byte, 0, idDigits), d.last.Add(1), 10) }

// Named reports whether one of the ids that Next has returned stands anywhere in b.
func (d *IDs) Named(b []byte) bool {
	for i := 0; i < len(b); i++ {
		start := i
		for i < len(b) && isDigit(b[i]) {
			i++
		}
		if i-start != idDigits {
			continue
		}
		if n, err := strconv.ParseUint(string(b[start:i]), 10, 64); err == nil && n > d.first && n <= d.last.Load() {
			return true
		}
	}
	return false
}
