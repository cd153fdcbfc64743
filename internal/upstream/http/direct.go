package http

import (
	"errors"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcp"
)

// newClient returns the client over internal/http1, or that over http.Transport: where it is asked for, on systems on which
// the other is not tried, and for servers and proxies that internal/http1 does not know how to address.
func newClient(o *Options) client {
	if !o.Compat && runtime.GOOS == "linux" && isPlainHost(o.URL.Host) {
		if c, err := newDirectClient(o); err == nil {
			return c
		}
	}
	return newCompatClient(o)
}

// isPlainHost reports whether a host may stand in a request as it does in its URL. Of others net/http knows what to make: of
// names that are not ASCII, of zones, of a colon without a port.
func isPlainHost(host string) bool {
	odd := func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._:[]", c))
	}
	return host != "" && !strings.HasSuffix(host, ":") && !strings.ContainsFunc(host, odd)
}

// directClient is the client over internal/http1: a call runs on its caller's goroutine, on its caller's context, and waits by
// the deadlines of its connection.
type directClient struct{ calls, long *http1.Client }

func newDirectClient(o *Options) (*directClient, error) {
	dial := func(long bool) dialFunc {
		if o.dials == nil {
			return nil // internal/http1's own
		}
		return o.dials(new(net.Dialer).DialContext, long)
	}
	own := http1.Options{
		URL: o.URL, Proxy: proxyFor(o.URL), TLS: o.tls,
		MaxConnections: o.Pool.MaxConnections, MaxIdle: o.Pool.MaxIdle,
		ConnectTimeout: o.Timeouts.Connect, IdleTimeout: o.Pool.IdleTimeout, MaxAge: o.Pool.MaxAge, Dial: dial(false),
	}
	calls, err := http1.New(own)
	if err != nil {
		return nil, err
	}
	own.MaxConnections, own.Dial = 0, dial(true)
	long, err := http1.New(own)
	return &directClient{calls, long}, err
}

// directCall is what an exchange has more over internal/http1.
type directCall struct {
	request http1.Request
	answer  *http1.Answer
	reused  bool          // the connection
	held    time.Duration // until when the body is held, by the exchange's clock; 0: it is not, or without a bound
	waited  time.Duration // for bytes that had not come when the holding ended, and are waited for still
}

// prepare implements client.
func (c *directClient) prepare(x *exchange) {
	d := &x.direct
	d.request = http1.Request{
		Method: x.call.Lane.Verb(), Body: x.call.Body, Header: asks(x.call.Header),
		HeadTimeout: x.watch.limits.head.after, Trace: (*trace)(x),
	}
}

// send implements client.
func (c *directClient) send(x *exchange, target *url.URL) (head, error) {
	d := &x.direct
	d.request.Target, d.request.Host = target.RequestURI(), target.Host
	over := c.calls
	if x.long {
		over = c.long
	}
	a, err := over.Do(x, &d.request)
	if err != nil {
		x.facts.conn = err.(*http1.Error).Sent != http1.SentNo
		return head{}, d.failed(x, err)
	}
	d.answer = a
	mcp.DropHopByHop(&a.Header)
	return head{status: a.Status, header: a.Header, length: a.Length, body: a}, nil
}

// bound gives the next read its deadline.
func (d *directCall) bound(x *exchange) {
	at := x.watch.deadline
	if d.held != 0 && d.held < at {
		at = d.held
	}
	d.answer.SetReadDeadline(x.watch.start.Add(at))
}

// failed returns why a request or a read has failed. A deadline that has passed is the end of the holding, or a timeout.
func (d *directCall) failed(x *exchange, err error) error {
	if e, ok := err.(*http1.Error); ok {
		err = e.Err
	}
	if !timedOut(err) || x.Err() != nil {
		return err
	}
	if e := x.watch.expired(); e != nil {
		return e
	}
	if d.held != 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		d.waited = x.watch.now() - x.watch.from
		return errMore
	}
	return err
}

// connections implements client.
func (c *directClient) connections(int) (open, idle int) {
	open, idle, _ = c.calls.Connections()
	o, i, _ := c.long.Connections()
	return open + o, idle + i
}

// widen implements client.
func (c *directClient) widen(by int) { c.calls.Grow(by) }

// close implements client.
func (c *directClient) close() {
	c.calls.Close()
	c.long.Close()
}

// trace tells an exchange how far its request is.
type trace exchange

// Connecting implements http1.Trace.
func (t *trace) Connecting() { (*exchange)(t).connecting(true) }

// Connected implements http1.Trace.
func (t *trace) Connected(reused bool, at time.Time) {
	x := (*exchange)(t)
	x.direct.reused = reused
	x.connected(at.Sub(x.watch.start), !reused)
}

// Written implements http1.Trace.
func (t *trace) Written() {
	x := (*exchange)(t)
	if x.u.meters.given(x.direct.reused); len(x.call.Body) > longWrite {
		x.facts.wrote.Store(int64(x.watch.now()))
	}
	x.reportWritten()
}

// Answering implements http1.Trace.
func (t *trace) Answering() { (*exchange)(t).answering() }
