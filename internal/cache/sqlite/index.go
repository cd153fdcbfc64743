package sqlite

import (
	"database/sql/driver"
	"encoding/binary"
	"sync"

	"fluentd-perf/internal/cache/tier"
)

// rowOf is the rowid of a key's entry.
func rowOf(key *tier.Key) int64 { return int64(binary.BigEndian.Uint64(key[:])) }

// index is which rows a file has: who asks for another one need not ask the file, and nobody counts them. What the writer
// changes in the file it changes here after the commit.
type index struct {
	mu  sync.RWMutex // guards ids
	ids map[int64]struct{}
}

// loadIndex reads the ids of all entries, once.
func loadIndex(c *conn) (*index, error) {
	x := &index{ids: map[int64]struct{}{}}
	err := c.query("SELECT id FROM entries", func(row []driver.Value) {
		id, _ := row[0].(int64)
		x.ids[id] = struct{}{}
	})
	return x, err
}

// hasAny reports whether there may be an entry for one of the lookups.
func (x *index) hasAny(lookups []tier.Lookup) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := range lookups {
		if _, ok := x.ids[rowOf(&lookups[i].Key)]; ok {
			return true
		}
	}
	return false
}

// note takes over what a transaction did: rows that are there from now on, or are not.
func (x *index) note(there map[int64]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, there := range there {
		if there {
			x.ids[id] = struct{}{}
		} else {
			delete(x.ids, id)
		}
	}
}

func (x *index) len() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return int64(len(x.ids))
}
