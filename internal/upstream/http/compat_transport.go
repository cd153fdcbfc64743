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
func (c *compatClient) newTransport(o *Options, long bool) transport {
	p, dial := &o.Pool, c.dialer(o, long)
	t := &http.Transport{
		DialContext:            c.dialForCalls(dial),
		TLSHandshakeTimeout:    c.connect,
		DisableCompression:     true, // bytes pass as they are: net/http must not ask for gzip and unpack it
		MaxIdleConnsPerHost:    p.MaxIdle,
		MaxConnsPerHost:        p.MaxConnections + warmStreams,
		IdleConnTimeout:        p.IdleTimeout,
		MaxResponseHeaderBytes: maxHead,
		ReadBufferSize:         callBuffer,
		WriteBufferSize:        callBuffer,
		Protocols:              new(http.Protocols),
		TLSClientConfig:        o.tls,
	}
	t.Protocols.SetHTTP1(true)
	if proxy := proxyFor(o.URL); proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
		t.DialContext = dial // one address for all the hosts that redirects lead to: their idle connections would keep others out
	}
	if long {
		t.DialContext, t.MaxConnsPerHost = dial, 0
		t.ReadBufferSize, t.WriteBufferSize = streamBuffer, streamBuffer
	}
	if o.changed != nil {
		return o.changed(t, long)
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
func (c *compatClient) dialForCalls(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		// The transport goes on when its caller has left; this ends it.
		wait, cancel := context.WithTimeout(ctx, c.connect)
		defer cancel()
		if err := c.room.take(wait, addr); err != nil {
			return nil, err
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			c.room.put(addr)
			return nil, err
		}
		conn.(*counted).closed = func() { c.room.put(addr) }
		return conn, nil
	}
}

// dialer opens a connection and counts it as open until it is closed.
func (c *compatClient) dialer(o *Options, long bool) dialFunc {
	d := net.Dialer{
		Timeout:         c.connect, // the transport goes on dialing when its caller has left
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3},
	}
	dial := d.DialContext
	if o.dials != nil {
		dial = o.dials(dial, long)
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return c.opened(conn), nil
	}
}
