package sqldb

import (
	"database/sql/driver"
	"time"
)

// The file never shrinks and never grows above its limit: what was deleted is used again. Room is made in time, before
// SQLite itself refuses: from 15/16 of the limit down to 7/8. What expires first goes first.
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

// sweep deletes some of what has expired and returns when to go on.
func (w *writer) sweep() time.Duration {
	now := time.Now()
	n, err := w.conn.exec("DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? ORDER BY expires LIMIT ?)", now.UnixMilli(), int64(sweepChunk))
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

// keepRoom looks at the size when enough has been written, and evicts.
func (w *writer) keepRoom() {
	limit := w.file.tier.maxPages()
	if w.written < limit*sqlitePage/64 {
		return
	}
	w.written = 0
	used, err := usedPages(w.conn)
	if err == nil && used > limit*15/16 {
		err = w.evict(used - limit*7/8)
	}
	if err != nil {
		w.file.failed(err)
	}
}

// makeRoom makes room for so many bytes and a sixteenth of what is used, after SQLite has said that there is none. Where
// that is the disk, it first gives back what the -wal takes.
func (w *writer) makeRoom(bytes int64) error {
	_ = w.conn.pragma("wal_checkpoint(TRUNCATE)") // evicting will tell
	used, err := usedPages(w.conn)
	if err != nil {
		return err
	}
	return w.evict(used/16 + bytes/sqlitePage + 1)
}

// evict deletes the entries that expire first until so many pages are free again.
func (w *writer) evict(pages int64) error {
	for pages > 0 {
		freed, entries, err := w.evictSome(pages)
		if err != nil || entries == 0 {
			return err
		}
		pages -= freed
		w.file.tier.evictions.Add(entries)
	}
	return nil
}

func (w *writer) evictSome(pages int64) (freed, entries int64, err error) {
	var freeing, cost int64
	var ids []driver.Value
	err = w.conn.query("SELECT id, length(value) FROM entries ORDER BY expires LIMIT 256", func(row []driver.Value) error {
		size, _ := row[1].(int64)
		if most := w.file.tier.batchBytes(); freeing < pages*sqlitePage && cost < most {
			ids = append(ids, row[0])
			freeing, cost = freeing+size, cost+costOf(0)
		}
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, 0, err
	}
	before, err := usedPages(w.conn)
	if err != nil {
		return 0, 0, err
	}
	if _, err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return 0, 0, err
	}
	for _, id := range ids {
		if _, err := w.conn.exec("DELETE FROM entries WHERE id = ?", id); err != nil {
			w.rollback()
			return 0, 0, err
		}
	}
	if _, err := w.conn.exec("COMMIT"); err != nil {
		w.rollback()
		return 0, 0, err
	}
	after, err := usedPages(w.conn)
	return before - after, int64(len(ids)), err
}
