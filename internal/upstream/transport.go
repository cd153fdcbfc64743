package upstream

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

// TransportOptions is what the two RoundTrippers of an Upstream are made from.
//
// A RoundTripper that takes http.Transport's place has to call the httptrace hooks GetConn and GotConn on RoundTrip's own
// goroutine, and WroteRequest and GotFirstResponseByte at any; to end with context.Cause of the request's context when
// that ends, and then close the connection; to read a body to its framed end or else fail with
// io.ErrUnexpectedEOF; never to send a request a second time of which a byte was written, unless its verb is GET; and not
// to change the request. It may have CloseIdleConnections.
type TransportOptions struct {
	Long             bool                                                              // for streams without end
	Dial             func(ctx context.Context, network, addr string) (net.Conn, error) // counts what it opens
	Proxy            *url.URL                                                          // nil: connect directly
	MaxConnections   int                                                               // 0: no bound; those for calls, and GET streams beside them
	MaxIdle          int                                                               // connections kept unused
	IdleTimeout      time.Duration                                                     // how long they are kept
	HandshakeTimeout time.Duration                                                     // for TLS
	Buffer           int                                                               // bytes per connection and direction
}

// transportOptions returns the options for calls, or for streams without end.
func (u *Upstream) transportOptions(long bool) TransportOptions {
	o := &u.opts
	t := TransportOptions{
		Long:             long,
		Dial:             u.dialForCalls,
		Proxy:            proxyFor(o.URL),
		MaxConnections:   o.Pool.MaxConnections + warmStreams,
		MaxIdle:          o.Pool.MaxIdle,
		IdleTimeout:      o.Pool.IdleTimeout,
		HandshakeTimeout: o.Timeouts.Connect,
		Buffer:           callBuffer,
	}
	if long {
		t.Dial, t.MaxConnections = u.dial, 0
		t.Buffer = streamBuffer
	}
	if t.Proxy != nil { // one address for all the hosts that redirects lead to: their idle connections would keep others out
		t.Dial = u.dial
	}
	return t
}

// NewTransport returns the tuned http.Transport. It speaks HTTP/1.1 only: net/http's HTTP/2 client sends a request again
// after a RST_STREAM or GOAWAY, written or not and as often as it takes, and nothing can tell it not to.
func NewTransport(o TransportOptions) *http.Transport {
	t := &http.Transport{
		DialContext:            o.Dial,
		TLSHandshakeTimeout:    o.HandshakeTimeout,
		DisableCompression:     true, // bytes pass as they are: net/http must not ask for gzip and unpack it
		MaxIdleConnsPerHost:    o.MaxIdle,
		MaxConnsPerHost:        o.MaxConnections,
		IdleConnTimeout:        o.IdleTimeout,
		MaxResponseHeaderBytes: maxHead,
		ReadBufferSize:         o.Buffer,
		WriteBufferSize:        o.Buffer,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if o.Proxy != nil {
		t.Proxy = http.ProxyURL(o.Proxy)
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
	// The transport goes on when its caller has left; this ends it.
	wait, cancel := context.WithTimeout(ctx, u.opts.Timeouts.Connect)
	defer cancel()
	room := &u.pool.room
	if err := room.take(wait, addr); err != nil {
		return nil, err
	}
	put := func() { room.put(addr) }
	c, err := u.open(ctx, network, addr, put)
	if err != nil {
		put()
	}
	return c, err
}

func (u *Upstream) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return u.open(ctx, network, addr, nil)
}

// open opens a connection and counts it as open until it is closed.
func (u *Upstream) open(ctx context.Context, network, addr string, closed func()) (net.Conn, error) {
	d := net.Dialer{
		// The transport goes on dialing when its caller has left; this ends it.
		Timeout:         u.opts.Timeouts.Connect,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3},
	}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return u.pool.opened(c, closed), nil
}
