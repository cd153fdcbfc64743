package postgres

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache/tier"
)

// Bump implements tier.Tier. The new tokens and the messages that tell of them are one transaction. The tokens stay until
// nothing can be there any more that was written, or is yet to be written, under what was read before: see entryLife.
func (t *adapter) Bump(ctx context.Context, generations []tier.Generation) error {
	if len(generations) == 0 {
		return nil
	}
	names := make([][]byte, len(generations))
	for i := range generations {
		names[i] = t.named(generations[i][:])
	}
	slices.SortFunc(names, bytes.Compare) // the one order in which everybody locks rows, so that nobody waits in a ring
	names = slices.CompactFunc(names, bytes.Equal)
	tokens := make([]int64, len(names))
	for i := range tokens {
		tokens[i] = newToken()
	}
	return t.call(ctx, "bump", func(ctx context.Context, conn *pgxpool.Conn) error {
		batch := new(pgx.Batch)
		batch.Queue(`INSERT INTO fluentd_perf_tokens (generation, token, used) SELECT *, $3::bigint FROM unnest($1::bytea[], $2::bigint[])
			ON CONFLICT (generation) DO UPDATE SET token = excluded.token, used = excluded.used`, names, tokens, time.Now().Unix())
		for some := range slices.Chunk(generations, notifyChunk) {
			batch.Queue("SELECT pg_notify($1, $2)", t.channel(), base64.RawStdEncoding.EncodeToString(t.sender.Message(some)))
		}
		return conn.SendBatch(ctx, batch).Close()
	})
}

// Delete implements tier.Tier.
func (t *adapter) Delete(ctx context.Context, keys []tier.Key) error {
	if len(keys) == 0 {
		return nil
	}
	names := make([][]byte, len(keys))
	for i := range keys {
		names[i] = t.named(keys[i][:])
	}
	return t.call(ctx, "delete", func(ctx context.Context, conn *pgxpool.Conn) error { return remove(ctx, conn, names) })
}

func remove(ctx context.Context, conn *pgxpool.Conn, names [][]byte) error {
	_, err := conn.Exec(ctx, `DELETE FROM fluentd_perf_entries WHERE key IN
		(SELECT key FROM fluentd_perf_entries WHERE key = ANY($1) ORDER BY key FOR UPDATE)`, names)
	return err
}
