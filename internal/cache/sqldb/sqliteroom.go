package sqldb

import (
	"database/sql/driver"
	"errors"
	"time"
)

// The file never shrinks and never grows above its limit: what was deleted is used again. Room is made in time, before
// SQLite itself refuses. What expires first goes first.
const (
	sweepChunk = 256                   // entries that a transaction deletes
	sweepPause = 10 * time.Millisecond // between two of those
)

// walBytes is what the -wal is cut back to. It is begun anew when a quarter of that is in it and nobody reads, so that
// it is as large as that and one transaction, and the file may have all but twice as much.
func (s *SQLite) walBytes() int64 { return min(8<<20, s.opt.MaxBytes/8) }

// batchBytes is what a transaction writes at most, or one value.
func (s *SQLite) batchBytes() int64 { return s.walBytes() / 2 }

// maxPages is the limit of the file itself.
func (s *SQLite) maxPages() int64 { return (s.opt.MaxBytes - 2*s.walBytes()) / sqlitePage }

// costOf is what an entry with a stored value of that many bytes takes of a transaction: beside the value, a leaf of the
// table and one of the index.
func costOf(stored int64) int64 { return stored + 2*sqlitePage }

// roomOf is what an entry with a stored value of that many bytes leaves when it goes.
func roomOf(stored int64) int64 { return stored + tokenRoom }

// tokenRoom is what a token takes, and an entry beside its value.
const tokenRoom = 64

// sizeOf is what a batch takes at most, as costOf and as roomOf.
func sizeOf(batch []*change) (cost, room int64) {
	for _, c := range batch {
		cost += c.cost
		for i := range c.puts {
			room += roomOf(int64(len(c.puts[i].stored))) + tokenRoom*int64(len(c.puts[i].guard.Tokens))
		}
	}
	return cost, room
}

// sweep deletes some of what has expired and returns when to go on.
func (w *writer) sweep() time.Duration {
	now := time.Now()
	var gone []indexed
	err := w.conn.query("DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? ORDER BY expires LIMIT ?) RETURNING id", func(row []driver.Value) error {
		id, _ := row[0].(int64)
		gone = append(gone, indexed{id, false})
		return nil
	}, now.UnixMilli(), int64(sweepChunk))
	n := len(gone)
	if err == nil {
		w.file.rows.note(gone)
	}
	if err == nil && n < sweepChunk && now.Sub(w.swept) > tokenTouch {
		w.swept = now
		err = w.sweepTokens(now.Add(-tokenLife))
	}
	if err != nil {
		w.file.failed(err)
		w.file.tier.opt.Log.Warn("expired entries cannot be deleted from the cache's file", "error", err)
	}
	if n == sweepChunk {
		return sweepPause
	}
	return w.file.tier.opt.Sweep
}

func (w *writer) sweepTokens(unused time.Time) error {
	if _, err := w.conn.exec("DELETE FROM tokens WHERE used < ?", unused.Unix()); err != nil {
		return err
	}
	w.file.tokens.dropUnused(unused)
	return nil
}

// keepRoom looks at the size when enough has been written. Where little is left, somewhat more goes than came: what goes
// leaves holes in pages, which what comes later fills.
func (w *writer) keepRoom() {
	limit := w.file.tier.maxPages()
	if w.written < limit*sqlitePage/64 {
		return
	}
	stored := w.stored
	w.written, w.stored = 0, 0
	used, err := usedPages(w.conn)
	if err == nil && used > limit*7/8 {
		err = w.evict(stored + stored/4)
	}
	if err != nil {
		w.file.failed(err)
		w.file.tier.noRoom.say(w.file.tier.opt.Log, "no room can be made in the cache's file", 1, err)
	}
}

// makeRoom makes room for a batch after SQLite has said that there is none: that much and a part of what is used, since
// what goes leaves holes in pages. Where it is the disk that has none, it gives back what the -wal takes, and makes no
// more than the batch needs.
func (w *writer) makeRoom(batch []*change, part int64) error {
	_ = w.conn.pragma("wal_checkpoint(TRUNCATE)") // evicting will tell
	all, free, err := filePages(w.conn)
	if err != nil {
		return err
	}
	cost, room := sizeOf(batch)
	if all < w.file.tier.maxPages()-cost/sqlitePage {
		return w.evict(cost - free*sqlitePage)
	}
	before := w.file.tier.evictions.Load()
	err = w.evict((all-free)*sqlitePage/part + room)
	if err == nil && w.file.tier.evictions.Load() == before { // the file is full of tokens
		err = w.sweepTokens(time.Now().Add(time.Second))
	}
	return err
}

// evict deletes the entries that expire first until they have left so much room, or there are no more.
func (w *writer) evict(room int64) error {
	for room > 0 {
		freed, entries, err := w.evictSome(room)
		if err != nil || entries == 0 {
			return err
		}
		room -= freed
		w.file.tier.evictions.Add(entries)
	}
	return nil
}

var errEnough = errors.New("enough rows")

// evictSome deletes entries in one transaction of a size that the -wal bears.
func (w *writer) evictSome(room int64) (freed, entries int64, err error) {
	var cost int64
	var gone []indexed
	err = w.conn.query("SELECT id, length(value) FROM entries ORDER BY expires LIMIT 256", func(row []driver.Value) error {
		size, _ := row[1].(int64)
		id, _ := row[0].(int64)
		gone = append(gone, indexed{id, false})
		freed, cost = freed+roomOf(size), cost+costOf(0)
		if freed >= room || cost >= w.file.tier.batchBytes() {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) || len(gone) == 0 {
		return 0, 0, err
	}
	err = w.conn.transact(func() error {
		for _, row := range gone {
			if _, err := w.conn.exec("DELETE FROM entries WHERE id = ?", row.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		w.file.rows.note(gone)
	}
	return freed, int64(len(gone)), err
}
