package http

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	keepAlive    = 30 * time.Second // between TCP keep-alive probes on a quiet connection
	maxHead      = 1 << 20          // largest head of an answer, in bytes
	callBuffer   = 8 << 10          // per connection and direction: most calls fit, so each is one write and one read
	streamBuffer = 1 << 10          // there may be ten thousand streams
)

// transport carries requests: an http.Transport, or in tests what is around one.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// newTransport returns what carries calls, or streams without end. It speaks HTTP/1.1 only: net/http's HTTP/2 client sends a
// request again after a RST_STREAM or GOAWAY, written or not and as often as it takes, and nothing can tell it not to.
//
// This package relies on its calling the httptrace hooks GetConn and GotConn on RoundTrip's own goroutine; on its ending with
// context.Cause of the request's context when that ends, and closing the connection then; and on its sending no request a
// second time of which a byte was written, unless its verb is GET.
func (u *Upstream) newTransport(long bool) transport {
	p := &u.opts.Pool
	t := &http.Transport{
		DialContext:            u.dialForCalls,
		TLSHandshakeTimeout:    u.opts.Timeouts.Connect,
		DisableCompression:     true, // bytes pass as they are: net/http must not ask for gzip and unpack it
		MaxIdleConnsPerHost:    p.MaxIdle,
		MaxConnsPerHost:        p.MaxConnections + warmStreams,
		IdleConnTimeout:        p.IdleTimeout,
		MaxResponseHeaderBytes: maxHead,
		ReadBufferSize:         callBuffer,
		WriteBufferSize:        callBuffer,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if proxy := proxyFor(u.opts.URL); proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
		t.DialContext = u.dial // one address for all the hosts that redirects lead to: their idle connections would keep others out
	}
	if long {
		t.DialContext, t.MaxConnsPerHost = u.dial, 0
		t.ReadBufferSize, t.WriteBufferSize = streamBuffer, streamBuffer
	}
	if u.opts.changed != nil {
		return u.opts.changed(t, long)
	}
	return t
}

// proxyFor returns the proxy that the environment names for the server, or nil. The environment is read once in the life
// of the process, and one that cannot be read as a URL counts as none: net/http's rules.
func proxyFor(u *url.URL) *url.URL {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil // RFC 6761: localhost names are loopback
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if err != nil {
		return nil
	}
	return proxy
}

// dialForCalls opens a connection when there is room for it.
func (u *Upstream) dialForCalls(ctx context.Context, network, addr string) (net.Conn, error) {
	room := u.pool.room
	// The transport goes on when its caller has left; this ends it.
	wait, cancel := context.WithTimeout(ctx, u.opts.Timeouts.Connect)
	defer cancel()
	if err := room.take(wait, addr); err != nil {
		return nil, err
	}
	c, err := u.dial(ctx, network, addr)
	if err != nil {
		room.put(addr)
		return nil, err
	}
	c.(*counted).closed = func() { room.put(addr) }
	return c, nil
}

// dial opens a connection and counts it as open until it is closed.
func (u *Upstream) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         u.opts.Timeouts.Connect, // the transport goes on dialing when its caller has left
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3},
	}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return u.pool.opened(c), nil
}
