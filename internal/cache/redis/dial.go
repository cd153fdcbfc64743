package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"fluentd-perf/internal/cache/tier"
)

// dialTime ends a dial with its TLS. It is longer than a call waits: a dial that takes longer than that goes on, and the
// connection is there for the next call.
const dialTime = time.Second

// clientOptions are the driver's for calls. Each line that looks odd takes a default away that does not suit a cache: the
// driver would wait 5 s where the context says 50 ms, retry three times, open more connections than its pool has, and keep
// 64 to 256 KiB of buffers for each.
func clientOptions(server *goredis.Options, o Options, d *dialer) *goredis.Options {
	c := baseOptions(server)
	c.Dialer = d.pooled(valueHeader(0) + 4096 + o.MaxValue)
	c.OnConnect = func(ctx context.Context, conn *goredis.Conn) error {
		id, err := introduce(ctx, conn)
		if err != nil {
			return err
		}
		if err := d.one.Admit(id); err != nil {
			return err
		}
		d.learn(id)
		return nil
	}
	c.DialTimeout, c.PoolTimeout = dialTime, o.Timeout
	c.ReadTimeout, c.WriteTimeout = -1, -1 // none but the context's, which every call has
	c.ConnMaxLifetime, c.ConnMaxLifetimeJitter = o.Lifetime, o.Lifetime/10
	c.PoolSize, c.MaxActiveConns, c.MaxConcurrentDials = o.Pool, o.Pool, min(o.Pool, 4)
	return c
}

// baseOptions are what all connections share.
func baseOptions(server *goredis.Options) *goredis.Options {
	return &goredis.Options{
		Network: server.Network, Addr: server.Addr, DB: server.DB,
		Username: server.Username, Password: server.Password,
		ContextTimeoutEnabled: true, // off by default
		Protocol:              2,    // no push messages between the answers
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

// clientName is what CLIENT LIST shows of the connections.
const clientName = "fluentd-perf"

// introduce names a connection, for the server's operator. A server that does not allow that is as good: the driver's own
// option for it would refuse to work with one. It returns the run id of the server, "" where that does not say.
func introduce(ctx context.Context, c *goredis.Conn) (id string, err error) {
	var info *goredis.StringCmd
	_, err = c.Pipelined(ctx, func(p goredis.Pipeliner) error {
		p.ClientSetName(ctx, clientName)
		info = p.Info(ctx, "server")
		return nil
	})
	if err != nil && !isReply(err) {
		return "", err
	}
	_, text, _ := strings.Cut(info.Val(), "run_id:")
	id, _, _ = strings.Cut(text, "\r\n")
	return id, nil
}

// dialer opens the connections of a tier, and ends those that are being opened when the tier does.
type dialer struct {
	tls  *tls.Config // nil without TLS
	one  tier.OneServer
	at   atomic.Pointer[process] // where the connections for calls are; never nil
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex // guards closed and Add on dialing
	closed  bool
	dialing sync.WaitGroup
}

// process is a server's: its run id, and the how manyth it is, of 0 nothing is known yet.
type process struct {
	run    string
	number int
}

// learn notes the run id that a new connection for calls was told. Where it is another one, no connection of before is used
// any more, this one included: calls are at one server.
func (d *dialer) learn(run string) {
	for {
		old := d.at.Load()
		if run == "" || run == old.run || d.at.CompareAndSwap(old, &process{run, old.number + 1}) {
			return
		}
	}
}

func newDialer(server *goredis.Options) *dialer {
	d := &dialer{tls: server.TLSConfig}
	d.at.Store(new(process))
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d
}

// wait returns when nothing is being dialled any more, and sees to it that nothing is again. Call stop before.
func (d *dialer) wait() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.dialing.Wait()
}

// begin says whether a dial may begin; then dialing.Done is owed.
func (d *dialer) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.dialing.Add(1)
	return true
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// pooled is the pool's dial function. It never fails: where it cannot connect it hands over a connection that says so at its
// first use. The pool would count failures, after some refuse to dial without trying, and leave a goroutine behind that
// outlives Close by a second; so each call finds out by itself how the server is.
func (d *dialer) pooled(maxBulk int) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		era, number := d.one.Era(), max(1, d.at.Load().number) // the first connection is that of the first server
		c, err := d.dial(ctx, network, addr, maxBulk, func() bool {
			return d.one.Era() != era || d.at.Load().number > number
		})
		if err != nil {
			return brokenConn{err}, nil
		}
		return c, nil
	}
}

// dial connects within dialTime, checks what comes back as RESP, and takes no bulk string over maxBulk bytes. The connection
// ends when it is used and past says so.
func (d *dialer) dial(ctx context.Context, network, addr string, maxBulk int, past func() bool) (net.Conn, error) {
	if !d.begin() {
		return nil, net.ErrClosed
	}
	defer d.dialing.Done()
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	checked := checkedConn{Conn: raw, raw: raw, check: respCheck{maxBulk: maxBulk}, past: past}
	if d.tls == nil {
		return &plainConn{checked}, nil
	}
	secure := tls.Client(raw, d.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // it is of no more use either way
		return nil, err
	}
	checked.Conn = secure
	return &checked, nil
}

// checkedConn ends where the server stops to talk RESP, before the driver sees it: the driver reserves as many bytes as an
// answer announces, and goes as deep as it is nested.
type checkedConn struct {
	net.Conn
	raw   net.Conn
	check respCheck // of what was read; one reads at a time
	past  func() bool
}

// Read implements net.Conn.
func (c *checkedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.past() {
		return 0, tier.ErrOtherServer
	}
	if bad := c.check.feed(b[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

// Write implements net.Conn.
func (c *checkedConn) Write(b []byte) (int, error) {
	if c.past() {
		return 0, tier.ErrOtherServer
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn. It skips the good-bye of TLS, which waits for a server that may be hung.
func (c *checkedConn) Close() error { return c.raw.Close() }

// SyscallConn implements syscall.Conn, by which the pool throws a connection away that is not to be used any more. With TLS
// the driver must not look for bytes: there may be some that are no answer.
func (c *checkedConn) SyscallConn() (syscall.RawConn, error) {
	if c.past() {
		return nil, tier.ErrOtherServer
	}
	return quietConn{}, nil
}

// quietConn is one on which nothing has come.
type quietConn struct{}

func (quietConn) Control(func(uintptr)) error    { return nil }
func (quietConn) Read(func(uintptr) bool) error  { return nil }
func (quietConn) Write(func(uintptr) bool) error { return nil }

// plainConn is one without TLS. The driver looks through it whether the server has hung up before it uses it again; with
// TLS there may be bytes that are no answer.
type plainConn struct{ checkedConn }

// SyscallConn implements syscall.Conn.
func (c *plainConn) SyscallConn() (syscall.RawConn, error) {
	if c.past() {
		return nil, tier.ErrOtherServer // so the pool takes another
	}
	if s, ok := c.raw.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// brokenConn is a connection that did not come about.
type brokenConn struct{ err error }

func (c brokenConn) Read([]byte) (int, error)         { return 0, c.err }
func (c brokenConn) Write([]byte) (int, error)        { return 0, c.err }
func (c brokenConn) Close() error                     { return nil }
func (c brokenConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (c brokenConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (c brokenConn) SetDeadline(time.Time) error      { return nil }
func (c brokenConn) SetReadDeadline(time.Time) error  { return nil }
func (c brokenConn) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn implements syscall.Conn, by which the pool throws it away should nobody have waited for it.
func (c brokenConn) SyscallConn() (syscall.RawConn, error) { return nil, c.err }
