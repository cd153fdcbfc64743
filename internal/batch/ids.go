package batch

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync/atomic"
)

// ids makes the JSON-RPC ids of flights: strings that no agent uses and that nobody can guess.
type ids struct {
	prefix string // with the opening quote
	last   atomic.Uint64
}

func (d *ids) init() {
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails
	d.prefix = `"fluentd-perf-` + hex.EncodeToString(random[:]) + "-"
}

// next returns the next id, quotes included.
func (d *ids) next() []byte {
	id := make([]byte, 0, len(d.prefix)+21)
	id = append(id, d.prefix...)
	id = strconv.AppendUint(id, d.last.Add(1), 10)
	return append(id, '"')
}
