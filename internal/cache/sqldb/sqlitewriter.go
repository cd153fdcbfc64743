package sqldb

import (
	"context"
	"time"

	"fluentd-perf/internal/cache/tier"
)

const (
	maxChangeBytes = 1 << 20 // of one change's entries, or one entry
	maxBatch       = 64      // changes of one transaction
)

// change is what the writer is asked: one of its parts.
type change struct {
	ctx     context.Context
	puts    []put
	cost    int64 // of the puts, in bytes
	bump    []tier.Generation
	bumpAll bool
	remove  []tier.Key
	urgent  bool
	done    chan error // has room for the answer
}

// put is one entry to store. Nothing in it is the caller's memory.
type put struct {
	key     tier.Key
	expires int64 // ms
	stored  []byte
	guard   tier.Guard
}

// writeOps packs writes, in pieces that do not keep the writer for long.
func (s *SQLite) writeOps(writes []tier.Write) []*change {
	var changes []*change
	current, limit := &change{}, min(maxChangeBytes, s.batchBytes())
	for i := range writes {
		w := &writes[i]
		if !s.codec.storable(w) {
			continue
		}
		p := put{key: w.Key, expires: w.Expires.UnixMilli(), stored: s.codec.pack(w), guard: tier.Guard{
			Generations: append([]tier.Generation(nil), w.Guard.Generations...),
			Tokens:      append([]tier.Token(nil), w.Guard.Tokens...),
		}}
		cost := costOf(int64(len(p.stored)))
		if len(current.puts) > 0 && current.cost+cost > limit {
			changes = append(changes, current)
			current = &change{}
		}
		current.puts = append(current.puts, p)
		current.cost += cost
	}
	if len(current.puts) > 0 {
		changes = append(changes, current)
	}
	return changes
}

// change has the writer do all changes, within the limit.
func (f *sqliteFile) change(ctx context.Context, limit time.Duration, changes []*change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, len(changes))
	for _, c := range changes {
		c.ctx, c.done = ctx, done
		if err := f.hand(c); err != nil {
			return err
		}
	}
	for range changes {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-f.ended:
			return ErrUnavailable
		}
	}
	return nil
}

func (f *sqliteFile) hand(c *change) error {
	queue := f.changes
	if c.urgent {
		queue = f.urgent
	}
	f.tier.calls.Add(1)
	select {
	case queue <- c:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-f.quit:
		return ErrUnavailable
	}
}

// writer is the one goroutine that changes a file.
type writer struct {
	file *sqliteFile
	conn *sqliteConn

	written int64 // what was written since the size was last looked at, as costOf
	stored  int64 // the same, as roomOf
	swept   time.Time
}

func (w *writer) run() {
	sweep := time.NewTimer(0)
	defer sweep.Stop()
	for {
		w.measure()
		select {
		case <-w.file.quit:
			w.end()
			return
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
func (w *writer) end() {
	if err := w.conn.pragma("synchronous=FULL"); err != nil {
		w.file.err = err
		return
	}
	w.file.err = w.conn.pragma("wal_checkpoint(TRUNCATE)")
}

// measure notes what the file has of pages: it costs a look at its head.
func (w *writer) measure() {
	if used, err := usedPages(w.conn); err == nil {
		w.file.bytes.Store(used * sqlitePage)
	}
}

// serve does a change and those that wait behind it in one transaction.
func (w *writer) serve(first *change) {
	w.file.writing.Store(1)
	defer w.file.writing.Store(0)
	batch := w.gather(first)
	if len(batch) == 0 {
		return
	}
	err := w.commit(batch)
	for part := int64(16); isFull(err) && part >= 4 && w.makeRoom(batch, part) == nil; part /= 2 {
		err = w.commit(batch)
	}
	if err != nil {
		w.file.failed(err)
	}
	for _, c := range batch {
		c.done <- err
	}
	if err == nil {
		w.keepRoom()
	}
}

// gather takes what waits, the urgent first. What nobody waits for any more is left out.
func (w *writer) gather(first *change) (batch []*change) {
	var cost int64
	take := func(c *change) {
		if c.ctx.Err() == nil {
			batch = append(batch, c)
			cost += c.cost
		}
	}
	take(first)
	for len(batch) < maxBatch && cost < w.file.tier.batchBytes() {
		select {
		case c := <-w.file.urgent:
			take(c)
			continue
		default:
		}
		select {
		case c := <-w.file.changes:
			take(c)
		default:
			return batch
		}
	}
	return batch
}

// commit does a batch in one transaction, then tells the token table.
func (w *writer) commit(batch []*change) error {
	t := &transaction{conn: w.conn, tokens: w.file.tokens, now: time.Now(), noted: map[tier.Generation]tokenState{}}
	err := w.conn.transact(func() error {
		for _, c := range batch {
			if err := t.apply(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.settle()
	w.file.rows.note(t.rows)
	w.written += t.written
	w.stored += t.stored
	return nil
}

// transaction is one transaction's work, and what it means for the token table.
type transaction struct {
	conn    *sqliteConn
	tokens  *tokenTable
	now     time.Time
	written int64 // as costOf
	stored  int64 // as roomOf

	noted   map[tier.Generation]tokenState // stored by this transaction
	bumped  map[tier.Generation]bool       // no token holds any more; nil where nothing was bumped
	cleared bool                           // none of all
	rows    []indexed                      // in the order in which they came and went
}

func (t *transaction) apply(c *change) error {
	for i := range c.puts {
		if err := t.put(&c.puts[i]); err != nil {
			return err
		}
	}
	for i := range c.bump {
		if err := t.bump(c.bump[i]); err != nil {
			return err
		}
	}
	for i := range c.remove {
		if _, err := t.conn.exec("DELETE FROM entries WHERE id = ? AND key = ?", rowOf(&c.remove[i]), c.remove[i][:]); err != nil {
			return err
		}
		t.rows = append(t.rows, indexed{rowOf(&c.remove[i]), false})
	}
	if c.bumpAll {
		return t.bumpAll()
	}
	return nil
}

func (t *transaction) put(p *put) error {
	if !t.holds(&p.guard) {
		return nil
	}
	for i, g := range p.guard.Generations {
		if err := t.note(g, p.guard.Tokens[i]); err != nil {
			return err
		}
	}
	t.written += costOf(int64(len(p.stored)))
	t.stored += roomOf(int64(len(p.stored)))
	t.rows = append(t.rows, indexed{rowOf(&p.key), true})
	_, err := t.conn.exec(`INSERT INTO entries (id, key, expires, value) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET key = excluded.key, expires = excluded.expires, value = excluded.value`,
		rowOf(&p.key), p.key[:], p.expires, p.stored)
	return err
}

// holds reports whether an entry's tokens are those of now. What this transaction has bumped has other ones only after it has
// been settled, so none of those holds here.
func (t *transaction) holds(g *tier.Guard) bool {
	for i, generation := range g.Generations {
		if t.cleared || t.bumped[generation] || g.Tokens[i] == 0 || t.tokens.of(generation).token != g.Tokens[i] {
			return false
		}
	}
	return true
}

// note stores a token under which an entry is written, or that it is still in use.
func (t *transaction) note(g tier.Generation, token tier.Token) error {
	if _, ok := t.noted[g]; ok || t.tokens.of(g).used > t.now.Add(-tokenTouch).Unix() {
		return nil
	}
	state := tokenState{token: token, used: t.now.Unix()}
	_, err := t.conn.exec(`INSERT INTO tokens (generation, token, used) VALUES (?, ?, ?)
		ON CONFLICT (generation) DO UPDATE SET token = excluded.token, used = excluded.used`, g[:], int64(token), state.used)
	t.stored += tokenRoom
	t.noted[g] = state
	return err
}

func (t *transaction) bump(g tier.Generation) error {
	if t.bumped == nil {
		t.bumped = map[tier.Generation]bool{}
	}
	t.bumped[g] = true
	delete(t.noted, g)
	_, err := t.conn.exec("DELETE FROM tokens WHERE generation = ?", g[:])
	return err
}

func (t *transaction) bumpAll() error {
	t.cleared = true
	clear(t.noted)
	_, err := t.conn.exec("DELETE FROM tokens")
	return err
}

// settle tells the token table what is now in the file.
func (t *transaction) settle() {
	if t.cleared {
		t.tokens.clear()
	}
	for g := range t.bumped {
		t.tokens.drop(g)
	}
	for g, state := range t.noted {
		t.tokens.noted(g, state)
	}
}
