package http

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Transport carries requests.
type Transport = transport

// SetTransport has f called with each of the two transports before it is used, after those that were set before; what f returns
// is used. Connections that f makes in place of the upstream's dialing are counted nowhere.
func (o *Options) SetTransport(f func(t *http.Transport, long bool) Transport) {
	before := o.changed
	o.changed = func(t *http.Transport, long bool) transport {
		if before != nil {
			t = before(t, long).(*http.Transport)
		}
		rt := f(t, long)
		t.DialContext = countable(t.DialContext)
		return rt
	}
}

type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

func countable(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if _, ok := c.(*counted); ok || err != nil {
			return c, err
		}
		return newPool(&PoolOptions{MaxAge: time.Hour}).opened(c), nil
	}
}

// Counted wraps a connection as the upstream's own dialing does.
func (u *Upstream) Counted(c net.Conn) net.Conn { return u.pool.opened(c) }
