package sqlite

import (
	"context"
	"database/sql/driver"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// readCall is what a reader is asked.
type readCall struct {
	ctx    context.Context
	keys   []tier.Key
	stored [][]byte  // the answer: nil where there is no entry
	queued time.Time // when all readers were taken, else zero
	done   chan error
}

// read answers lookups. The entries are read before the tokens: an entry that was read before a bump is compared with
// tokens from after it.
func (f *file) read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stored := make([][]byte, len(lookups))
	if f.contents.hasAny(lookups) {
		if err := f.ask(ctx, lookups, stored); err != nil {
			return nil, err
		}
	}
	found := make([]tier.Found, len(lookups))
	now := time.Now()
	for i := range lookups {
		key := &lookups[i].Key
		found[i].Tokens = make([]tier.Token, len(lookups[i].Generations))
		f.contents.present(found[i].Tokens, lookups[i].Generations)
		if stored[i] == nil {
			continue
		}
		if err := f.tier.codec.Decode(&found[i], key, stored[i], now); err != nil {
			f.discard(*key, err)
		}
	}
	return found, nil
}

// ask has a reader fill stored, within the tier's time.
func (f *file) ask(ctx context.Context, lookups []tier.Lookup, stored [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, f.tier.opt.Timeout)
	defer cancel()
	call := &readCall{ctx: ctx, keys: make([]tier.Key, len(lookups)), stored: stored, done: make(chan error, 1)}
	for i := range lookups {
		call.keys[i] = lookups[i].Key
	}
	if f.reading.Load() >= readers {
		call.queued = time.Now()
	}
	if err := begin(ctx, f, f.reads, call); err != nil {
		return err
	}
	return f.wait(ctx, call.done)
}

// answer is what a reader does until the file is closed.
func (f *file) answer(c *conn) {
	for {
		select {
		case <-f.quit:
			return
		case call := <-f.reads:
			if call.ctx.Err() == nil { // else nobody waits for it
				f.answerOne(c, call)
			}
		}
	}
}

func (f *file) answerOne(c *conn, call *readCall) {
	f.reading.Add(1)
	defer f.reading.Add(-1)
	if !call.queued.IsZero() {
		f.tier.waited(time.Since(call.queued))
	}
	err := call.readFrom(c, int64(f.tier.codec.MaxStored()))
	if err != nil {
		f.failed(err)
	}
	call.done <- err
}

func (r *readCall) readFrom(c *conn, limit int64) error {
	for i := range r.keys {
		// What is larger than an entry of ours can be is not even loaded.
		err := c.query("SELECT CASE WHEN typeof(value) = 'blob' AND length(value) <= ? THEN value END FROM entries WHERE id = ? AND key = ?", func(row []driver.Value) {
			if r.stored[i], _ = row[0].([]byte); r.stored[i] == nil {
				r.stored[i] = []byte{} // somebody put something else there
			}
		}, limit, rowOf(&r.keys[i]), r.keys[i][:])
		if err != nil {
			return err
		}
	}
	return nil
}

// discard removes an entry that makes no sense, when the writer has time for it.
func (f *file) discard(key tier.Key, why error) {
	n := f.tier.damaged.Add(1)
	f.tier.warnDamaged.Do(func() {
		f.tier.opt.Log.Warn("entries of the cache's file that make no sense are removed", "times", n, "error", why)
	})
	select {
	case f.changes <- &change{ctx: context.Background(), remove: []tier.Key{key}, done: make(chan error, 1)}:
	default: // the next one who reads it tries again
	}
}
