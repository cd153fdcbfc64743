package postgres

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	connectTimeout = 2 * time.Second // to a usable connection
	lingerTimeout  = time.Second     // of a connection that is given up
)

// configure sets what connections of the pool and the one that listens need.
func (t *adapter) configure(config *pgxpool.Config) {
	config.MaxConns = int32(t.opt.Pool)
	config.MinConns, config.MinIdleConns = 0, min(config.MinIdleConns, config.MaxConns)
	config.MaxConnLifetime = t.opt.Lifetime
	config.MaxConnLifetimeJitter = t.opt.Lifetime / 10
	config.PingTimeout = t.opt.Timeout
	// A ping before the query is a round trip more; a dead connection is found by the query as well (see call).
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	config.AfterConnect = t.admit

	connection := config.ConnConfig
	// A row has one value in it. A corrupt answer spells lengths of up to a gigabyte, which would be taken at its word.
	connection.MaxProtocolMessageBodyLen = t.opt.MaxValue + 64<<10
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

// epochKey is where a connection of the pool keeps the epoch of tier.OneServer from which it is.
const epochKey = "epoch"

// admit makes a new connection of the pool one that can be used.
func (t *adapter) admit(ctx context.Context, conn *pgx.Conn) error {
	conn.PgConn().CustomData()[epochKey] = t.one.Epoch() // before its server is known: a link that changes after that outdates it
	id, err := serverID(ctx, conn)
	if err == nil {
		err = t.one.Admit(id)
	}
	if err != nil {
		return err
	}
	return made(conn)
}

// outdated says whether the server of the link was another when the connection was made: not when it was acquired, since the
// pool is reset after the link is noted.
func (t *adapter) outdated(conn *pgxpool.Conn) bool {
	return conn.Conn().PgConn().CustomData()[epochKey] != t.one.Epoch()
}

// serverID returns what tells the server from others: when it was started, to the microsecond. The system identifier is the
// same for a server and its replicas, of which one may take its place while it lives on.
func serverID(ctx context.Context, conn *pgx.Conn) (id string, err error) {
	err = conn.QueryRow(ctx, "SELECT extract(epoch FROM pg_postmaster_start_time())::text", pgx.QueryExecModeSimpleProtocol).Scan(&id)
	return id, err
}
