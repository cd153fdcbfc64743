package sqldb

import (
	"database/sql/driver"
	"sync"

	"fluentd-perf/internal/cache/tier"
)

// index is which rows a file has: who asks for another one need not ask the file, and nobody counts them. What the writer
// changes in the file it changes here after the commit.
type index struct {
	mu  sync.RWMutex // guards ids
	ids map[int64]struct{}
}

// loadIndex reads the ids of all entries, once.
func loadIndex(c *sqliteConn) (*index, error) {
	x := &index{ids: map[int64]struct{}{}}
	err := c.query("SELECT id FROM entries", func(row []driver.Value) error {
		id, _ := row[0].(int64)
		x.ids[id] = struct{}{}
		return nil
	})
	return x, err
}

// hasAny reports whether there may be an entry for one of the keys.
func (x *index) hasAny(keys []tier.Key) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := range keys {
		if _, ok := x.ids[rowOf(&keys[i])]; ok {
			return true
		}
	}
	return false
}

// indexed is a row that is there from now on, or is not.
type indexed struct {
	id    int64
	there bool
}

func (x *index) note(changes []indexed) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range changes {
		if c.there {
			x.ids[c.id] = struct{}{}
		} else {
			delete(x.ids, c.id)
		}
	}
}

func (x *index) len() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return int64(len(x.ids))
}
