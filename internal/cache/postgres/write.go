package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache/tier"
)

// One statement writes many entries, each if none of its guards is stale. A bump that commits while it runs is not seen
// by it: what it then writes bears the old tokens, and no read answers that.
const sqlWrite = `WITH stale AS (
		SELECT entry FROM unnest($4::int[], $5::bytea[], $6::bigint[], $7::bigint[]) AS guard (entry, generation, token, number)
		LEFT JOIN fluentd_perf_tokens present USING (generation)
		WHERE CASE coalesce(present.token, 0)
			WHEN 0 THEN number IS DISTINCT FROM (SELECT token FROM fluentd_perf_tokens WHERE generation = $8)
			ELSE present.token <> guard.token END)
	INSERT INTO fluentd_perf_entries (key, expires, value)
	SELECT key, expires, value FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) WITH ORDINALITY AS candidate (key, expires, value, number)
	WHERE number NOT IN (SELECT entry FROM stale)
	ORDER BY key
	ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, value = excluded.value`

// round is the arguments of one sqlWrite: entries with different keys, and their guards.
type round struct {
	keys    [][]byte
	expires []int64
	values  [][]byte

	entries     []int32 // the number of the entry, from 1
	generations [][]byte
	tokens      []int64
	numbers     []int64 // of which the tokens were made, where the generations have none of their own
}

func (t *Tier) add(r *round, w tier.Write, latest time.Time) {
	if w.Expires.After(latest) {
		w.Expires = latest
	}
	r.keys = append(r.keys, t.named(w.Key[:]))
	r.expires = append(r.expires, w.Expires.UnixMilli())
	r.values = append(r.values, t.codec.Encode(&w))
	for i := range w.Guard.Generations {
		g, token := &w.Guard.Generations[i], w.Guard.Tokens[i]
		r.entries = append(r.entries, int32(len(r.keys)))
		r.generations = append(r.generations, t.named(g[:]))
		r.tokens = append(r.tokens, int64(token))
		r.numbers = append(r.numbers, int64(derived(uint64(token), g)))
	}
}

// rounds puts writes into as few statements as may be. A statement takes a key once, so the second write of a key is for
// the second one, which runs after it.
func (t *Tier) rounds(writes []tier.Write) (rounds []*round) {
	seen := make(map[tier.Key]int, len(writes))
	latest := time.Now().Add(entryLife)
	for i := range writes {
		if w := &writes[i]; t.codec.Storable(w) {
			n := seen[w.Key]
			seen[w.Key]++
			if n == len(rounds) {
				rounds = append(rounds, new(round))
			}
			t.add(rounds[n], *w, latest)
		}
	}
	return rounds
}

// Write implements tier.Tier. All of it is one transaction.
func (t *Tier) Write(ctx context.Context, writes []tier.Write) error {
	rounds := t.rounds(writes)
	if len(rounds) == 0 {
		return nil
	}
	return t.call(ctx, "write", func(ctx context.Context, conn *pgxpool.Conn) error {
		batch := new(pgx.Batch)
		for _, r := range rounds {
			batch.Queue(sqlWrite, r.keys, r.expires, r.values, r.entries, r.generations, r.tokens, r.numbers, t.prefix)
		}
		return conn.SendBatch(ctx, batch).Close()
	})
}
