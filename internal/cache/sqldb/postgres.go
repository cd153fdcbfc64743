package sqldb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache"
)

// Defaults of PostgresPool.
const (
	DefaultPoolMax      = 4
	DefaultPoolLifetime = time.Hour
)

// PostgresPool bounds the connections. One more, outside the pool, listens.
type PostgresPool struct {
	Max      int           // 0 means DefaultPoolMax
	Lifetime time.Duration // of a connection, up to a tenth more; 0 means DefaultPoolLifetime
}

// PostgresOptions say where the server is and what it may cost.
type PostgresOptions struct {
	URL      string                   // postgres://, as pgx takes it; LISTEN does not pass a PgBouncer in transaction mode
	Space    string                   // daemons with different ones share nothing: at most 32 of a-z, 0-9, - and _
	MaxBytes int64                    // of the space's values as stored; looked at with every sweep; 0 means no limit
	Timeout  time.Duration            // of a whole call; 0 means DefaultTimeout
	MaxValue int                      // bytes of a value; larger ones are left out; 0 means DefaultMaxValue
	Pool     PostgresPool             //
	Sweep    time.Duration            // between two looks for what has expired; 0 means DefaultSweep
	Listener cache.Listener           // hears what daemons of the same Space bump; its functions may be nil
	Waited   func(wait time.Duration) // told how long a call waited for a connection, where all were taken; may be nil
	Log      *slog.Logger             // nil means silent
}

// Validate reports what is wrong with the options, without connecting. It quotes no password.
func (o *PostgresOptions) Validate() error {
	checked := o.withDefaults()
	_, err := checked.config()
	return err
}

func (o PostgresOptions) withDefaults() PostgresOptions {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxValue == 0 {
		o.MaxValue = DefaultMaxValue
	}
	if o.Pool.Max == 0 {
		o.Pool.Max = DefaultPoolMax
	}
	if o.Pool.Lifetime == 0 {
		o.Pool.Lifetime = DefaultPoolLifetime
	}
	if o.Sweep == 0 {
		o.Sweep = DefaultSweep
	}
	if o.Waited == nil {
		o.Waited = func(time.Duration) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Postgres is a tier in a Postgres server that several daemons may share. It has two tables, which it makes itself; both
// are UNLOGGED: a server that crashes comes back with them empty.
type Postgres struct {
	opt   PostgresOptions
	codec *codec
	pool  *pgxpool.Pool
	space []byte

	usable    atomic.Bool // the tables have been seen, and the link has been up once
	missing   atomic.Bool // a call found the tables gone
	listening atomic.Bool
	active    atomic.Int32
	evictions atomic.Int64

	stop     context.CancelFunc
	children sync.WaitGroup
}

// OpenPostgres opens the tier. The error says which option is wrong. A server that is not there is none: calls fail
// until it is, and it is tried at least every 3 s.
func OpenPostgres(opt PostgresOptions) (*Postgres, error) {
	opt = opt.withDefaults()
	config, err := opt.config()
	if err != nil {
		return nil, err
	}
	p := &Postgres{opt: opt, space: []byte(opt.Space)}
	if p.codec, err = newCodec(opt.MaxValue); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if p.pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		p.codec.close()
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

// Listening reports whether the link on which bumps are heard is up: it was 3 s ago at the latest.
func (p *Postgres) Listening() bool { return p.listening.Load() }

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
	p.codec.close()
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
		return fmt.Errorf("postgres: %s: %w", what, err)
	}
	return nil
}

func (p *Postgres) try(ctx context.Context, f func(context.Context, *pgxpool.Conn) error) error {
	if !p.usable.Load() {
		return ErrUnavailable
	}
	for attempt := 0; ; attempt++ {
		conn, err := p.acquire(ctx)
		if err != nil {
			return err
		}
		err = f(ctx, conn)
		dead := conn.Conn().IsClosed()
		conn.Release()
		p.active.Add(-1)
		if err == nil {
			return nil
		}
		if tablesGone(err) {
			p.missing.Store(true)
			return errors.Join(ErrUnavailable, err)
		}
		if !dead || ctx.Err() != nil || attempt >= p.opt.Pool.Max {
			return err
		}
	}
}

func (p *Postgres) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	start, crowded := time.Now(), p.active.Add(1) > int32(p.opt.Pool.Max)
	conn, err := p.pool.Acquire(ctx)
	if crowded {
		p.opt.Waited(time.Since(start))
	}
	if err != nil {
		p.active.Add(-1)
	}
	return conn, err
}
