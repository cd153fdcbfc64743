package http

import (
	"crypto/tls"
	"net/http"
)

// Transport carries requests.
type Transport = transport

// SetTransport has f called with each of the two transports before it is used; what f returns is used. It is for Compat.
func (o *Options) SetTransport(f func(t *http.Transport, long bool) Transport) { o.changed = f }

// SetDial has f make what opens connections, for calls and for what lasts, of what opens them else, or of what an f before
// has made.
func (o *Options) SetDial(f func(dial dialFunc, long bool) dialFunc) {
	before := o.dials
	o.dials = func(dial dialFunc, long bool) dialFunc {
		if before != nil {
			dial = before(dial, long)
		}
		return f(dial, long)
	}
}

// Direct reports whether requests go over internal/http1.
func (u *Upstream) Direct() bool {
	_, direct := u.pool.client.(*directClient)
	return direct
}

// SetTLS has connections to https servers made with this.
func (o *Options) SetTLS(c *tls.Config) { o.tls = c }
