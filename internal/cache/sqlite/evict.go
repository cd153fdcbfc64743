package sqlite

import (
	"database/sql/driver"
	"math"
	"time"
)

// The file never shrinks and never grows above its limit: what was deleted is used again. Entries are evicted in time, before
// SQLite itself refuses. What expires first goes first.
const (
	maxDeleted = 256                   // entries that a transaction deletes
	sweepPause = 10 * time.Millisecond // between two of those
)

// walBytes is what the -wal is cut back to. It is begun anew when a quarter of that is in it and nobody reads, so that
// it is as large as that and one transaction, and the file may have all but twice as much.
func (t *adapter) walBytes() int64 { return min(8<<20, t.opt.MaxBytes/8) }

// batchBytes is what a transaction writes at most, or one value.
func (t *adapter) batchBytes() int64 { return t.walBytes() / 2 }

// maxPages is the limit of the file itself.
func (t *adapter) maxPages() int64 { return (t.opt.MaxBytes - 2*t.walBytes()) / pageSize }

// costOf is what an entry with a stored value of that many bytes takes of a transaction: beside the value, a leaf of the
// table and one of the index.
func costOf(stored int64) int64 { return stored + 2*pageSize }

// sizeOf is what an entry with a stored value of that many bytes leaves free when it goes.
func sizeOf(stored int64) int64 { return stored + tokenSize }

// tokenSize is what a token takes in bytes, and an entry beside its value.
const tokenSize = 64

// sweep deletes some of what has expired and returns when to go on.
func (w *writer) sweep() time.Duration {
	now := time.Now()
	_, n, err := w.deleteSoonest(math.MaxInt64, "WHERE expires <= ?", now.UnixMilli())
	if err == nil && n < w.deletionLimit() && now.Sub(w.swept) > tokenTouch {
		w.swept = now
		err = w.sweepTokens(now.Add(-tokenLife))
	}
	if err != nil {
		w.file.failed(err)
		w.file.tier.opt.Log.Warn("expired entries cannot be deleted from the cache's file", "error", err)
	}
	if n == w.deletionLimit() {
		return sweepPause
	}
	return w.file.tier.opt.Sweep
}

func (w *writer) sweepTokens(unused time.Time) error {
	err := w.conn.exec("DELETE FROM tokens WHERE used < ?", unused.Unix())
	if err == nil {
		w.file.contents.dropUnused(unused)
	}
	return err
}

// evictWhenFull counts the pages when enough has been written. Where few are left, somewhat more goes than came: what goes
// leaves holes in pages, which what comes later fills.
func (w *writer) evictWhenFull() {
	limit := w.file.tier.maxPages()
	if w.stored < limit*pageSize/64 {
		return
	}
	stored := w.stored
	w.stored = 0
	all, free, err := pages(w.conn)
	if err == nil && all-free > limit*7/8 {
		err = w.evict(stored + stored/4)
	}
	if err != nil {
		w.file.failed(err)
		w.file.tier.warnFull.Do(func() { w.file.tier.opt.Log.Warn("no space can be freed in the cache's file", "error", err) })
	}
}

// freeSpace frees what a batch needs after SQLite has said that there is no space, and a part of what is used beside, since
// what goes leaves holes in pages. Where it is the disk that has none, it gives back what the -wal takes, and frees no
// more than the batch needs.
func (w *writer) freeSpace(b batch, part int64) error {
	_ = w.conn.script("PRAGMA wal_checkpoint(TRUNCATE)") // evicting will tell
	all, free, err := pages(w.conn)
	if err != nil {
		return err
	}
	if all < w.file.tier.maxPages()-b.cost/pageSize {
		return w.evict(b.cost - free*pageSize)
	}
	before := w.file.tier.evictions.Load()
	err = w.evict((all-free)*pageSize/part + b.size)
	if err == nil && w.file.tier.evictions.Load() == before { // the file is full of tokens
		err = w.sweepTokens(time.Now().Add(time.Second))
	}
	return err
}

// evict deletes the entries that expire first until they have left so many bytes free, or there are no more.
func (w *writer) evict(size int64) error {
	for size > 0 {
		freed, entries, err := w.deleteSoonest(size, "")
		if err != nil || entries == 0 {
			return err
		}
		size -= freed
		w.file.tier.evictions.Add(entries)
	}
	return nil
}

// deletionLimit is how many entries a transaction may delete, for the -wal to bear it.
func (w *writer) deletionLimit() int64 { return min(maxDeleted, w.file.tier.batchBytes()/costOf(0)) }

// deleteSoonest deletes, in one transaction, those entries that expire first, until they have left so many bytes free or are
// as many as deletionLimit. Which may go at all is said by where.
func (w *writer) deleteSoonest(size int64, where string, args ...driver.Value) (freed, entries int64, err error) {
	gone := map[int64]bool{}
	err = w.conn.query("SELECT id, length(value) FROM entries "+where+" ORDER BY expires LIMIT ?", func(row []driver.Value) {
		if freed < size {
			id, _ := row[0].(int64)
			stored, _ := row[1].(int64)
			gone[id] = false
			freed += sizeOf(stored)
		}
	}, append(args, w.deletionLimit())...)
	if err != nil || len(gone) == 0 {
		return 0, 0, err
	}
	err = w.conn.transact(func() error {
		for id := range gone {
			if err := w.conn.exec("DELETE FROM entries WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	w.file.contents.adopt(&transaction{rows: gone})
	return freed, int64(len(gone)), nil
}
