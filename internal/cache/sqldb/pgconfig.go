package sqldb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	connectTimeout = 2 * time.Second // to a usable connection
	lingerTimeout  = time.Second     // of a connection that is given up
)

// config checks the options and turns them into the pool's.
func (o *PostgresOptions) config() (*pgxpool.Config, error) {
	var errs []error
	if o.Timeout < 0 || o.Sweep < 0 || o.Pool.Lifetime < 0 {
		errs = append(errs, errors.New("a time is negative"))
	}
	if o.MaxValue < 0 || o.MaxBytes < 0 || o.Pool.Max < 0 || o.Pool.Max > 1000 {
		errs = append(errs, errors.New("a size is negative, or more than 1000 connections"))
	}
	if strings.Trim(o.Space, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(o.Space) > 32 {
		errs = append(errs, errors.New("the space is not at most 32 of a-z, 0-9, - and _"))
	}
	if !strings.HasPrefix(o.URL, "postgres://") && !strings.HasPrefix(o.URL, "postgresql://") {
		errs = append(errs, errors.New("the URL does not begin with postgres://"))
	} else if config, err := pgxpool.ParseConfig(o.URL); err != nil {
		errs = append(errs, err)
	} else if len(errs) == 0 {
		o.tune(config)
		return config, nil
	}
	return nil, fmt.Errorf("postgres: %w", errors.Join(errs...))
}

func (o *PostgresOptions) tune(config *pgxpool.Config) {
	config.MaxConns = int32(o.Pool.Max)
	config.MinConns, config.MinIdleConns = 0, min(config.MinIdleConns, config.MaxConns)
	config.MaxConnLifetime = o.Pool.Lifetime
	config.MaxConnLifetimeJitter = o.Pool.Lifetime / 10
	config.PingTimeout = o.Timeout
	// A ping before the query is a round trip more; a dead connection is found by the query as well (see call).
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error { return made(conn) }

	connection := config.ConnConfig
	connection.ConnectTimeout = connectTimeout
	connection.DialFunc = dial
	if connection.RuntimeParams["application_name"] == "" {
		connection.RuntimeParams["application_name"] = "fluentd-perf"
	}
}

// dial connects to the server. The connection breaks by itself if it is not a usable one, by made, in time: pgx also
// dials to cancel a query, and waits for the answer to that for 15 s, with the pool's place taken all the while.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return boundConn{conn}, nil
}

// made lifts the deadline of dial from a connection that is ready.
func made(conn *pgx.Conn) error { return conn.PgConn().Conn().SetDeadline(time.Time{}) }

// boundConn has no deadline lie farther off than lingerTimeout. pgx sets one in the future only to see off a connection
// that it gave up (15 s; a context's end is a deadline in the past).
type boundConn struct{ net.Conn }

// SetDeadline implements net.Conn.
func (c boundConn) SetDeadline(t time.Time) error {
	if latest := time.Now().Add(lingerTimeout); t.After(latest) {
		t = latest
	}
	return c.Conn.SetDeadline(t)
}
