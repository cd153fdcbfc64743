package sqldb

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const pgSweepChunk = 1000 // rows of one statement

// What several daemons sweep at once they share: nobody waits for a row that another one is deleting.
const (
	pgExpire = `DELETE FROM fluentd_perf_entries WHERE key IN (SELECT key FROM fluentd_perf_entries
		WHERE expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)`
	pgForget = `DELETE FROM fluentd_perf_tokens WHERE generation IN (SELECT generation FROM fluentd_perf_tokens
		WHERE used < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// keepSwept deletes what has expired, whoever's it is, until ctx ends.
func (p *Postgres) keepSwept(ctx context.Context) {
	pause := time.NewTimer(rand.N(p.opt.Sweep))
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		if err := p.sweepOnce(ctx); err != nil && ctx.Err() == nil && p.usable.Load() {
			p.opt.Log.Warn("expired entries cannot be deleted from the cache's database", "error", briefly(err))
		}
		pause.Reset(p.opt.Sweep/2 + rand.N(p.opt.Sweep))
	}
}

func (p *Postgres) sweepOnce(ctx context.Context) error {
	now := time.Now()
	if err := p.deleteChunks(ctx, pgExpire, now.UnixMilli()); err != nil {
		return err
	}
	return p.deleteChunks(ctx, pgForget, now.Add(-tokenLife).Unix())
}

// deleteChunks deletes until a chunk is not full.
func (p *Postgres) deleteChunks(ctx context.Context, statement string, limit int64) error {
	for n := int64(pgSweepChunk); n == pgSweepChunk; {
		var err error
		if n, err = p.delete(ctx, statement, limit, pgSweepChunk); err != nil {
			return err
		}
	}
	return nil
}

func (p *Postgres) delete(ctx context.Context, statement string, args ...any) (n int64, err error) {
	err = p.background(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		done, err := conn.Exec(ctx, statement, args...)
		n = done.RowsAffected()
		return err
	})
	return n, err
}

// background is call for what nobody waits for: it has more time, and is broken off when ctx ends.
func (p *Postgres) background(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, backgroundTimeout)
	defer cancel()
	return p.try(ctx, f)
}
