package http1

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"fluentd-perf/internal/http1/header"
)

// Options says where the requests of a Client go, and how many connections it may have. URL is required.
type Options struct {
	URL   *url.URL    // the endpoint: http or https, and its host; nothing else of it counts
	Proxy *url.URL    // http or https, with user and password if it wants them; nil: none
	TLS   *tls.Config // of https; nil: the defaults of crypto/tls

	MaxConnections int // open at once, those that are being opened included; 0: no bound
	MaxIdle        int // kept while nobody uses them; 0: none

	ConnectTimeout time.Duration // bounds a dial with TLS and all, and the wait for a connection; 0: no bound
	IdleTimeout    time.Duration // how long an unused connection is kept; 0: until the server closes it
	MaxAge         time.Duration // from which on a connection is not used again; 0: no bound

	// Dial opens a connection; nil: over TCP, to whichever address of the name answers first. Only one that is a *net.TCPConn
	// or another syscall.Conn is looked at before it is used again.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client sends requests to one endpoint. It is safe for concurrent use.
type Client struct {
	o           Options
	address     string         // to dial: the endpoint's, or the proxy's
	absolute    string         // before targets: scheme and host, where a proxy reads the requests
	proxyFields []header.Field // in each request: for a proxy that reads it
	pool        *pool
}

// New returns a Client, which connects to nothing yet. It fails where URL or Proxy has a scheme that it does not know.
func New(o Options) (*Client, error) {
	c := &Client{o: o}
	if o.URL.Scheme != "http" && o.URL.Scheme != "https" {
		return nil, fmt.Errorf("http1: the scheme %q is not http or https", o.URL.Scheme)
	}
	c.address = address(o.URL)
	if proxy := o.Proxy; proxy != nil {
		if proxy.Scheme != "http" && proxy.Scheme != "https" {
			return nil, fmt.Errorf("http1: a proxy of the scheme %q is not supported", proxy.Scheme)
		}
		c.address = address(proxy)
		if o.URL.Scheme == "http" {
			c.absolute = "http://" + o.URL.Host
			if auth := c.proxyAuthorization(); auth.Name != "" {
				c.proxyFields = []header.Field{auth}
			}
		}
	}
	if o.Dial == nil {
		c.o.Dial = dialer.DialContext
	}
	c.pool = newPool(&c.o)
	c.pool.dial = c.dial
	return c, nil
}

// address returns host:port of a URL.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// proxyAuthorization is the field by which the proxy knows us, empty where it need not (RFC 7617).
func (c *Client) proxyAuthorization() header.Field {
	user := c.o.Proxy.User
	if user == nil {
		return header.Field{}
	}
	password, _ := user.Password()
	basic := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
	return header.Field{Name: "Proxy-Authorization", Value: "Basic " + basic}
}

// Do sends a request and returns its answer when the head has come, or an *Error and no other. The answer has to be read to
// io.EOF or closed; until then the request must not be changed, and ctx ends it.
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	buf := getBuffer()
	head, err := c.appendHead(buf[:0], r)
	if err != nil {
		putBuffer(buf)
		return nil, &Error{SentNo, err}
	}
	a := &Answer{ctx: ctx, trace: r.Trace, head: r.Method == "HEAD", send: newSending(buf, head, r.Body)}
	for {
		var now time.Time
		err := context.Cause(ctx) // looked at first: what watches over it may come later than the first write
		if err == nil {
			now, err = a.connect(c.pool)
		}
		if err != nil {
			a.send.drop()
			return nil, &Error{a.sent, err}
		}
		switch err := a.attempt(now, r.HeadTimeout); {
		case err == nil:
			return a, nil
		case errors.Is(err, errStale) && ctx.Err() == nil:
			a.send.broken = nil
			a.letGo()
		default:
			return nil, a.fail(err)
		}
	}
}

// connect gets a connection and begins to use it, and returns when that was. The clock is read once where one is idle.
func (a *Answer) connect(p *pool) (now time.Time, err error) {
	now = time.Now()
	if a.conn = p.take(a.ctx, now); a.conn == nil {
		if a.trace != nil {
			a.trace.Connecting()
		}
		if a.conn, err = p.get(a.ctx, now); err != nil {
			return now, err
		}
		now = time.Now()
	}
	a.use = a.conn.begin()
	if a.trace != nil {
		a.trace.Connected(a.conn.used, now)
	}
	return now, nil
}

// attempt sends the request on the connection, which it has since now, and reads the head of the answer.
func (a *Answer) attempt(now time.Time, timeout time.Duration) error {
	var deadline time.Time
	if timeout > 0 {
		deadline = now.Add(timeout)
	}
	a.conn.bound(deadline)
	if err := a.conn.exchange(a); err != nil {
		return err
	}
	if err := a.readHead(); err != nil {
		return err
	}
	a.conn.bound(time.Time{})
	return nil
}

// Close closes the connections that nobody uses, now and as calls let them go, and waits for dials under way. It ends no
// call, and one after it still gets a connection, which is not kept.
func (c *Client) Close() { c.pool.close() }

// Grow changes MaxConnections by n, where that is a bound. Connections that are there already stay.
func (c *Client) Grow(n int) { c.pool.grow(n) }

// Connections returns how many connections are open, and how many of them nobody uses, and how many are being opened.
func (c *Client) Connections() (open, idle, opening int) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.pool.open - c.pool.dialing, len(c.pool.idle), c.pool.dialing
}
