package loadgen

import (
	"math/rand/v2"
	"sync/atomic"
)

// keysInBlock is how many keys a Work has before it meets those of another.
const keysInBlock = 1 << 23

var (
	nextID   atomic.Int64 // of requests: none is used twice, in whatever session
	nextKeys = func() *atomic.Int64 {
		n := new(atomic.Int64)
		n.Store(rand.Int64N(9 * firstNumber)) // what an earlier program called with is in a daemon's cache perhaps
		return n
	}()
)

// NewKeys returns the first of about 8 million keys that nobody else of this program is given.
func NewKeys() int64 { return nextKeys.Add(keysInBlock) }

// takeIDs returns the first of n ids.
func takeIDs(n int) int64 { return nextID.Add(int64(n)) - int64(n) }
