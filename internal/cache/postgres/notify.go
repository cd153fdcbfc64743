package postgres

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
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
func (t *adapter) channel() string { return "fluentd_perf_" + t.opt.Prefix }

// received passes a notification on. One that makes no sense may be a newer daemon's: then everything may be stale.
func (t *adapter) received(n *pgconn.Notification) {
	raw, err := base64.RawStdEncoding.DecodeString(n.Payload)
	generations, ok := t.sender.Parse(raw)
	if err != nil || !ok {
		t.opt.Listener.Lost()
	} else if len(generations) > 0 {
		t.opt.Listener.Bumped(generations)
	}
}

// keepLink keeps a connection of its own, on which the tables are made and bumps are received, until ctx ends.
func (t *adapter) keepLink(ctx context.Context) {
	pause, logged := linkMinPause, ""
	for {
		up, err := t.link(ctx)
		if ctx.Err() != nil {
			return
		}
		if up && !errors.Is(err, tier.ErrOtherServer) { // two servers at one address would be linked in turn, without a rest
			pause, logged = linkMinPause, ""
		}
		err = briefly(err)
		line := "postgres: the connection is lost"
		if t.down.Load() != nil {
			line = "postgres cannot be used"
			why := fmt.Errorf("%w: %w", errUnavailable, err)
			t.down.Store(&why)
		}
		if err.Error() != logged {
			logged = err.Error()
			t.opt.Log.Warn(line+": invalidations by other daemons are not received", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, linkMaxPause)
	}
}

// link connects, listens until the link breaks, and reports whether it ever was up.
func (t *adapter) link(ctx context.Context) (up bool, err error) {
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(connecting, t.pool.Config().ConnConfig)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), lingerTimeout)
		defer cancel()
		_ = conn.Close(closing) // it is of no more use either way
		<-conn.PgConn().CleanupDone()
	}()
	t.missing.Store(false)
	id, err := t.listen(ctx, conn)
	if err != nil {
		return false, err
	}
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	if t.one.Linked(id, func() { cut(tier.ErrOtherServer) }) {
		t.opt.Listener.Moved()
	}
	defer t.one.Unlinked()
	t.pool.Reset() // its connections may be at another server
	if t.down.Swap(nil) == nil {
		t.opt.Listener.Lost() // before anybody sees the link stand
	}
	if !t.one.Stand() {
		return true, context.Cause(ctx)
	}
	t.opt.Log.Info("postgres is in use: invalidations by other daemons are received")
	for err == nil {
		err = t.receive(ctx, conn)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return true, err
}

// listen makes the tables and then listens, so that who uses them misses nothing. It returns which server it is.
func (t *adapter) listen(ctx context.Context, conn *pgx.Conn) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := made(conn); err != nil {
		return "", err
	}
	if id, err = serverID(ctx, conn); err != nil {
		return "", err
	}
	if err := migrate(ctx, conn); err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "LISTEN "+pgx.Identifier{t.channel()}.Sanitize(), pgx.QueryExecModeSimpleProtocol)
	return id, err
}

var errGone = errors.New("the tables are not there any more")

// receive waits for one notification; after a silence it asks whether the link still holds. Where the tables have gone, the
// link is made anew, and they with it.
func (t *adapter) receive(ctx context.Context, conn *pgx.Conn) error {
	silence, cancel := context.WithTimeout(ctx, linkPing)
	defer cancel()
	if t.missing.Swap(false) {
		return errGone
	}
	n, err := conn.WaitForNotification(silence)
	if err == nil {
		t.received(n)
		return nil
	}
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed() {
		return err
	}
	alive, cancel := context.WithTimeout(ctx, linkCut)
	defer cancel()
	return conn.Ping(alive)
}
