package sqldb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	connectTimeout = 2 * time.Second // to a usable connection
	lingerTimeout  = time.Second     // of a connection that is given up
)

// config checks the options, defaults in, and turns them into the pool's.
func (o PostgresOptions) config() (*pgxpool.Config, error) {
	config, err := o.parse()
	err = errors.Join(err,
		checkCommon(o.Timeout, o.Sweep, o.MaxValue),
		within("pool.max", o.Pool.Max, maxPool),
		within("pool.lifetime", o.Pool.Lifetime, math.MaxInt64))
	if err != nil {
		return nil, err
	}
	o.tune(config)
	return config, nil
}

// parse reads the URL. It is stricter than the driver, for which "user:pass?word@host" is a host named user. The driver's
// error begins with the URL, and with one that it cannot parse it does not know what in it is a password.
func (o PostgresOptions) parse() (*pgxpool.Config, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, errors.New("url: not a URL")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("url: scheme %q is not postgres", u.Scheme)
	}
	config, err := pgxpool.ParseConfig(o.URL)
	if err == nil {
		return config, nil
	}
	text := err.Error()
	text = strings.TrimPrefix(text[strings.LastIndexByte(text, '`')+1:], ": ")
	if strings.HasPrefix(text, "failed to parse as URL") {
		text = "not the URL of a Postgres server"
	}
	return nil, errors.New("url: " + text)
}

func (o PostgresOptions) tune(config *pgxpool.Config) {
	config.MaxConns = int32(o.Pool.Max)
	config.MinConns, config.MinIdleConns = 0, min(config.MinIdleConns, config.MaxConns)
	config.MaxConnLifetime = o.Pool.Lifetime
	config.MaxConnLifetimeJitter = o.Pool.Lifetime / 10
	config.PingTimeout = o.Timeout
	// A ping before the query is a round trip more; a dead connection is found by the query as well (see call).
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }

	connection := config.ConnConfig
	// A row has one value in it. Rubbish spells lengths of up to a gigabyte, which would be taken at its word.
	connection.MaxProtocolMessageBodyLen = o.MaxValue + 64<<10
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

// eraKey is where a connection of the pool keeps the era from which it is.
const eraKey = "era"

// admit makes a new connection of the pool one that can be used.
func (p *Postgres) admit(ctx context.Context, conn *pgx.Conn) error {
	conn.PgConn().CustomData()[eraKey] = p.one.Era() // before its server is known: a link that changes after that outdates it
	id, err := serverID(ctx, conn)
	if err == nil {
		err = p.one.Admit(id)
	}
	if err != nil {
		return err
	}
	return made(conn)
}

// serverID returns what tells the server from others: when it was started, to the microsecond. The system identifier is the
// same for a server and its replicas, of which one may take its place while it lives on.
func serverID(ctx context.Context, conn *pgx.Conn) (id string, err error) {
	err = conn.QueryRow(ctx, "SELECT extract(epoch FROM pg_postmaster_start_time())::text", pgx.QueryExecModeSimpleProtocol).Scan(&id)
	return id, err
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
