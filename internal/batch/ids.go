package batch

import (
	"math/rand/v2"
	"strconv"
	"sync/atomic"
)

// ids makes the JSON-RPC ids of calls that the daemon makes or takes apart: integers, since some servers take nothing else,
// that every double holds (RFC 8259, 6), and that no agent is likely to use. All of them have idDigits digits.
type ids struct {
	first uint64 // does not change after init
	last  atomic.Uint64
}

const (
	lowestID = 1 << 52
	idRoom   = 1 << 51 // for those that follow the first: below 1<<53
	idDigits = 16
)

func (d *ids) init() {
	d.first = lowestID + rand.Uint64N(idRoom)
	d.last.Store(d.first)
}

// next returns the next id.
func (d *ids) next() []byte { return strconv.AppendUint(make([]byte, 0, idDigits), d.last.Add(1), 10) }

// named reports whether one of the ids that were given out stands anywhere in b.
func (d *ids) named(b []byte) bool {
	for i := 0; i < len(b); i++ {
		start := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
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
