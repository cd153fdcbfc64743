package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// keepAlive is the time between TCP's keep-alive probes on a quiet connection.
const keepAlive = 30 * time.Second

// dialer opens a socket by net.Dialer, which tries both families of addresses (RFC 8305).
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3}}

// dial opens a connection to the endpoint, through the proxy where there is one, within ConnectTimeout.
func (c *Client) dial(ctx context.Context) (*conn, error) {
	if c.o.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.ConnectTimeout)
		defer cancel()
	}
	tcp, err := c.o.Dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() }) // who reads or writes gets the error
	rw, secure, err := c.prepare(ctx, tcp)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = tcp.Close() // err says why
		return nil, err
	}
	conn := newConn(c.pool, tcp, rw)
	conn.secure = secure
	return conn, nil
}

// prepare makes of a connection one over which requests go: TLS to a proxy, the tunnel through it, TLS to the server.
func (c *Client) prepare(ctx context.Context, tcp net.Conn) (rw net.Conn, secure *wire, err error) {
	rw = tcp
	if c.o.Proxy != nil && c.o.Proxy.Scheme == "https" {
		if secure, err = handshake(ctx, rw, nil, c.o.TLS, c.o.Proxy.Hostname()); err != nil {
			return nil, nil, err
		}
		rw = secure.tls
	}
	if c.o.URL.Scheme != "https" {
		return rw, secure, nil
	}
	if c.o.Proxy != nil {
		if err := c.tunnel(rw); err != nil {
			return nil, nil, err
		}
	}
	if secure, err = handshake(ctx, rw, secure, c.o.TLS, c.o.URL.Hostname()); err != nil {
		return nil, nil, err
	}
	return secure.tls, secure, nil
}

// tunnel has a proxy connect to the server (RFC 9110, section 9.3.6).
func (c *Client) tunnel(rw net.Conn) error {
	target := address(c.o.URL)
	head := append(append([]byte("CONNECT "), target...), " HTTP/1.1\r\nHost: "...)
	head = append(append(head, target...), "\r\n"...)
	if auth := c.proxyAuthorization(); auth.Name != "" {
		head = appendField(head, auth)
	}
	if _, err := rw.Write(append(head, "\r\n"...)); err != nil {
		return err
	}
	a := Answer{conn: &conn{tcp: rw, rw: rw}}
	err := a.readHead()
	early := len(a.data) > 0
	a.free()
	switch {
	case err != nil:
		return err
	case a.Status/100 != 2:
		return fmt.Errorf("the proxy refused to connect: status %d", a.Status)
	case early: // the server would have spoken before TLS does
		return malformed("bytes behind the proxy's answer to CONNECT")
	}
	return nil
}

// handshake begins TLS over a connection, which is outer's where there is TLS below already.
func handshake(ctx context.Context, over net.Conn, outer *wire, config *tls.Config, name string) (*wire, error) {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"} // so that a server without it says so
	if config.ServerName == "" {
		config.ServerName = name
	}
	w := newWire(over, outer)
	w.tls = tls.Client(w, config)
	err := w.tls.HandshakeContext(ctx)
	if err == nil {
		return w, nil
	}
	if re, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(re.RecordHeader[:]) == "HTTP/" {
		return nil, http.ErrSchemeMismatch
	}
	if remote, ok := errors.AsType[*net.OpError](err); ok && strings.Contains(remote.Error(), "no application protocol") {
		return nil, fmt.Errorf("%w (%w)", ErrHTTP2, err)
	}
	return nil, err
}
