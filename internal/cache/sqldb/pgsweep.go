package sqldb

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache"
)

const pgSweepChunk = 1000 // rows of one statement

const pgStats = `SELECT count(*), coalesce(sum(octet_length(value)), 0)::bigint FROM fluentd_perf_entries
	WHERE octet_length(key) = $2 AND substring(key FROM 1 FOR octet_length($1::bytea)) = $1::bytea`

// What several daemons sweep at once they share: nobody waits for a row that another one is deleting.
const (
	pgExpire = `DELETE FROM fluentd_perf_entries WHERE key IN (SELECT key FROM fluentd_perf_entries
		WHERE expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)`
	pgForget = `DELETE FROM fluentd_perf_tokens WHERE generation IN (SELECT generation FROM fluentd_perf_tokens
		WHERE used < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`
	pgEvict = `DELETE FROM fluentd_perf_entries WHERE key IN (SELECT key FROM fluentd_perf_entries
		WHERE octet_length(key) = $3 AND substring(key FROM 1 FOR octet_length($2::bytea)) = $2::bytea
		ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED)`
)

// keepSwept deletes what has expired, whoever's it is, and keeps what is under the prefix below its limit, until ctx ends.
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
	if err := p.deleteChunks(ctx, pgForget, now.Add(-tokenLife).Unix()); err != nil {
		return err
	}
	return p.evict(ctx)
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

// evict deletes what expires first, in proportion to what is too much.
func (p *Postgres) evict(ctx context.Context) error {
	if p.opt.MaxBytes == 0 {
		return nil
	}
	stats, err := p.Stats(ctx)
	if err != nil || stats.Bytes <= p.opt.MaxBytes {
		return err
	}
	surplus := stats.Bytes - p.opt.MaxBytes*7/8
	for left := 1 + int64(float64(stats.Entries)*float64(surplus)/float64(stats.Bytes)); left > 0; {
		n, err := p.delete(ctx, pgEvict, min(left, pgSweepChunk), p.prefix, len(p.prefix)+len(cache.Key{}))
		if err != nil || n == 0 {
			return err
		}
		p.evictions.Add(n)
		left -= n
	}
	return nil
}
