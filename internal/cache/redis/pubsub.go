package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"fluentd-perf/internal/cache/tier"
)

const (
	pingEvery  = time.Second
	silence    = 3 * time.Second // after which a link is cut: no message, and no answer to a ping
	linkCall   = time.Second     // for connecting and subscribing, and for a ping
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second // between two tries: a server that is back has a link within linkCall + lastPause and some
)

var errSilent = errors.New("the server is silent")

// link receives what other daemons bump, on a connection of its own.
type link struct {
	t      *adapter
	stood  bool // it has stood before
	warned bool // the log says that it does not
}

// run connects, receives until the connection ends, pauses and connects again, until ctx ends.
func (l *link) run(ctx context.Context) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		stood, err := l.receive(ctx)
		if ctx.Err() != nil {
			return
		}
		if stood && !errors.Is(err, tier.ErrOtherServer) { // two servers at one address would be linked in turn, without a rest
			pause = firstPause
		}
		l.warn(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
	}
}

// warn says in plain words what is wrong with the link, once until it stands again.
func (l *link) warn(err error) {
	if l.warned {
		return
	}
	l.warned = true
	what := "redis cannot be reached"
	switch {
	case isReply(err):
		what = "redis refuses the daemon"
	case l.stood:
		what = "redis: the connection is lost"
	}
	l.t.o.Log.Warn(what+": invalidations by other daemons are not received", "error", explain(err))
}

// stand has the link stand: everything that is bumped from now on will be received.
func (l *link) stand() {
	if l.stood || l.t.missed.Load() {
		l.lost()
	}
	l.stood = true
	if l.t.dialer.one.Stand() && l.warned {
		l.warned = false
		l.t.o.Log.Info("redis: invalidations by other daemons are received again")
	}
}

// receive lives as long as one connection and returns why it ended, and whether the link stood.
//
// The driver would connect again by itself, without a word and without a limit of time, holding the lock that its Close
// needs. So it gets one connection, which is closed under it, and its own Close is not used.
func (l *link) receive(ctx context.Context) (stood bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var pinging sync.WaitGroup
	defer pinging.Wait()
	defer cancel(nil)
	defer malformed(&err)
	var run string
	client := goredis.NewClient(l.options(ctx, &run))
	defer client.Close()
	sub := client.Subscribe(ctx)
	within, stop := context.WithTimeout(ctx, linkCall)
	defer stop()
	if err := sub.Subscribe(within, l.t.names.channel); err != nil {
		return false, err
	}
	pinging.Go(func() { ping(ctx, sub) })
	defer l.t.dialer.one.Unlinked()
	for {
		m, err := sub.ReceiveTimeout(ctx, silence)
		switch cause := context.Cause(ctx); {
		case cause != nil:
			return stood, cause
		case errors.Is(err, os.ErrDeadlineExceeded):
			return stood, errSilent
		case err != nil:
			return stood, err
		}
		switch m := m.(type) {
		case *goredis.Subscription:
			if l.t.dialer.one.Linked(run, func() { cancel(tier.ErrOtherServer) }) && l.t.o.Listener.Moved != nil {
				l.t.o.Listener.Moved()
			}
			stood = true
			l.stand()
		case *goredis.Message:
			l.message(m)
		}
	}
}

// options are the driver's for one link, whose connection ends with the context. run gets the server's run id.
func (l *link) options(ctx context.Context, run *string) *goredis.Options {
	c := l.t.dialer.options()
	c.PoolSize = 1
	c.ReadTimeout, c.WriteTimeout = linkCall, linkCall
	c.OnConnect = func(ctx context.Context, conn *goredis.Conn) (err error) {
		*run, err = identify(ctx, conn)
		return err
	}
	dialed := false // the driver dials under a lock
	c.Dialer = func(dctx context.Context, network, addr string) (net.Conn, error) {
		if dialed {
			return nil, net.ErrClosed // a link has one connection
		}
		dialed = true
		conn, err := l.t.dialer.dial(dctx, network, addr, max(len(l.t.sender.Message(make([]tier.Generation, chunk))), maxLine), func() error { return nil })
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
	return c
}

// ping asks for a sign of life every second.
func ping(ctx context.Context, sub *goredis.PubSub) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = sub.Ping(ctx) // where it fails, the connection is dead, and receive returns
		}
	}
}

// message passes on what was bumped. One that cannot be read may be a newer daemon's: then anything may have been.
func (l *link) message(m *goredis.Message) {
	switch generations, ok := l.t.sender.Parse([]byte(m.Payload)); {
	case !ok || len(generations) > chunk:
		l.lost()
	case len(generations) > 0 && l.t.o.Listener.Bumped != nil:
		l.t.o.Listener.Bumped(generations)
	}
}

func (l *link) lost() {
	if l.t.o.Listener.Lost != nil {
		l.t.o.Listener.Lost()
	}
}
