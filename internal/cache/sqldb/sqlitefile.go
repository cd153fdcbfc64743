package sqldb

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// closePatience is how long a close waits for a disk that hangs.
const closePatience = 5 * time.Second

// sqliteFile is one opened file: a few readers and one writer, each a goroutine with a connection of its own. Callers
// hand them questions and wait, so that a disk that hangs keeps nobody longer than the caller's time.
type sqliteFile struct {
	tier   *SQLite
	tokens *tokenTable
	rows   *index
	bytes  atomic.Int64 // of the file's pages in use; what is still in the -wal counts as well

	questions chan *question
	urgent    chan *change // what must not wait behind writes
	changes   chan *change
	reading   atomic.Int32 // readers that answer
	writing   atomic.Int32 // 1 while the writer writes

	quit  chan struct{} // closed: the goroutines end
	ended chan struct{} // closed: they have ended
	err   error         // of closing the connections; set before ended is closed
}

// question is what a reader is asked.
type question struct {
	ctx    context.Context
	ask    func(*sqliteConn) error
	queued time.Time // when all readers were taken, else zero
	done   chan error
}

// brokenFile says that a file cannot be used on.
type brokenFile struct {
	file    *sqliteFile
	verdict verdict
	err     error
}

// newFile starts the goroutines; conns are the writer's and the readers'.
func (s *SQLite) newFile(conns []*sqliteConn, tokens *tokenTable, rows *index) *sqliteFile {
	f := &sqliteFile{
		tier: s, tokens: tokens, rows: rows,
		questions: make(chan *question, 256), urgent: make(chan *change, 64), changes: make(chan *change, 64),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	var group sync.WaitGroup
	group.Go(func() { (&writer{file: f, conn: conns[0]}).run() })
	for _, c := range conns[1:] {
		group.Go(func() { f.answer(c) })
	}
	go func() {
		group.Wait()
		for _, c := range conns[1:] {
			f.err = errors.Join(f.err, c.close())
		}
		f.err = errors.Join(f.err, conns[0].close()) // the last one writes the -wal back and removes it
		close(f.ended)
	}()
	return f
}

// close ends the goroutines and waits for them.
func (f *sqliteFile) close() error {
	close(f.quit)
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-f.ended:
		return f.err
	case <-patience.C:
		return errors.New("the disk does not answer")
	}
}

// failed hands the keeper a file that an error has made useless.
func (f *sqliteFile) failed(err error) {
	v := judge(err)
	if v == fine {
		return
	}
	select {
	case f.tier.broken <- brokenFile{f, v, err}:
	default: // it knows
	}
}

// query has a reader answer, within the limit.
func (f *sqliteFile) query(ctx context.Context, limit time.Duration, ask func(*sqliteConn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	q := &question{ctx: ctx, ask: ask, done: make(chan error, 1)}
	if f.reading.Load() >= sqliteReaders {
		q.queued = time.Now()
	}
	f.tier.calls.Add(1)
	select {
	case f.questions <- q:
	case <-ctx.Done():
		return ctx.Err()
	case <-f.quit:
		return ErrUnavailable
	}
	select {
	case err := <-q.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-f.ended:
		return ErrUnavailable
	}
}

// answer is a reader's life.
func (f *sqliteFile) answer(c *sqliteConn) {
	for {
		select {
		case <-f.quit:
			return
		case q := <-f.questions:
			f.answerOne(c, q)
		}
	}
}

func (f *sqliteFile) answerOne(c *sqliteConn, q *question) {
	if q.ctx.Err() != nil {
		return // nobody waits for it
	}
	f.reading.Add(1)
	defer f.reading.Add(-1)
	if !q.queued.IsZero() {
		f.tier.waits.observe(time.Since(q.queued))
	}
	err := q.ask(c)
	if err != nil {
		f.failed(err)
	}
	q.done <- err
}

// rowOf is the rowid of a key's entry.
func rowOf(key *tier.Key) int64 { return int64(binary.BigEndian.Uint64(key[:])) }

// reading is a Read: the reader fills stored, then the caller looks at the tokens. In this order: an entry that was read
// before a bump is compared with tokens from after it.
type reading struct {
	keys   []tier.Key
	most   int64    // bytes of a stored value
	stored [][]byte // nil where there is no entry
}

func newReading(lookups []tier.Lookup, most int) *reading {
	r := &reading{most: int64(most), keys: make([]tier.Key, len(lookups)), stored: make([][]byte, len(lookups))}
	for i := range lookups {
		r.keys[i] = lookups[i].Key
	}
	return r
}

// What is larger than an entry of ours can be is not even loaded.
const sqliteRead = `SELECT CASE WHEN typeof(value) = 'blob' AND length(value) <= ? THEN value END FROM entries WHERE id = ? AND key = ?`

func (r *reading) read(c *sqliteConn) error {
	for i := range r.keys {
		err := c.query(sqliteRead, func(row []driver.Value) error {
			if r.stored[i], _ = row[0].([]byte); r.stored[i] == nil {
				r.stored[i] = []byte{} // somebody put something else there
			}
			return nil
		}, r.most, rowOf(&r.keys[i]), r.keys[i][:])
		if err != nil {
			return err
		}
	}
	return nil
}

// found turns what was read into answers.
func (f *sqliteFile) found(r *reading, lookups []tier.Lookup) []tier.Found {
	found := make([]tier.Found, len(lookups))
	now := time.Now()
	for i := range lookups {
		found[i].Tokens = make([]tier.Token, len(lookups[i].Generations))
		f.tokens.present(found[i].Tokens, lookups[i].Generations)
		if r.stored[i] == nil {
			continue
		}
		if err := f.tier.codec.answer(&found[i], &r.keys[i], r.stored[i], now); err != nil {
			f.discard(r.keys[i], err)
		}
	}
	return found
}

// discard removes an entry that makes no sense, when the writer has time for it.
func (f *sqliteFile) discard(key tier.Key, why error) {
	f.tier.damage.say(f.tier.opt.Log, "entries of the cache's file that make no sense are removed", 1, why)
	select {
	case f.changes <- &change{ctx: context.Background(), remove: []tier.Key{key}, done: make(chan error, 1)}:
	default: // the next one who reads it tries again
	}
}

func usedPages(c *sqliteConn) (int64, error) {
	all, free, err := filePages(c)
	return all - free, err
}

func filePages(c *sqliteConn) (all, free int64, err error) {
	if all, err = c.number("PRAGMA page_count"); err != nil {
		return 0, 0, err
	}
	free, err = c.number("PRAGMA freelist_count")
	return all, free, err
}
