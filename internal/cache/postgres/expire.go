package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	sweepChunk   = 1000            // rows of one statement
	sweepTimeout = 5 * time.Second // of one statement
)

// What several daemons sweep at once they share: nobody waits for a row that another one is deleting.
const (
	sqlExpire = `DELETE FROM fluentd_perf_entries WHERE key IN (SELECT key FROM fluentd_perf_entries
		WHERE expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)`
	sqlForget = `DELETE FROM fluentd_perf_tokens WHERE generation IN (SELECT generation FROM fluentd_perf_tokens
		WHERE used < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// keepSwept deletes what has expired, whoever's it is, until ctx ends.
func (t *adapter) keepSwept(ctx context.Context) {
	for pause := rand.N(t.opt.Sweep); ; pause = t.opt.Sweep/2 + rand.N(t.opt.Sweep) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		now := time.Now()
		err := t.deleteAll(ctx, sqlExpire, now.UnixMilli())
		if err == nil {
			err = t.deleteAll(ctx, sqlForget, now.Add(-tokenLife).Unix())
		}
		if err != nil && ctx.Err() == nil && t.down.Load() == nil {
			t.opt.Log.Warn("expired entries cannot be deleted from the cache's database", "error", briefly(err))
		}
	}
}

// deleteAll deletes in chunks, until one is not full. Nobody waits for it: it has more time than calls, and is broken off
// when ctx ends.
func (t *adapter) deleteAll(ctx context.Context, statement string, limit int64) error {
	deleted, err := int64(sweepChunk), error(nil)
	for err == nil && deleted == sweepChunk {
		ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
		err = t.try(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			done, err := conn.Exec(ctx, statement, limit, sweepChunk)
			deleted = done.RowsAffected()
			return err
		})
		cancel()
	}
	return err
}
