package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"

	"fluentd-perf/internal/cache/tier"
)

// adapter is a tier in a Postgres server that several daemons may share. It has two tables, which it makes itself; both
// are UNLOGGED: a server that crashes comes back with them empty.
type adapter struct {
	opt    Options
	codec  tier.Codec
	pool   *pgxpool.Pool
	prefix []byte
	sender tier.Sender
	waited func(time.Duration) // for a connection

	one     tier.OneServer
	down    atomic.Pointer[error] // why calls fail, until the tables have been seen and the link has been up once; then nil
	missing atomic.Bool           // a call found the tables gone
	active  atomic.Int32
	damaged atomic.Int64 // entries
	warning rate.Sometimes

	stop     context.CancelFunc
	children sync.WaitGroup
}

// Open opens the tier. The error says which option is wrong. A server that is not there is none: calls fail until it is,
// and it is tried at least every 3 s.
func Open(opt Options) (tier.Shared, error) {
	t, err := open(opt)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func open(opt Options) (*adapter, error) {
	config, err := opt.config()
	if err = errors.Join(err, check(prefixPattern.MatchString(opt.Prefix), "prefix %q: want 1 to 48 letters, digits, - and _", opt.Prefix)); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	opt = opt.withDefaults()
	t := &adapter{
		opt: opt, codec: tier.Codec{MaxValue: opt.MaxValue}, prefix: []byte(opt.Prefix), sender: tier.NewSender(),
		warning: rate.Sometimes{Interval: time.Minute},
	}
	t.down.Store(&errUnavailable)
	t.configure(config)
	if t.pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	t.waited = opt.Pools.Add("postgres", t.stats, true)
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	t.children.Go(func() { t.keepLink(ctx) })
	t.children.Go(func() { t.keepSwept(ctx) })
	return t, nil
}

// Name returns "database".
func (t *adapter) Name() string { return "database" }

// Linked implements tier.Shared.
func (t *adapter) Linked() bool { return t.one.Stands() }

// stats says how the pool's connections are used. The one that listens is not counted.
func (t *adapter) stats() tier.PoolStats {
	s := t.pool.Stat()
	return tier.PoolStats{
		Open: int(s.TotalConns()), Idle: int(s.IdleConns()), Active: int(s.AcquiredConns()),
		Fresh: s.NewConnsCount(), Reused: max(s.AcquireCount()-s.NewConnsCount(), 0),
	}
}

// Close implements tier.Tier. It waits at most 4 s for a server that hangs.
func (t *adapter) Close() error {
	t.stop()
	t.children.Go(t.pool.Close)
	t.children.Wait()
	return nil
}

// call gives f a connection, and another one where that turns out to be dead: after a restart of the server all idle
// ones are. What f does may be done twice. The caller's deadline holds, but a caller that merely leaves is served to the
// end: breaking off a query costs the connection, and there is not much of the timeout left.
func (t *adapter) call(ctx context.Context, what string, f func(context.Context, *pgxpool.Conn) error) error {
	err := ctx.Err()
	if err == nil {
		end := time.Now().Add(t.opt.Timeout)
		if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
			end = deadline
		}
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
		defer cancel()
		err = t.try(ctx, f)
	}
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", what, briefly(err))
	}
	return nil
}

func (t *adapter) try(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	if why := t.down.Load(); why != nil {
		return *why
	}
	for attempt := 0; ; attempt++ {
		conn, err := t.acquire(ctx)
		if err != nil {
			return err
		}
		if err = f(ctx, conn); t.outdated(conn) {
			err = errors.Join(err, tier.ErrOtherServer)
		}
		dead := conn.Conn().IsClosed()
		conn.Release()
		t.active.Add(-1)
		if tablesGone(err) {
			t.missing.Store(true)
			return fmt.Errorf("%w: %w", errUnavailable, err)
		}
		if err == nil || !dead || ctx.Err() != nil || attempt >= t.opt.Pool {
			return err
		}
	}
}

func (t *adapter) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	start, busy := time.Now(), t.active.Add(1) > int32(t.opt.Pool)
	conn, err := t.pool.Acquire(ctx)
	if busy {
		t.waited(time.Since(start))
	}
	if err != nil {
		t.active.Add(-1)
	}
	return conn, err
}
