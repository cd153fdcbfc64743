package redis

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"fluentd-perf/internal/cache/tier"
)

// dialTimeout ends a dial with its TLS. It is longer than a call waits: a dial that takes longer than that goes on, and the
// connection is there for the next call.
const dialTimeout = time.Second

// callOptions are the driver's for calls.
func (t *adapter) callOptions() *goredis.Options {
	c := t.dialer.options()
	c.Dialer = t.dialer.dialPooled(valueHeader(0) + 4096 + t.o.MaxValue)
	c.OnConnect = func(ctx context.Context, conn *goredis.Conn) error {
		run, err := identify(ctx, conn)
		if err == nil {
			err = t.dialer.admit(run)
		}
		return err
	}
	c.PoolTimeout = t.o.Timeout
	c.ReadTimeout, c.WriteTimeout = -1, -1 // none but the context's, which every call has
	c.ConnMaxLifetime, c.ConnMaxLifetimeJitter = t.o.Lifetime, t.o.Lifetime/10
	c.PoolSize, c.MaxActiveConns, c.MaxConcurrentDials = t.o.Pool, t.o.Pool, min(t.o.Pool, 4)
	return c
}

// identify names a connection, for the server's operator. A server that does not allow that is as good: the driver's own
// option for it would refuse to work with one. It returns the run id of the server, "" where that does not say.
func identify(ctx context.Context, c *goredis.Conn) (run string, err error) {
	var info *goredis.StringCmd
	_, err = c.Pipelined(ctx, func(p goredis.Pipeliner) error {
		p.ClientSetName(ctx, "fluentd-perf") // CLIENT LIST shows it
		info = p.Info(ctx, "server")
		return nil
	})
	if err != nil && !isReply(err) {
		return "", err
	}
	_, text, _ := strings.Cut(info.Val(), "run_id:")
	run, _, _ = strings.Cut(text, "\r\n")
	return run, nil
}

// dialer opens the connections of a tier, and ends those that are being opened when the tier closes.
type dialer struct {
	server *goredis.Options        // where it is and as whom, nothing else
	one    tier.OneServer          // holds the connections for calls to the server of the link
	calls  atomic.Pointer[process] // where the connections for calls are; never nil
	ctx    context.Context
	stop   context.CancelFunc

	dialing sync.RWMutex // each dial holds it for reading
}

// process is a server's, as the connections for calls find one after the other.
type process struct {
	run    string // its run id
	number int    // from 1; 0 where none has been found yet
}

func newDialer(server *goredis.Options) *dialer {
	d := &dialer{server: server}
	d.calls.Store(new(process))
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d
}

// wait returns when nothing is being dialled any more, and nothing will be. Call stop before.
func (d *dialer) wait() {
	d.dialing.Lock()
	defer d.dialing.Unlock()
}

// options are the driver's that all connections share. Each line that looks strange replaces a default that does not
// suit a cache: the driver would wait 5 s where the context says 50 ms, retry three times, open more connections than its pool has,
// and keep 64 to 256 KiB of buffers for each.
func (d *dialer) options() *goredis.Options {
	return &goredis.Options{
		Network: d.server.Network, Addr: d.server.Addr, DB: d.server.DB,
		Username: d.server.Username, Password: d.server.Password,
		ContextTimeoutEnabled: true, // off by default
		DialTimeout:           dialTimeout,
		Protocol:              2, // no push messages between the answers
		MaxRetries:            -1, DialerRetries: 1,
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		PipelinePoolSize: -1, // pipelines share the one pool
		ConnMaxIdleTime:  5 * time.Minute,
		DisableIdentity:  true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
}

// admit says whether a new connection for calls may be used, whose server has that run id. Where it is another one than
// before, no connection of before is used any more, this one included: calls are at one server.
func (d *dialer) admit(run string) error {
	if err := d.one.Admit(run); err != nil {
		return err
	}
	for {
		before := d.calls.Load()
		if run == "" || run == before.run || d.calls.CompareAndSwap(before, &process{run, before.number + 1}) {
			return nil
		}
	}
}

// dialPooled is the pool's dial function. It never fails: where it cannot connect it returns a connection that says so at its
// first use. The pool would count failures, after some refuse to dial without trying, and leave a goroutine behind that
// outlives Close by a second; so each call finds out by itself how the server is.
func (d *dialer) dialPooled(maxBulk int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		epoch, number := d.one.Epoch(), max(1, d.calls.Load().number) // the first connection is that of the first server
		c, err := d.dial(ctx, network, addr, maxBulk, func() error {
			if d.one.Epoch() != epoch || d.calls.Load().number > number {
				return tier.ErrOtherServer
			}
			return nil
		})
		if err != nil {
			pipe, _ := net.Pipe() // for its addresses and deadlines
			c = &checkedConn{Conn: pipe, fault: func() error { return err }}
		}
		return c, nil
	}
}

// dial connects within the driver's DialTimeout, checks what comes back as RESP, and takes no bulk string over maxBulk bytes.
// The connection ends when it is used and has a fault.
func (d *dialer) dial(ctx context.Context, network, addr string, maxBulk int, fault func() error) (net.Conn, error) {
	d.dialing.RLock()
	defer d.dialing.RUnlock()
	if d.ctx.Err() != nil {
		return nil, net.ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	connect := new(net.Dialer).DialContext
	if d.server.TLSConfig != nil {
		connect = (&tls.Dialer{Config: d.server.TLSConfig}).DialContext
	}
	c, err := connect(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &checkedConn{Conn: c, check: respCheck{maxBulk: maxBulk}, fault: fault}, nil
}
