package sqldb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache/tier"
)

// Postgres is a tier in a Postgres server that several daemons may share. It has two tables, which it makes itself; both
// are UNLOGGED: a server that crashes comes back with them empty.
type Postgres struct {
	opt    PostgresOptions
	codec  codec
	pool   *pgxpool.Pool
	prefix []byte
	sender tier.Sender

	one     tier.OneServer
	usable  atomic.Bool // the tables have been seen, and the link has been up once
	outage  outage      // until it is usable
	missing atomic.Bool // a call found the tables gone
	active  atomic.Int32
	waits   *waits
	damage  complaint

	stop     context.CancelFunc
	children sync.WaitGroup
}

// OpenPostgres opens the tier. The error says which option is wrong. A server that is not there is none: calls fail
// until it is, and it is tried at least every 3 s.
func OpenPostgres(opt PostgresOptions) (*Postgres, error) {
	opt = opt.withDefaults()
	config, err := opt.config()
	if err = errors.Join(err, checkPrefix(opt.Prefix)); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	p := &Postgres{opt: opt, codec: codec{opt.MaxValue}, prefix: []byte(opt.Prefix), sender: tier.NewSender(), waits: newWaits("postgres")}
	config.AfterConnect = p.admit
	if p.pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.children.Go(func() { p.keepLink(ctx) })
	p.children.Go(func() { p.keepSwept(ctx) })
	return p, nil
}

// Name returns "database".
func (p *Postgres) Name() string { return "database" }

// Linked says whether what other daemons bump is heard at this moment. A link that went silent counts as linked for up to
// 3 s.
func (p *Postgres) Linked() bool { return p.one.Stands() }

// Pool says how the pool's connections are used. The one that listens is not counted.
func (p *Postgres) Pool() PoolStats {
	stat := p.pool.Stat()
	fresh := uint64(stat.NewConnsCount())
	return PoolStats{
		Open: int(stat.TotalConns()), Idle: int(stat.IdleConns()), Active: int(stat.AcquiredConns()),
		Fresh: fresh, Reused: uint64(max(stat.AcquireCount()-int64(fresh), 0)),
	}
}

// Close implements cache.Tier. It waits at most 4 s for a server that hangs.
func (p *Postgres) Close() error {
	p.stop()
	p.children.Go(p.pool.Close)
	p.children.Wait()
	return nil
}

// call gives f a connection, and another one where that turns out to be dead: after a restart of the server all idle
// ones are. What f does may be done twice. The caller's deadline holds, but a caller that merely leaves is served to the
// end: breaking off a query costs the connection, and there is not much of the timeout left.
func (p *Postgres) call(ctx context.Context, what string, f func(context.Context, *pgxpool.Conn) error) error {
	err := ctx.Err()
	if err == nil {
		end := time.Now().Add(p.opt.Timeout)
		if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
			end = deadline
		}
		patient, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
		defer cancel()
		err = p.try(patient, f)
	}
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", what, briefly(err))
	}
	return nil
}

func (p *Postgres) try(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	if !p.usable.Load() {
		return p.outage.err()
	}
	for attempt := 0; ; attempt++ {
		conn, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		if err = f(ctx, conn); p.past(conn) {
			err = errors.Join(err, tier.ErrOtherServer)
		}
		dead := conn.Conn().IsClosed()
		conn.Release()
		p.active.Add(-1)
		if err == nil {
			return nil
		}
		if tablesGone(err) {
			p.missing.Store(true)
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if !dead || ctx.Err() != nil || attempt >= p.opt.Pool.Max {
			return err
		}
	}
}

// past says whether the server of the link was another when the connection was made: not when it was acquired, since the
// pool is reset after the link is noted.
func (p *Postgres) past(conn *pgxpool.Conn) bool {
	return conn.Conn().PgConn().CustomData()[eraKey] != p.one.Era()
}

func (p *Postgres) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	start, crowded := time.Now(), p.active.Add(1) > int32(p.opt.Pool.Max)
	conn, err := p.pool.Acquire(ctx)
	if crowded {
		p.waits.observe(time.Since(start))
	}
	if err != nil {
		p.active.Add(-1)
	}
	return conn, err
}
