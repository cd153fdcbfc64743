package sqlite

import (
	"time"

	"fluentd-perf/internal/cache/tier"
)

// transaction is one transaction's work, and what it means for the contents.
type transaction struct {
	conn   *conn
	before *contents
	now    time.Time

	noted   map[tier.Generation]tokenState // stored by this transaction
	bumped  map[tier.Generation]bool       // no token holds any more
	cleared bool                           // none of all
	rows    map[int64]bool                 // that are there afterwards, or are not
}

func (t *transaction) apply(c *change) error {
	for i := range c.puts {
		if err := t.put(&c.puts[i]); err != nil {
			return err
		}
	}
	for _, g := range c.bump {
		t.bumped[g] = true
		delete(t.noted, g)
		if err := t.conn.exec("DELETE FROM tokens WHERE generation = ?", g[:]); err != nil {
			return err
		}
	}
	for _, key := range c.remove {
		t.rows[rowOf(&key)] = false
		if err := t.conn.exec("DELETE FROM entries WHERE id = ? AND key = ?", rowOf(&key), key[:]); err != nil {
			return err
		}
	}
	if c.bumpAll {
		t.cleared = true
		clear(t.noted)
		return t.conn.exec("DELETE FROM tokens")
	}
	return nil
}

func (t *transaction) put(p *put) error {
	if !t.holds(&p.guard) {
		return nil
	}
	for i := range p.guard.Generations {
		if err := t.note(&p.guard.Generations[i], p.guard.Tokens[i]); err != nil {
			return err
		}
	}
	t.rows[rowOf(&p.key)] = true
	return t.conn.exec(`INSERT INTO entries (id, key, expires, value) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET key = excluded.key, expires = excluded.expires, value = excluded.value`,
		rowOf(&p.key), p.key[:], p.expires, p.stored)
}

// holds reports whether an entry's tokens are those of now. What this transaction has bumped has other ones only after it has
// been settled, so none of those holds here.
func (t *transaction) holds(guard *tier.Guard) bool {
	for i := range guard.Generations {
		g := &guard.Generations[i]
		if t.cleared || t.bumped[*g] || guard.Tokens[i] == 0 || t.before.token(g).token != guard.Tokens[i] {
			return false
		}
	}
	return true
}

// note stores a token under which an entry is written, or that it is still in use.
func (t *transaction) note(g *tier.Generation, token tier.Token) error {
	if _, ok := t.noted[*g]; ok || t.before.token(g).used > t.now.Add(-tokenTouch).Unix() {
		return nil
	}
	t.noted[*g] = tokenState{token: token, used: t.now.Unix()}
	return t.conn.exec(`INSERT INTO tokens (generation, token, used) VALUES (?, ?, ?)
		ON CONFLICT (generation) DO UPDATE SET token = excluded.token, used = excluded.used`, g[:], int64(token), t.now.Unix())
}
