package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"fluentd-perf/internal/cache/tier"
)

const (
	pingEvery  = time.Second
	silence    = 3 * time.Second // after which a link is cut
	linkCall   = time.Second     // for connecting and subscribing, and for a ping
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second // between two tries: a server that is back is heard within linkCall + lastPause and some
)

var (
	errSilent  = errors.New("the server is silent")
	errOneDial = errors.New("a link has one connection")
)

// link hears what is bumped, on a connection of its own. A goroutine connects, listens until the connection ends, pauses
// and connects again, until close.
type link struct {
	o       Options
	channel string
	sender  tier.Sender
	server  *goredis.Options
	dialer  *dialer
	missed  *atomic.Bool

	cancel context.CancelFunc
	done   chan struct{}
}

func newLink(o Options, channel string, sender tier.Sender, server *goredis.Options, d *dialer, missed *atomic.Bool) *link {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{o: o, channel: channel, sender: sender, server: server, dialer: d, missed: missed, cancel: cancel, done: make(chan struct{})}
	go l.run(ctx)
	return l
}

func (l *link) close() {
	l.cancel()
	<-l.done
}

// run keeps the link. It says once that it is lost and once that it is back.
func (l *link) run(ctx context.Context) {
	defer close(l.done)
	pause, told, stood := firstPause, false, false
	for {
		up := false
		err := l.hear(ctx, func() {
			if stood || l.missed.Load() {
				l.lost()
			}
			up, stood = true, true
			if l.dialer.one.Stand() && told {
				told = false
				l.o.Log.Info("redis: changes that other daemons hear of are heard again")
			}
		})
		if ctx.Err() != nil {
			return
		}
		if up && !errors.Is(err, tier.ErrOtherServer) { // two servers at one address would be linked in turn, without a rest
			pause = firstPause
		}
		if !told {
			l.o.Log.Warn(complaint(err, stood), "error", explain(err))
			told = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, lastPause)
	}
}

// complaint says in plain words what is wrong with the link; stood is whether it was there before.
func complaint(err error, stood bool) string {
	const unheard = ": changes that other daemons hear of are not heard"
	switch {
	case isReply(err):
		return "redis refuses the daemon" + unheard
	case stood:
		return "redis: the connection is lost" + unheard
	}
	return "redis cannot be reached" + unheard
}

// hear lives as long as one connection and returns why it ended. It calls ready when everything that is bumped from then
// on will be heard.
//
// The driver would connect again by itself, without a word and without a limit of time, holding the lock that its Close
// needs. So it gets one connection, which is closed under it, and its own Close is not used.
func (l *link) hear(ctx context.Context, ready func()) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var pinging sync.WaitGroup
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errRubbish, r)
		}
		cancel(nil)
		pinging.Wait()
	}()
	var id string
	client := goredis.NewClient(l.clientOptions(ctx, &id))
	defer client.Close()
	sub := client.Subscribe(ctx)
	if err := bounded(ctx, func(ctx context.Context) error { return sub.Subscribe(ctx, l.channel) }); err != nil {
		return err
	}
	var heard atomic.Int64
	heard.Store(time.Now().UnixNano())
	pinging.Go(func() { ping(ctx, cancel, sub, &heard) })
	for {
		m, err := sub.Receive(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		} else if err != nil {
			return err
		}
		heard.Store(time.Now().UnixNano())
		switch m := m.(type) {
		case *goredis.Subscription:
			l.dialer.one.Linked(id, func() { cancel(tier.ErrOtherServer) })
			defer l.dialer.one.Unlinked()
			ready()
		case *goredis.Message:
			l.message(m)
		}
	}
}

func bounded(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, linkCall)
	defer cancel()
	return f(ctx)
}

// clientOptions are the driver's for one link, whose connection ends with the context. id gets the server's run id.
func (l *link) clientOptions(ctx context.Context, id *string) *goredis.Options {
	c := baseOptions(l.server)
	c.PoolSize = 1
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout = dialTime, linkCall, linkCall
	c.OnConnect = func(ctx context.Context, conn *goredis.Conn) (err error) {
		*id, err = introduce(ctx, conn)
		return err
	}
	dialed := false // the driver dials under a lock
	c.Dialer = func(dctx context.Context, network, addr string) (net.Conn, error) {
		if dialed {
			return nil, errOneDial
		}
		dialed = true
		conn, err := l.dialer.dial(dctx, network, addr, max(tier.MessageBytes(chunk), maxLine), func() bool { return false })
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn, nil
	}
	return c
}

// ping asks for a sign of life every second, and cancels where there was none for three.
func ping(ctx context.Context, cancel context.CancelCauseFunc, sub *goredis.PubSub, heard *atomic.Int64) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Sub(time.Unix(0, heard.Load())) > silence {
				cancel(errSilent)
				return
			}
			// Where it fails, the connection is dead, and Receive says so.
			_ = bounded(ctx, func(ctx context.Context) error { return sub.Ping(ctx) })
		}
	}
}

// message tells of what was bumped. One that cannot be read may be a newer daemon's: then anything may have been.
func (l *link) message(m *goredis.Message) {
	generations, ok := l.sender.Parse([]byte(m.Payload))
	if !ok || len(generations) > chunk {
		l.lost()
		return
	}
	if len(generations) > 0 && l.o.Listener.Bumped != nil {
		l.o.Listener.Bumped(generations)
	}
}

func (l *link) lost() {
	if l.o.Listener.Lost != nil {
		l.o.Listener.Lost()
	}
}
