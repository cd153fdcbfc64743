package sqlite

import (
	"context"
	"slices"
	"time"

	"fluentd-perf/internal/cache/tier"
)

const (
	maxChangeBytes = 1 << 20 // of one change's entries, or one entry
	maxBatch       = 64      // changes of one transaction
)

// change is what the writer is asked: one of its parts.
type change struct {
	ctx        context.Context
	puts       []put
	cost, size int64 // of the puts: the sums of costOf and, with their tokens, of sizeOf
	bump       []tier.Generation
	bumpAll    bool
	remove     []tier.Key
	urgent     bool
	done       chan error // has room for the answer
}

// put is one entry to store. Nothing in it is the caller's memory.
type put struct {
	key     tier.Key
	expires int64 // ms
	stored  []byte
	guard   tier.Guard
}

// changesOf packs writes, in pieces that do not keep the writer for long.
func (t *adapter) changesOf(writes []tier.Write) (changes []*change) {
	current, limit := &change{}, min(maxChangeBytes, t.batchBytes())
	for i := range writes {
		w := &writes[i]
		stored := t.codec.Encode(w)
		if stored == nil {
			continue
		}
		p := put{w.Key, w.Expires.UnixMilli(), stored, tier.Guard{
			Generations: slices.Clone(w.Guard.Generations), Tokens: slices.Clone(w.Guard.Tokens),
		}}
		cost := costOf(int64(len(p.stored)))
		if current.cost > 0 && current.cost+cost > limit {
			current = &change{}
		}
		if current.cost == 0 {
			changes = append(changes, current)
		}
		current.puts = append(current.puts, p)
		current.cost += cost
		current.size += sizeOf(int64(len(p.stored))) + tokenSize*int64(len(p.guard.Tokens))
	}
	return changes
}

// change has the writer do all changes, within the limit.
func (f *file) change(ctx context.Context, limit time.Duration, changes []*change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, len(changes))
	for _, c := range changes {
		c.ctx, c.done = ctx, done
		queue := f.changes
		if c.urgent {
			queue = f.urgent
		}
		if err := begin(ctx, f, queue, c); err != nil {
			return err
		}
	}
	for range changes {
		if err := f.wait(ctx, done); err != nil {
			return err
		}
	}
	return nil
}

// writer is the one goroutine that changes a file.
type writer struct {
	file *file
	conn *conn

	stored int64 // bytes, as change.size, since the file's pages were last counted
	swept  time.Time
}

// run does changes until the file is closed. The error is that of writing all to the disk.
func (w *writer) run() error {
	sweep := time.NewTimer(0)
	defer sweep.Stop()
	for {
		w.measure()
		select {
		case <-w.file.quit:
			return w.end()
		case c := <-w.file.urgent:
			w.serve(c)
		case c := <-w.file.changes:
			w.serve(c)
		case <-sweep.C:
			sweep.Reset(w.sweep())
		}
	}
}

// end has all that was written reach the disk itself, as a clean end promises.
func (w *writer) end() error {
	return w.conn.script("PRAGMA synchronous=FULL; PRAGMA wal_checkpoint(TRUNCATE)")
}

// measure notes what the file has of pages: it costs a look at its head.
func (w *writer) measure() {
	if all, free, err := pages(w.conn); err == nil {
		w.file.bytes.Store((all - free) * pageSize)
	}
}

// batch is the changes of one transaction, with what they take together.
type batch struct {
	changes    []*change
	cost, size int64
}

// take adds a change, unless nobody waits for it any more.
func (b *batch) take(c *change) {
	if c.ctx.Err() == nil {
		b.changes = append(b.changes, c)
		b.cost, b.size = b.cost+c.cost, b.size+c.size
	}
}

// gather takes what waits, the urgent first.
func (w *writer) gather(first *change) (b batch) {
	b.take(first)
	for len(b.changes) < maxBatch && b.cost < w.file.tier.batchBytes() {
		select {
		case c := <-w.file.urgent:
			b.take(c)
			continue
		default:
		}
		select {
		case c := <-w.file.changes:
			b.take(c)
		default:
			return b
		}
	}
	return b
}

// serve does a change and those that wait behind it in one transaction.
func (w *writer) serve(first *change) {
	w.file.writing.Store(1)
	defer w.file.writing.Store(0)
	b := w.gather(first)
	if len(b.changes) == 0 {
		return
	}
	err := w.commit(b)
	for part := int64(16); isFull(err) && part >= 4 && w.freeSpace(b, part) == nil; part /= 2 {
		err = w.commit(b)
	}
	if err != nil {
		w.file.failed(err)
	}
	for _, c := range b.changes {
		c.done <- err
	}
	if err == nil {
		w.stored += b.size
		w.evictWhenFull()
	}
}

// commit does a batch in one transaction, then tells what readers look at.
func (w *writer) commit(b batch) error {
	t := &transaction{
		conn: w.conn, before: w.file.contents, now: time.Now(),
		noted: map[tier.Generation]tokenState{}, bumped: map[tier.Generation]bool{}, rows: map[int64]bool{},
	}
	err := w.conn.transact(func() error {
		for _, c := range b.changes {
			if err := t.apply(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		w.file.contents.adopt(t)
	}
	return err
}
