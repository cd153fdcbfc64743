package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache/tier"
)

// One statement writes many entries, each if none of its guards is stale. Of several writes of one key it takes the last one
// that may be stored. A bump that commits while it runs is not seen by it: what it then writes bears the old tokens, and no
// read answers that.
const sqlWrite = `WITH stale AS (
		SELECT entry FROM unnest($4::int[], $5::bytea[], $6::bigint[], $7::bigint[]) AS guard (entry, generation, token, number)
		LEFT JOIN fluentd_perf_tokens present USING (generation)
		WHERE CASE coalesce(present.token, 0)
			WHEN 0 THEN number IS DISTINCT FROM (SELECT token FROM fluentd_perf_tokens WHERE generation = $8)
			ELSE present.token <> guard.token END)
	INSERT INTO fluentd_perf_entries (key, expires, value)
	SELECT DISTINCT ON (key) key, expires, value FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) WITH ORDINALITY AS candidate (key, expires, value, number)
	WHERE number NOT IN (SELECT entry FROM stale)
	ORDER BY key, number DESC
	ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, value = excluded.value`

// columns is the arguments of sqlWrite: entries, and their guards.
type columns struct {
	keys    [][]byte
	expires []int64
	values  [][]byte

	entries     []int32 // the number of the entry, from 1
	generations [][]byte
	tokens      []int64
	numbers     []int64 // of which the tokens were made, where the generations have none of their own
}

// Write implements tier.Tier. All of it is one transaction.
func (t *adapter) Write(ctx context.Context, writes []tier.Write) error {
	var c columns
	latest := time.Now().Add(entryLife)
	for _, w := range writes {
		if w.Expires.After(latest) {
			w.Expires = latest
		}
		if stored := t.codec.Encode(&w); stored != nil {
			t.add(&c, &w, stored)
		}
	}
	if len(c.keys) == 0 {
		return nil
	}
	return t.call(ctx, "write", func(ctx context.Context, conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, sqlWrite, c.keys, c.expires, c.values, c.entries, c.generations, c.tokens, c.numbers, t.prefix)
		return err
	})
}

func (t *adapter) add(c *columns, w *tier.Write, stored []byte) {
	c.keys = append(c.keys, t.named(w.Key[:]))
	c.expires = append(c.expires, w.Expires.UnixMilli())
	c.values = append(c.values, stored)
	for i := range w.Guard.Generations {
		g, token := &w.Guard.Generations[i], w.Guard.Tokens[i]
		c.entries = append(c.entries, int32(len(c.keys)))
		c.generations = append(c.generations, t.named(g[:]))
		c.tokens = append(c.tokens, int64(token))
		c.numbers = append(c.numbers, int64(derived(uint64(token), g)))
	}
}
