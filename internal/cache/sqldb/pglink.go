package sqldb

import (
	"context"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"fluentd-perf/internal/cache/tier"
)

const (
	linkPing = time.Second // of silence before the link is asked for a sign of life
	linkCut  = 2 * time.Second

	migrateTimeout = 30 * time.Second // others may be at it
	linkMinPause   = 100 * time.Millisecond
	linkMaxPause   = time.Second

	notifyChunk = 300 // generations of a notification, whose text may have 8000 bytes
)

// channel is the name of the prefix's notifications.
func (p *Postgres) channel() string { return "fluentd_perf_" + p.opt.Prefix }

// heard passes a notification on. One that makes no sense may be a newer daemon's: then everything may be old.
func (p *Postgres) heard(n *pgconn.Notification) {
	raw, err := base64.RawStdEncoding.DecodeString(n.Payload)
	generations, ok := p.sender.Parse(raw)
	if err != nil || !ok {
		p.lost()
		return
	}
	if len(generations) > 0 && p.opt.Listener.Bumped != nil {
		p.opt.Listener.Bumped(generations)
	}
}

func (p *Postgres) lost() {
	if p.opt.Listener.Lost != nil {
		p.opt.Listener.Lost()
	}
}

// keepLink keeps a connection of its own, on which the tables are made and bumps are heard, until ctx ends.
func (p *Postgres) keepLink(ctx context.Context) {
	pause, said := linkMinPause, ""
	for {
		up, err := p.link(ctx)
		if ctx.Err() != nil {
			return
		}
		if up && !errors.Is(err, tier.ErrOtherServer) { // two servers at one address would be linked in turn, without a rest
			pause, said = linkMinPause, ""
		}
		err = briefly(err)
		p.outage.set(err)
		if err.Error() != said {
			said = err.Error()
			p.opt.Log.Warn(p.unheard(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, linkMaxPause)
	}
}

// unheard says in plain words what is wrong with the link.
func (p *Postgres) unheard() string {
	const unheard = ": changes that other daemons hear of are not heard"
	if p.usable.Load() {
		return "postgres: the connection is lost" + unheard
	}
	return "postgres cannot be used" + unheard
}

// link connects, listens until the link breaks, and reports whether it ever was up.
func (p *Postgres) link(ctx context.Context) (up bool, err error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), lingerTimeout)
		defer cancel()
		_ = conn.Close(closing) // it is of no more use either way
		<-conn.PgConn().CleanupDone()
	}()
	p.missing.Store(false)
	id, err := serverID(ctx, conn)
	if err != nil {
		return false, err
	}
	if err := p.listen(ctx, conn); err != nil {
		return false, err
	}
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	p.one.Linked(id, func() { cut(tier.ErrOtherServer) })
	defer p.one.Unlinked()
	p.pool.Reset() // its connections may be at another server
	if p.usable.Load() {
		p.lost() // before anybody sees the link stand
	}
	p.usable.Store(true)
	if !p.one.Stand() {
		return true, context.Cause(ctx)
	}
	p.opt.Log.Info("postgres is in use: changes that other daemons hear of are heard")
	for {
		if err := p.hear(ctx, conn); ctx.Err() != nil {
			return true, context.Cause(ctx)
		} else if err != nil {
			return true, err
		}
	}
}

func (p *Postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig)
	if err != nil {
		return nil, err
	}
	return conn, made(conn)
}

// listen makes the tables and then listens, so that who uses them misses nothing.
func (p *Postgres) listen(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := migrate(ctx, conn); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{p.channel()}.Sanitize(), pgx.QueryExecModeSimpleProtocol)
	return err
}

var errGone = errors.New("the tables are not there any more")

// hear waits for one notification; after a silence it asks whether the link still holds. Where the tables have gone, the
// link is made anew, and they with it.
func (p *Postgres) hear(ctx context.Context, conn *pgx.Conn) error {
	silence, cancel := context.WithTimeout(ctx, linkPing)
	defer cancel()
	if p.missing.Swap(false) {
		return errGone
	}
	n, err := conn.WaitForNotification(silence)
	if err == nil {
		p.heard(n)
		return nil
	}
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed() {
		return err
	}
	alive, cancel := context.WithTimeout(ctx, linkCut)
	defer cancel()
	return conn.Ping(alive)
}
